"""Look again at the premises of the proof when the guests of a hold run, before anything of them is read (invariant 2).

    prepare ─▶ look ─▶ muster, up to muster_timeout_s ─▶ hold ─ begin ─ let go ─▶ this look ─▶ the hold's result
               drift.py                                                           drift.py again, filesystems

The look is not in the window, so it finds what changed until its own moment, which is some milliseconds after the instant: it
may blame a change that came just too late, and misses none that stayed.

| since prepare                                              | then                                                      |
|------------------------------------------------------------|-----------------------------------------------------------|
| a disk was attached, detached, replaced or resized         | the guest is dropped: the fault names the disk, its       |
| the guest was started anew                                 | backup counts as not begun, and ends                      |
| libvirt or the storage does not tell                       | the same: unknown is never unchanged                      |
| another guest has begun to write to one of its disks       | the same, as in prepare                                   |
| a filesystem lies on a disk that the freeze did not reach  | the disk counts as moving, and a warning names it         |
| its agent, or other guests' storage, does not tell         | all its disks count as moving (`identity/uses.py`)        |
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass
from typing import Any, Final

from freezeframe.contract.result import HeldGuestWarning
from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest
from workers import fitness
from workers.bounded import NO_THREAD, GuestHangsError
from workers.host import Host
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.identity.uses import disk_uses
from workers.refusal import DisksChangedError, GuestRestartedError, GuestTroubleError, MountpointError
from workers.scratch.errors import PassphraseLostError
from workers.scratch.files import check_passphrases
from workers.steps.drift import left_out_now
from workers.steps.guest_in_hold import HeldGuest, Phase
from workers.steps.host_failure import foreseen
from workers.steps.stillness import stillness_of
from workers.steps.window import LONGEST_GIVE_UP_S

#: Seconds for the look at all guests of a host, side by side. One takes some ten milliseconds.
LOOK_S: Final = 10.0
#: Seconds after a hold's time-out at which the look has ended, also if letting go took its longest. Less than the
#: orchestrator's patience with a host (`orchestrator.decision.HOLD_SLACK_S`).
LATEST_S: Final = LONGEST_GIVE_UP_S + 4.0

_USES: Final = "libvirt, what all guests write to"
_DROPPED: Final = "The guest was let go, and nothing of it was kept."


@dataclass
class _Seen:
    """The findings on one guest, filled in by its thread."""

    same_disks: bool = False
    still: fitness.Stillness | None = None


@dataclass(frozen=True)
class Writers:
    """The storage that all running guests of the host use, and the reason why not all of it could be seen."""

    uses: tuple[fitness.DiskUse, ...] = ()
    unseen: str = ""


def look_again(
    host: Host, guests: Sequence[HeldGuest], hold_began_s: float, hold_timeout_s: float, *, released: bool
) -> tuple[tuple[HeldGuestWarning, ...], Writers]:
    """Drop the guests that are not as they were prepared, and let no label claim more than is so now; return warnings.

    `hold_began_s` is of `time.monotonic()`. Guests that were never touched are not looked at. If the barrier was `released`,
    the capture goes on with guests of other hosts, to whose disks guests of this one may write.
    """
    until = min(time.monotonic() + LOOK_S, hold_began_s + hold_timeout_s + LATEST_S)
    touched = [guest for guest in guests if guest.hold_start_ns is not None and guest.phase is not Phase.LEFT_ALONE]
    uses = _start_uses(host, wanted=released or any(guest.begun_ns is not None for guest in touched))
    looks = [(guest, seen, _start(host, guest, seen)) for guest in touched for seen in (_Seen(),)]
    found = [(guest, text) for guest, seen, future in looks for text in _judge(host, guest, seen, future, until)]
    writers = _answer(host, uses, until)
    found += _judge_writers([guest for guest in touched if guest.begun_ns is not None], writers)
    warnings = (
        HeldGuestWarning(guest_uuid=guest.uuid, text=text) for guest, text in found if guest.begun_ns is not None
    )
    return tuple(warnings), writers


def _start_uses(host: Host, *, wanted: bool) -> Future[list[fitness.DiskUse]]:
    """Ask for the storage of all running guests of the host, if any guest of the capture has a backup."""
    try:
        return host.calls.start(_USES, lambda: disk_uses(host.hypervisor) if wanted else [])
    except (GuestHangsError, *NO_THREAD) as error:  # an earlier call hangs, or no thread can be started
        return _failed(error)


def _answer(host: Host, uses: Future[list[fitness.DiskUse]], until: float) -> Writers:
    try:
        found = tuple(uses.result(max(0.0, until - time.monotonic())))
        return Writers(found, next((use.writes_unseen for use in found if use.writes_unseen), ""))
    except NoAnswer:
        host.calls.give_up(_USES, uses)
        return Writers(unseen="libvirt or a storage does not answer")
    except Exception as error:  # noqa: BLE001  whatever it is, the writers are unknown, and the guests were held
        known = foreseen(host, error) or error
        return Writers(unseen=str(known).rstrip(".") or type(error).__name__)


def _judge_writers(guests: Sequence[HeldGuest], writers: Writers) -> list[tuple[HeldGuest, str]]:
    """Drop each guest with a disk to which another guest writes now; return warnings of those of which that is not known."""
    warnings = []
    for guest in guests:
        reasons = (
            (disk, fitness.shared_reason(guest.uuid, disk.target, writers.uses)) for disk in guest.prepared.disks
        )
        shared = next(((disk, reason) for disk, reason in reasons if reason is not None), None)
        if shared is not None:
            who = NamedGuest(guest.domain.name, guest.uuid)
            _drop(guest, fitness.not_capturable(who, shared[0].target, shared[1]), is_cause=True)
        elif unseen := writers.unseen or _own_unseen(guest, writers):
            warnings.append((guest, _unshared_unproven(guest, unseen)))
    return warnings


def _own_unseen(guest: HeldGuest, writers: Writers) -> str | None:
    reasons = (fitness.unseen_reason(guest.uuid, disk.target, writers.uses) for disk in guest.prepared.disks)
    return next(filter(None, reasons), None)


def _unshared_unproven(guest: HeldGuest, why: str) -> str:
    """Let no label rest on what could not be seen; return the warning. Another guest may write where this one cannot."""
    unproven = (disk.target for disk in guest.prepared.disks if disk.target not in guest.moving_disks)
    guest.moving_disks = (*guest.moving_disks, *unproven)
    return (
        f"After the hold it could not be seen whether another guest writes to the disks of guest {guest.domain.name}: {why}. "
        "The guest's label is crash."
    )


def _start(host: Host, guest: HeldGuest, seen: _Seen) -> Future[None]:
    settled = guest.is_settled()  # else a call may stand on its connection

    def look() -> None:
        domain = guest.domain if settled else host.hypervisor.domain(guest.uuid)
        left_out_now(domain, guest.prepared)
        seen.same_disks = True
        if guest.begun_ns is None:
            check_passphrases(host, domain, guest.prepared.disks)
        seen.still = _stillness(domain, guest, host.settings.agent_timeout_s)

    try:
        return host.calls.start(_key(guest), look)
    except (GuestHangsError, *NO_THREAD) as error:
        return _failed(error)


def _failed(error: Exception) -> Future[Any]:
    failed: Future[Any] = Future()
    failed.set_exception(error)
    return failed


def _key(guest: HeldGuest) -> str:
    return f"{guest.uuid} look"


def _stillness(domain: Domain, guest: HeldGuest, timeout_s: int) -> fitness.Stillness:
    """Return what the freeze has kept still, by what the guest has mounted now. Raises HypervisorError."""
    if not guest.hold.kind.freezes or guest.hold.kind.pauses:
        return fitness.Stillness()
    captured = {disk.target for disk in guest.prepared.disks}
    taken = [disk for disk in domain.disks() if disk.target in captured]
    if all(disk.readonly or disk.target in guest.moving_disks for disk in taken):
        return fitness.Stillness()  # nothing more can be claimed of them
    try:
        return stillness_of(domain, guest.hold, taken, None, timeout_s)
    except AgentError:
        return fitness.all_moving(taken, "after the hold the guest's agent did not say which filesystems are on it")
    except MountpointError as error:
        return fitness.all_moving(taken, f"since it was prepared, {error.message[0].lower()}{error.message[1:-1]}")


def _judge(host: Host, guest: HeldGuest, seen: _Seen, future: Future[None], until: float) -> tuple[str, ...]:
    try:
        future.result(max(0.0, until - time.monotonic()))
    except NoAnswer:
        host.calls.give_up(_key(guest), future)
        if seen.same_disks:
            return _claim_less(guest, _silent(guest))
        _drop(
            guest, GuestHangsError(f"Nobody knows whether guest {guest.domain.name} has the disks that were prepared.")
        )
    except (DisksChangedError, GuestRestartedError) as error:
        error.hint = f"{_DROPPED} Capture again, when nobody starts the guest or changes its disks meanwhile."
        _drop(guest, error, is_cause=True)
    except PassphraseLostError as error:
        _drop(guest, error, is_cause=True)
    except FreezeframeError as error:
        _drop(guest, error)
    except Exception as error:  # noqa: BLE001  storage that fails, XML that is none, no thread: unknown is never unchanged
        trouble = GuestTroubleError(f"Guest {guest.domain.name} could not be looked at after its hold: {error}.")
        if (known := foreseen(host, error)) is not None:
            trouble.hint = known.hint
        _drop(guest, trouble)
    else:
        return _claim_less(guest, seen.still or fitness.Stillness())
    return ()


def _silent(guest: HeldGuest) -> fitness.Stillness:
    return fitness.Stillness(
        tuple(
            fitness.MovingDisk(disk.target, "after the hold the guest's agent did not say which filesystems are on it")
            for disk in guest.prepared.disks
            if not disk.readonly
        )
    )


def _drop(guest: HeldGuest, error: FreezeframeError, *, is_cause: bool = False) -> None:
    """Take the guest out of the capture. A change that is the cause of a hold that failed is told first.

    Of a guest that has left as it was held, and so is off here or runs in another QEMU, that it left is told first.
    """
    if is_cause:
        guest.faults.insert(int(guest.has_left), error)
    elif guest.begun_ns is not None:
        guest.faults.append(error)
    guest.begun_ns = None  # no backup of the disks that were prepared has begun; `scratch.open_backups` ends it


def _claim_less(guest: HeldGuest, still: fitness.Stillness) -> tuple[str, ...]:
    """Take back what the guest's filesystems do not bear out; return a warning for each disk that is not still after all."""
    found = tuple(disk for disk in still.moving if disk.target not in guest.moving_disks)
    guest.moving_disks = (*guest.moving_disks, *(disk.target for disk in found))
    guest.filesystems = max(guest.filesystems or 0, still.filesystems)
    return (
        fitness.Stillness(found).warnings(NamedGuest(guest.domain.name, guest.uuid))
        if guest.begun_ns is not None
        else ()
    )
