"""The inventory: every few seconds this host publishes itself and its guests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import redis
import structlog

from freezeframe import __version__, presence
from freezeframe.contract import names
from freezeframe.contract.inventory import CONTRACT, GuestEntry, HostEntry, StuckCapture
from freezeframe.errors import FreezeframeError
from workers import instance, own_redis
from workers.binding import Binding, HostIdTakenError, end_this_worker, this_machine
from workers.claims import ClaimUnreadableError
from workers.host import Host
from workers.host_calls import answered
from workers.hypervisor.listing import GuestState, guest_states
from workers.recovery import Looks
from workers.unmanaged import UNMANAGED, running_qemus, trouble_of
from workers.versions import Versions

#: Seconds for libvirt to list its guests, which it does from memory.
LISTING_S = 10.0
#: virsh's word for a guest that does not run, as libvirt says.
_OFF = "shut off"

log = structlog.get_logger("inventory")


def entry_of(host: Host, looks: Looks | None = None, versions: Versions | None = None) -> HostEntry:
    """Return this host as it is now. Raises HypervisorError, also if libvirt does not list its guests in time."""
    libvirt_version, qemu_version = (versions or Versions()).of(host)
    states = answered(host, "listing the guests", LISTING_S, lambda: guest_states(host.hypervisor))
    lost = running_qemus() if any(guest.state == _OFF for guest in states) else {}
    guests = [_guest_entry(host, guest, lost.get(guest.uuid)) for guest in states]
    return HostEntry(
        contract=CONTRACT,
        host_id=host.host_id,
        at=datetime.now(UTC),
        freezeframe_version=__version__,
        libvirt_version=libvirt_version,
        qemu_version=qemu_version,
        guests=tuple(sorted(guests, key=lambda guest: guest.name)),
        open_captures=_open_captures(host),
        control_instance=instance.current(host.settings.state_dir, instance.CONTROL),
        data_instance=instance.current(host.settings.state_dir, instance.DATA),
        highest_epoch=_highest_epoch(host),
        stuck=tuple(StuckCapture(capture_id=one.capture_id, problems=one.problems) for one in looks.stuck)
        if looks
        else (),
    )


def _guest_entry(host: Host, guest: GuestState, qemu_pid: int | None) -> GuestEntry:
    """One guest in trouble shows as such, and silences neither the others nor the host."""
    holder = trouble = None
    state = guest.state
    if state == _OFF and qemu_pid is not None:
        state, trouble = UNMANAGED, trouble_of(qemu_pid)
    try:
        holder = host.claims.holder(guest.uuid)
    except ClaimUnreadableError as error:
        trouble = error.message
    return GuestEntry(guest_uuid=guest.uuid, name=guest.name, state=state, captured_by=holder, trouble=trouble)


def _open_captures(host: Host) -> tuple[str, ...]:
    try:
        return tuple(journal.capture_id for journal in host.journal.unended())
    except OSError as error:
        log.warning("the journals cannot be listed", why=str(error))
        return ()


def _highest_epoch(host: Host) -> int:
    try:
        return host.claims.highest_epoch()
    except OSError as error:
        log.warning("the epochs cannot be listed", why=str(error))
        return 0


def publish(host: Host, bound: Binding, entry: Callable[[], HostEntry]) -> None:
    """Publish what `entry` makes, if this host's id is its own.

    Raises HostIdTakenError, redis errors, and what `entry` raises.
    """
    asked = presence.ask(host.redis, bound.key, names.REDIS_ID_KEY)
    machine, redis_id = asked.values
    bound.check_found(machine)
    presence.publish(host.redis, entry().model_copy(update={"clock_ahead_s": asked.clock_ahead_s}))
    own_redis.note(host, redis_id)


def publish_forever(host: Host, stop: threading.Event, looks: Looks | None = None) -> None:
    """Publish until told to stop. Trouble is logged and silences the host: it then counts as down, which it is."""
    versions = Versions()
    bound = Binding(host.settings, host.redis, this_machine(host.settings))
    while not stop.is_set():
        try:
            publish(host, bound, lambda: entry_of(host, looks, versions))
        except HostIdTakenError as error:
            end_this_worker(error)
            return
        except (FreezeframeError, redis.RedisError) as error:
            log.warning("not published", why=str(error))
        except Exception:  # a defect; the next try may do better
            log.exception("not published")
        stop.wait(host.settings.inventory_interval_s)
