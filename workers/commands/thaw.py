"""`freezeframe thaw`: the red button. Lets guests of this host go, by libvirt alone: no Redis, no orchestrator, no workers.

A capture that holds one of the guests at this moment claims no instant for it: its worker finds that the guest ran, or had
fewer filesystems frozen, before it was let go. The lease stays with the guard, the guest's protection if this fails.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from freezeframe.cli.output import AsJson, out, print_json, table
from freezeframe.contract.words import HoldKind
from freezeframe.errors import EXIT_PARTIAL, FreezeframeError
from freezeframe.settings import HostSettings, load
from workers import hold
from workers.bounded import GuestCalls, GuestHangsError, NotStartedError
from workers.commands.named import named
from workers.host_calls import LibvirtHangsError
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError, GuestGoneError

#: Seconds for libvirt, on top of an agent's answers: one to the thaw, one to the question.
PATIENCE_S = 5.0
#: libvirt's VIR_ERR_ARGUMENT_UNSUPPORTED, its answer for a guest that has no agent channel: nobody can have frozen it.
NO_AGENT_CHANNEL = 74


@dataclass(frozen=True)
class LetGo:
    """What became of one guest."""

    guest: str
    guest_uuid: str
    was: str  # its state before, in virsh's words
    thawed: int | None  # filesystems that were frozen and are not any more; None if the agent did not say
    problem: str | None = None


def thaw(
    guests: Annotated[
        list[str] | None,
        typer.Argument(metavar="GUEST", help="Names or UUIDs of guests on this host.", show_default=False),
    ] = None,
    *,
    every_guest: Annotated[bool, typer.Option("--all", help="Every guest of this host that is not shut off.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let guests go at once: resume their CPUs, thaw their filesystems, and ask them whether they run.

    The red button: it needs nothing but libvirt, and may be pressed again. A guest that was paused by hand is resumed too. A
    capture that holds a guest at this moment will not claim one instant for it.

    Exit code: 0 all run; 10 for some that is not certain.
    """
    if every_guest == bool(guests):
        raise typer.BadParameter("name the guests to thaw, or say --all, and not both")
    settings = load(HostSettings)
    hypervisor = Hypervisor(settings.libvirt_uri)
    chosen = _listed(hypervisor, guests)
    found = _let_go_all(hypervisor, chosen, settings.agent_timeout_s)
    _show(found, as_json=as_json)
    if any(one.problem for one in found):
        raise typer.Exit(EXIT_PARTIAL)


def _listed(hypervisor: Hypervisor, wanted: Sequence[str] | None) -> list[Domain]:
    """Choose the guests. Raises GuestGoneError for the first that is not here, LibvirtHangsError."""
    try:
        return GuestCalls().answered("guests", "Listing guests", PATIENCE_S, lambda: _chosen(hypervisor, wanted))
    except NotStartedError:
        raise
    except GuestHangsError as error:
        raise LibvirtHangsError(f"libvirt has not listed the guests of this host within {PATIENCE_S:g} s.") from error


def _chosen(hypervisor: Hypervisor, wanted: Sequence[str] | None) -> list[Domain]:
    """Raises GuestGoneError for the first that is not here."""
    domains = hypervisor.domains()
    return named(domains, wanted) if wanted is not None else [domain for domain in domains if _may_be_held(domain)]


def _may_be_held(guest: Domain) -> bool:
    """Return False for a guest that is shut off, or gone since it was listed. One that is not known to be is thawed."""
    try:
        return guest.active()
    except GuestGoneError:
        return False
    except FreezeframeError:
        return True  # what is wrong with it is told with its answer; the others do not wait for it


def _let_go_all(hypervisor: Hypervisor, chosen: Sequence[Domain], agent_timeout_s: int) -> list[LetGo]:
    """Let all go side by side: each may wait for an agent that does not answer, and one whose QEMU hangs for ever."""
    calls = GuestCalls()
    until = time.monotonic() + 2 * agent_timeout_s + PATIENCE_S
    started = [(guest, _start(calls, hypervisor, guest, agent_timeout_s)) for guest in chosen]
    return [_answer(guest, future, until) for guest, future in started]


def _start(calls: GuestCalls, hypervisor: Hypervisor, guest: Domain, agent_timeout_s: int) -> Future[LetGo]:
    """Let a guest go in a thread; without one for it, the others are let go all the same."""
    try:
        return calls.start(guest.uuid, functools.partial(_let_go, hypervisor, guest, agent_timeout_s))
    except GuestHangsError as error:
        failed: Future[LetGo] = Future()
        failed.set_result(LetGo(guest.name, guest.uuid, "unknown", None, f"Nothing was asked of it. {error}"))
        return failed


def _answer(guest: Domain, future: Future[LetGo], until: float) -> LetGo:
    try:
        return future.result(max(0.0, until - time.monotonic()))
    except NoAnswer:
        problem = (
            "libvirt or its QEMU does not answer, so whether it runs is not known. What was asked may still be done."
        )
        return LetGo(guest.name, guest.uuid, "unknown", None, problem)
    except Exception as error:  # noqa: BLE001  a defect: the others are let go all the same, while this process lives
        return LetGo(guest.name, guest.uuid, "unknown", None, f"{type(error).__name__}: {error}")


def _let_go(hypervisor: Hypervisor, guest: Domain, agent_timeout_s: int) -> LetGo:
    was, thawed, problem = "unknown", None, None
    try:
        domain = hypervisor.domain(guest.uuid)
        was = domain.state()
        thawed = hold.let_go(domain, HoldKind.FREEZE_PAUSE, agent_timeout_s).thawed
        hold.verify_let_go(domain, HoldKind.FREEZE_PAUSE, agent_timeout_s)
    except AgentError as error:
        if error.libvirt_code != NO_AGENT_CHANNEL:
            problem = f"{error} It runs, but whether it is thawed is not known."
    except FreezeframeError as error:
        problem = str(error)
    return LetGo(guest.name, guest.uuid, was, thawed, problem)


def _show(found: Sequence[LetGo], *, as_json: bool) -> None:
    if as_json:
        print_json({"guests": [asdict(one) for one in found]})
    elif not found:
        out().print("No guest of this host is running.")
    else:
        rows = [(one.guest, one.was, _thawed_text(one), one.problem or "runs") for one in found]
        out().print(table(["guest", "was", "filesystems thawed", "now"], rows))


def _thawed_text(one: LetGo) -> str:
    if one.thawed is None:
        return "no agent" if one.problem is None else "–"
    return str(one.thawed)
