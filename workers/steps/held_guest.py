"""Making guests ready for their hold: everything that can be done ahead, while none is touched."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer

import structlog

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import HoldOrder
from freezeframe.contract.result import HeldGuestFault, PreparedGuest
from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest
from workers import refusal
from workers.bounded import NO_THREAD, GuestHangsError
from workers.changes import is_freed
from workers.host import Host
from workers.hypervisor import backup, checkpoint
from workers.journal import BackupChange, CaptureJournal, HoldChange, LetGoChange
from workers.pace import delay_s, is_in_vain, take_s
from workers.scratch.files import renew_files
from workers.steps.drift import left_out_now
from workers.steps.guest_in_hold import HeldGuest
from workers.steps.host_failure import foreseen
from workers.steps.prepared import Prepared, read_prepared
from workers.steps.rehearsal import rehearse
from workers.steps.still_fit import check_still_fit

log = structlog.get_logger("hold")

#: QEMU's monitor, in the directory that libvirt keeps for the guest. [libvirt src/qemu: qemuProcessPrepareMonitorChr]
MONITOR = "monitor.sock"
#: Seconds for the answers about one guest: libvirt's take milliseconds, its agent's LONGEST_AGENT_S at most.
READY_S = 10.0
#: Seconds more for a guest with encrypted scratch files, which may have to be made anew: qemu-img measures for seconds.
RENEW_S = 30.0


class NotPreparedError(refusal.RefusedError):
    """The hold was ordered for a guest that this host has not prepared."""

    code = "not-prepared"
    advice = "This is a defect, or an order from the past; nothing was done."


def ready(host: Host, order: HoldOrder, journal: CaptureJournal, unfit: list[HeldGuestFault]) -> list[HeldGuest]:
    """Build the XML, ask libvirt for each guest twice, and put the changes into the journal: all that can be done ahead.

    A guest that cannot be held ends the hold under policy `all`; else it is added to `unfit`, and the others go on, also those
    of other hosts if no guest of this one is left. Raises FreezeframeError; then no guest has a HoldChange without a
    LetGoChange.
    """
    prepared = read_prepared(journal)
    started: list[tuple[PreparedGuest, Future[_Ready]]] = []
    for to_hold in order.guests:
        uuid = to_hold.guest_uuid
        try:
            guest = _claimed(host, order, journal, prepared, uuid)
        except Exception as error:  # noqa: BLE001  whatever it is, it is this guest's trouble
            leave_out(host, order, unfit, uuid, prepared.name_of(uuid), error)
        else:
            started.append((guest, _start(host, order, journal, guest, to_hold.hold)))
    began, made = time.monotonic(), []
    for guest, future in started:
        if (one := _made(host, order, guest, future, unfit, waited_s=time.monotonic() - began)) is not None:
            made.append(one)
    return _recorded(host, order, journal, made, unfit)


_Ready = tuple[HeldGuest, BackupChange]


def _claimed(
    host: Host, order: HoldOrder, journal: CaptureJournal, prepared: Prepared, guest_uuid: str
) -> PreparedGuest:
    """Return a guest that this capture has prepared and still has in hand. Raises FreezeframeError, OSError."""
    guest = prepared.guests.get(guest_uuid)
    if guest is None or host.claims.holder(guest_uuid) != order.capture_id:
        raise _not_prepared(order, guest_uuid, prepared)
    if is_freed(journal.guest(guest_uuid).changes()):  # an undo has been here, and could not drop the claim
        raise NotPreparedError(
            f"Guest {guest.name} has been undone on this host since it was prepared.",
            advice="Nothing was done with this guest; capture it again.",
        )
    host.claims.fence(guest_uuid, order.epoch)
    return guest


def _start(
    host: Host, order: HoldOrder, journal: CaptureJournal, guest: PreparedGuest, hold: GuestHold
) -> Future[_Ready]:
    """Ask libvirt in a thread: a guest whose QEMU hangs must not keep the others waiting."""
    try:
        return host.calls.start(f"{guest.guest_uuid} ready", lambda: _ready_guest(host, order, journal, guest, hold))
    except (GuestHangsError, *NO_THREAD) as error:  # an earlier call hangs, or no thread can be started
        failed: Future[_Ready] = Future()
        failed.set_exception(error)
        return failed


def _made(
    host: Host,
    order: HoldOrder,
    guest: PreparedGuest,
    future: Future[_Ready],
    unfit: list[HeldGuestFault],
    *,
    waited_s: float = 0.0,
) -> _Ready | None:
    """Wait for a guest, `waited_s` after it was begun with: those that hang are waited for together, not one after another."""
    patience_s = READY_S + RENEW_S * any(disk.scratch_secret for disk in guest.disks)
    try:
        return future.result(max(0.0, patience_s - waited_s))
    except NoAnswer:
        host.calls.give_up(f"{guest.guest_uuid} ready", future)
        error: Exception = GuestHangsError(f"libvirt has not answered for guest {guest.name} within {patience_s:g} s.")
    except Exception as refused:  # noqa: BLE001  whatever it is, it is this guest's trouble
        error = refused
    leave_out(host, order, unfit, guest.guest_uuid, guest.name, error)
    return None


def _not_prepared(order: HoldOrder, guest_uuid: str, prepared: Prepared) -> NotPreparedError:
    message = f"Guest {guest_uuid} is not prepared for capture {order.capture_id} on this host."
    if guest_uuid in prepared.guests or not prepared.unread:
        return NotPreparedError(message)
    return NotPreparedError(
        " ".join([message, *prepared.unread]), advice="Nothing was done with this guest; capture it again."
    )


def leave_out(
    host: Host, order: HoldOrder, unfit: list[HeldGuestFault], guest_uuid: str, name: str, error: Exception
) -> None:
    """Go on without a guest. Raises FreezeframeError under policy `all`, which does not."""
    if not isinstance(error, FreezeframeError):
        log.error("a guest could not be made ready for its hold", guest=name, exc_info=error)
    if order.all_or_nothing:
        told = _told(host, name, error)
        told.guest = name
        raise told
    unfit.append(fault_without(host, guest_uuid, name, error))


def fault_without(host: Host, guest_uuid: str, name: str, error: Exception) -> HeldGuestFault:
    """Return the fault of a guest that is done without because of `error`, its own or its host's."""
    return HeldGuestFault(
        guest_uuid=guest_uuid, fault=Fault.of(_told(host, name, error), guest=name, host=host.host_id)
    )


