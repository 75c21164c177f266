"""Making guests ready for their hold: everything that can be done ahead, while none is touched."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import HoldOrder
from freezeframe.contract.result import HeldGuestFault, PreparedGuest
from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest
from workers.bounded import GuestHangsError
from workers.host import Host
from workers.hypervisor import backup, checkpoint
from workers.journal import BackupChange, CaptureJournal, HoldChange, LetGoChange
from workers.pace import TOO_SLOW_SHARE, delay_s
from workers.scratch.files import renew_files
from workers.steps import refusal
from workers.steps.drift import left_out_now
from workers.steps.guest_in_hold import HeldGuest
from workers.steps.prepared import Prepared, read_prepared
from workers.steps.rehearsal import rehearse
from workers.steps.still_fit import check_still_fit

#: QEMU's monitor, in the directory that libvirt keeps for the guest. [libvirt src/qemu: qemuProcessPrepareMonitorChr]
MONITOR = "monitor.sock"
#: Seconds for libvirt's answers about one guest; each takes a millisecond.
READY_S = 10.0
#: Seconds more for a guest with encrypted scratch files, which may have to be made anew: qemu-img measures for seconds.
RENEW_S = 30.0


class NotPreparedError(refusal.RefusedError):
    """The hold was ordered for a guest that this host has not prepared."""

    code = "not-prepared"
    advice = "This is a defect, or an order from the past; nothing was done."


def ready(host: Host, order: HoldOrder, journal: CaptureJournal, unfit: list[HeldGuestFault]) -> list[HeldGuest]:
    """Build the XML, ask libvirt for each guest twice, and put the changes into the journal: all that can be done ahead.

    A guest that cannot be held ends the hold under policy `all`; else it is added to `unfit`, and the others go on. Raises
    FreezeframeError, also if no guest is left; then no guest has a HoldChange without a LetGoChange.
    """
    prepared = read_prepared(journal)
    started: list[tuple[PreparedGuest, Future[_Ready]]] = []
    for to_hold in order.guests:
        uuid = to_hold.guest_uuid
        guest = prepared.guests.get(uuid)
        if guest is None or host.claims.holder(uuid) != order.capture_id:
            _leave_out(host, order, unfit, uuid, uuid, _not_prepared(order, uuid, prepared))
            continue
        host.claims.fence(uuid, order.epoch)
        started.append((guest, _start(host, order, journal, guest, to_hold.hold)))
    made = [made for guest, future in started if (made := _made(host, order, guest, future, unfit)) is not None]
    _record(journal, made)
    return [guest for guest, _ in made]


_Ready = tuple[HeldGuest, BackupChange]


def _start(
    host: Host, order: HoldOrder, journal: CaptureJournal, guest: PreparedGuest, hold: GuestHold
) -> Future[_Ready]:
    """Ask libvirt in a thread: a guest whose QEMU hangs must not keep the others waiting."""
    try:
        return host.calls.start(f"{guest.guest_uuid} ready", lambda: _ready_guest(host, order, journal, guest, hold))
    except GuestHangsError as error:
        failed: Future[_Ready] = Future()
        failed.set_exception(error)
        return failed


def _made(
    host: Host, order: HoldOrder, guest: PreparedGuest, future: Future[_Ready], unfit: list[HeldGuestFault]
) -> _Ready | None:
    patience_s = READY_S + RENEW_S * any(disk.scratch_secret for disk in guest.disks)
    try:
        return future.result(patience_s)
    except NoAnswer:
        host.calls.give_up(f"{guest.guest_uuid} ready", future)
        error: FreezeframeError = GuestHangsError(
            f"libvirt has not answered for guest {guest.name} within {patience_s:g} s."
        )
    except FreezeframeError as refused:
        error = refused
    _leave_out(host, order, unfit, guest.guest_uuid, guest.name, error)
    return None


def _not_prepared(order: HoldOrder, guest_uuid: str, prepared: Prepared) -> NotPreparedError:
    message = f"Guest {guest_uuid} is not prepared for capture {order.capture_id} on this host."
    if guest_uuid in prepared.guests or not prepared.unread:
        return NotPreparedError(message)
    return NotPreparedError(
        " ".join([message, *prepared.unread]), advice="Nothing was done with this guest; capture it again."
    )


def _leave_out(
    host: Host, order: HoldOrder, unfit: list[HeldGuestFault], guest_uuid: str, name: str, error: FreezeframeError
) -> None:
    """Go on without a guest. Raises `error` where the hold cannot: under policy `all`, and with no guest left."""
    if order.all_or_nothing or len(unfit) + 1 == len(order.guests):
        error.message = " ".join([*(one.fault.message for one in unfit), error.message])
        error.guest = None if unfit else name
        raise error
    unfit.append(HeldGuestFault(guest_uuid=guest_uuid, fault=Fault.of(error, guest=name, host=host.host_id)))


def _record(journal: CaptureJournal, made: Sequence[_Ready]) -> None:
    """Have the changes on disk before they are made; none of a hold that does not come about."""
    recorded: list[HeldGuest] = []
    try:
        for guest, change in made:
            journal.record(change)
            recorded.append(guest)
            journal.record(HoldChange(guest_uuid=guest.uuid, hold=guest.hold.kind))
    except BaseException:
        record_let_go(journal, recorded)
        raise


def record_let_go(journal: CaptureJournal, guests: Sequence[HeldGuest]) -> None:
    """Write down that these guests are not held: the hold before this line needs no undoing."""
    for guest in guests:
        journal.record(LetGoChange(guest_uuid=guest.uuid))


def _check_pace(host: Host, order: HoldOrder, guest: PreparedGuest, hold: GuestHold) -> None:
    """Raise SlowGuestError for a guest whose last freeze took longer than this hold lasts: others would wait for it, held."""
    slow = host.paces.too_slow(guest.guest_uuid) if hold.kind.freezes else None
    if slow is not None and slow.ms >= TOO_SLOW_SHARE * order.hold_timeout_s * 1000:
        raise refusal.SlowGuestError(NamedGuest(guest.name, guest.guest_uuid), slow)


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
        delay_s=delay_s(guest.expected_hold_ms, order.slowest_hold_ms, order.hold_timeout_s),
    )
    return held, BackupChange(
        guest_uuid=guest.guest_uuid, socket=socket, checkpoint=name, repository_id=order.repository_id
    )
