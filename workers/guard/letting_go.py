"""Letting one guest go, whatever has become of libvirt, and asking whether it runs.

    libvirt answers                       resume and thaw through it, then ask the guest
    libvirt is dead, or silent for        QEMU's own sockets, of its monitor and of the agent: each serves one client at a time,
    LIBVIRT_S, or has lost the guest      and a libvirtd that died has left them free. One that hangs keeps them: nobody
                                          calls there until it goes on
    libvirt answers that it does not      the agent's socket, after libvirt: it has let go of that, as a libvirtd does that was
    reach the agent                       started again while its guests were frozen

A guest that says that it is not frozen is not thawed: each thaw calls the guest's freeze hooks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from freezeframe.contract.words import HoldKind
from freezeframe.errors import FreezeframeError
from workers import hold
from workers.bounded import GuestCalls, GuestHangsError
from workers.guard import agent_line, monitor_line
from workers.guard.reading import FoundGuest
from workers.guard.table import AGENT_S, Look
from workers.hypervisor import agent
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError, GuestGoneError, HypervisorUnreachableError
from workers.unmanaged import running_qemus

log = structlog.get_logger("guard")

#: Seconds that libvirt has for one attempt before the agent's socket is tried beside it. A thaw takes 10 ms; one that a busy
#: guest answers later than this is not lost, the next look finds it.
LIBVIRT_S = 3.0


def look(hypervisor: Hypervisor, calls: GuestCalls, guest: FoundGuest) -> Look:
    """Let a guest go if it is held, and return what it says then. Never raises, and takes LIBVIRT_S + 2 * AGENT_S at most."""
    if guest.hold is HoldKind.NONE:
        return Look.RUNS
    try:
        return calls.answered(
            f"{guest.guest_uuid} libvirt", "Letting go", LIBVIRT_S, lambda: _through_libvirt(hypervisor, guest)
        )
    except (GuestHangsError, HypervisorUnreachableError) as error:
        log.warning("libvirt does not answer", guest=guest.guest_uuid, why=str(error))
        return _past_libvirt(guest)
    except Exception as error:  # noqa: BLE001  whatever it is, the guest must still be let go
        log.warning("not let go yet", guest=guest.guest_uuid, why=str(error))
        if isinstance(error, AgentError) and _told(guest, guest.agent_socket, agent_line.thaw):
            log.warning("thawed past libvirt, which does not reach the agent", guest=guest.guest_uuid)
            return Look.RUNS  # no pause is left: libvirt was asked about that before it was asked about the freeze
        return Look.HELD if isinstance(error, hold.StillHeldError) else Look.NO_ANSWER


def _through_libvirt(hypervisor: Hypervisor, guest: FoundGuest) -> Look:
    try:
        domain = hypervisor.domain(guest.guest_uuid)
        if not domain.active():
            return _lost(guest)
        _let_go(domain, guest.hold)
        hold.verify_let_go(domain, guest.hold, AGENT_S)
    except GuestGoneError:
        return _lost(guest)
    return Look.RUNS


def _let_go(domain: Domain, kind: HoldKind) -> None:
    """Resume and thaw, each only where needed. Raises HypervisorError only for a resume that was not carried out."""
    if kind.pauses:
        domain.let_run()
    if kind.freezes:
        with contextlib.suppress(FreezeframeError):
            if agent.freeze_status(domain, AGENT_S) == "thawed":
                return
        with contextlib.suppress(FreezeframeError):  # a thaw may be lost and have worked; the guest is asked
            agent.thaw(domain, AGENT_S)


def _past_libvirt(guest: FoundGuest) -> Look:
    """Resume over QEMU's monitor and thaw over the agent's socket, as far as the hold had to do with them."""
    done = [not guest.hold.pauses or _told(guest, guest.monitor_socket, monitor_line.resume)]
    done += [not guest.hold.freezes or _told(guest, guest.agent_socket, agent_line.thaw)]
    if not all(done):
        return Look.NO_ANSWER
    log.warning("let go without libvirt", guest=guest.guest_uuid)
    return Look.RUNS


def _told(guest: FoundGuest, path: Path | None, tell: Callable[[Path, float], None]) -> bool:
    if path is None:
        return False
    try:
        tell(path, AGENT_S)
    except (agent_line.AgentLineError, OSError) as error:
        log.warning("not let go yet", guest=guest.guest_uuid, socket=str(path), why=str(error))
        return False
    return True


def _lost(guest: FoundGuest) -> Look:
    """Let go of a guest that does not run, as libvirt says: its QEMU may, and then it may still be held.

    It is gone if none of its sockets has a QEMU behind it; of a guest without a known socket the host's processes tell.
    """
    sockets = [path for path in (guest.agent_socket, guest.monitor_socket) if path is not None]
    if not sockets:
        return Look.NO_ANSWER if guest.guest_uuid in running_qemus() else Look.GONE
    if all(agent_line.is_gone(path) for path in sockets):
        return Look.GONE
    log.warning("libvirt has lost a guest whose QEMU runs", guest=guest.guest_uuid, sockets=list(map(str, sockets)))
    return _past_libvirt(guest)