def _told(host: Host, name: str, error: Exception) -> FreezeframeError:
    if isinstance(error, FreezeframeError):
        return error
    return foreseen(host, error) or refusal.GuestTroubleError(
        f"Guest {name} was not made ready for its hold on host {host.host_id}: {type(error).__name__}: {error}.",
        advice="Look at this host's worker log and at the file systems of FREEZEFRAME_STATE_DIR and FREEZEFRAME_SCRATCH_DIR, "
        "then capture again.",
    )


def _recorded(
    host: Host, order: HoldOrder, journal: CaptureJournal, made: Sequence[_Ready], unfit: list[HeldGuestFault]
) -> list[HeldGuest]:
    """Have the changes on disk before they are made, and none of a hold that does not come about; return the guests to hold."""
    recorded: list[HeldGuest] = []
    try:
        for guest, change in made:
            try:
                journal.record(change)
                journal.record(HoldChange(guest_uuid=guest.uuid, hold=guest.hold.kind))
            except OSError as error:
                try_to_record_let_go(journal, [guest])
                leave_out(host, order, unfit, guest.uuid, guest.domain.name, error)
            else:
                recorded.append(guest)
    except BaseException:
        try_to_record_let_go(journal, recorded)
        raise
    return recorded


def try_to_record_let_go(journal: CaptureJournal, guests: Sequence[HeldGuest]) -> None:
    """Write down that these guests are not held, nor will be: the hold before this line needs no undoing.

    On a disk that is full or fails the line is missing. Then the guard's leases tell that the guest is not held, or it is let
    go a second time, no more: neither a proof nor another host's part may be lost for it.
    """
    for guest in guests:
        try:
            journal.record(LetGoChange(guest_uuid=guest.uuid, settled=True))
        except OSError as error:
            log.warning("it is not written down that a guest is let go", guest=guest.uuid, why=str(error))


def _check_pace(host: Host, order: HoldOrder, guest: PreparedGuest, hold: GuestHold) -> None:
    """Raise SlowGuestError for a guest whose last freeze took longer than this hold lasts: others would wait for it, held."""
    slow = host.paces.too_slow(guest.guest_uuid) if hold.kind.freezes else None
    everyone = order.all_or_nothing
    if slow is not None and is_in_vain(slow, order.hold_timeout_s, all_or_nothing=everyone):
        raise refusal.SlowGuestError(NamedGuest(guest.name, guest.guest_uuid), slow, all_or_nothing=everyone)


def _ready_guest(
    host: Host, order: HoldOrder, journal: CaptureJournal, guest: PreparedGuest, hold: GuestHold
) -> _Ready:
    _check_pace(host, order, guest, hold)
    domain = host.hypervisor.domain(guest.guest_uuid)
    left_out = left_out_now(domain, guest)
    check_still_fit(domain, hold, [disk.target for disk in guest.disks], host.settings.agent_timeout_s)
    qemu = host.qemu(domain.name, guest.guest_uuid)
    if renewed := renew_files(host, journal, domain, guest.disks):
        rehearse(host, order.capture_id, qemu, renewed)
    socket = qemu.export_socket(order.capture_id)
    socket.unlink(missing_ok=True)
    disks = [
        backup.BackupDisk(
            disk.target,
            host.scratch_file(order.capture_id, guest.guest_uuid, disk.target),
            disk.parent_checkpoint,
            disk.scratch_secret,
        )
        for disk in guest.disks
    ]
    tracked = [disk.target for disk in guest.disks if disk.checkpoint]
    untracked = [disk.target for disk in guest.disks if not disk.checkpoint]
    name = checkpoint.checkpoint_name(order.repository_id, order.capture_id) if tracked else None
    held = HeldGuest(
        domain=domain,
        apart=host.hypervisor.domain(guest.guest_uuid),
        prepared=guest,
        hold=hold,
        moving_disks=guest.moving_disks,
        filesystems=guest.filesystems,
        backup_xml=backup.backup_xml(socket, disks, left_out),
        checkpoint_xml=checkpoint.checkpoint_xml(name, tracked, [*untracked, *left_out]) if name else None,
        agent_timeout_s=host.settings.agent_timeout_s,
        agent_socket=domain.agent_socket(),
        monitor_socket=qemu.directory / MONITOR,
        delay_s=delay_s(
            guest.expected_hold_ms,
            order.slowest_hold_ms,
            take_s(order.hold_timeout_s, all_or_nothing=order.all_or_nothing),
        ),
    )
    return held, BackupChange(
        guest_uuid=guest.guest_uuid, socket=socket, checkpoint=name, repository_id=order.repository_id
    )
