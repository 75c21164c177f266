"""One guest through its hold: what to do, made ready ahead; and what was seen, for the proof."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import HoldOrder
from freezeframe.contract.proof import GuestProof
from freezeframe.contract.result import HeldGuestFault, PreparedGuest
from freezeframe.errors import FreezeframeError
from workers import hold as holding
from workers.host import Host
from workers.hypervisor import backup, checkpoint
from workers.hypervisor.domain import Domain
from workers.journal import BackupChange, CaptureJournal, HoldChange
from workers.pace import delay_s
from workers.steps import refusal
from workers.steps.drift import left_out_now
from workers.steps.prepare import prepared_guests


class NotPreparedError(refusal.RefusedError):
    """The hold was ordered for a guest that this host has not prepared."""

    code = "not-prepared"
    advice = "This is a defect, or an order from the past; nothing was done."


@dataclass
class HeldGuest:
    """One guest through its hold: what to do, and what was seen."""

    domain: Domain
    apart: Domain  # the same guest over another connection: letting go waits for no call that holds it still
    hold: GuestHold
    hold_timeout_s: float
    moving_disks: tuple[str, ...]
    backup_xml: str
    checkpoint_xml: str | None
    agent_timeout_s: int
    agent_socket: Path | None = None
    delay_s: float = 0.0
    filesystems: int | None = None  # how many there are to freeze
    over: threading.Event = field(default_factory=threading.Event)  # nobody is held any more, or shall be
    hold_start_ns: int = 0
    held_ns: int | None = None
    begun_ns: int | None = None
    thaw_start_ns: int | None = None
    thawed_ns: int | None = None
    frozen: int | None = None
    found: holding.LetGo | None = None
    faults: list[FreezeframeError] = field(default_factory=list)

    def take(self) -> None:
        """Hold the guest and begin its backup. A guest that fails is let go at once: it must not wait for the others."""
        if self.over.wait(self.delay_s):
            return
        self.hold_start_ns = time.monotonic_ns()
        try:
            timeout_s = max(1, int(self.hold_timeout_s))
            self.frozen = holding.take(self.domain, self.hold, timeout_s)
            self.held_ns = time.monotonic_ns()
            if not self.over.is_set():
                backup.begin(self.domain, self.backup_xml, self.checkpoint_xml)
                self.begun_ns = time.monotonic_ns()
        except FreezeframeError as error:
            self.faults.append(error)
        if self.begun_ns is None or self.over.is_set():
            self._let_go(self.domain)  # failed; or told to let go while the hold was on its way, so a second time

    def let_go(self) -> None:
        """Let the guest go; the verification follows."""
        self._let_go(self.apart)

    def _let_go(self, domain: Domain) -> None:
        self.over.set()
        if self.thaw_start_ns is None:
            self.thaw_start_ns = time.monotonic_ns()
        try:
            self.found = holding.let_go(domain, self.hold.kind, self.agent_timeout_s)
        except FreezeframeError as error:
            self.faults.append(error)

    def verify(self) -> None:
        try:
            holding.verify_let_go(self.apart, self.hold.kind, self.agent_timeout_s)
            self.thawed_ns = time.monotonic_ns()
        except FreezeframeError as error:
            self.faults.append(error)

    def proof(self, *, lease_stood: bool) -> GuestProof:
        return GuestProof(
            guest_uuid=self.domain.uuid,
            hold=self.hold,
            moving_disks=self.moving_disks,
            hold_start_ns=self.hold_start_ns,
            held_ns=self.held_ns,
            begun_ns=self.begun_ns,
            thaw_start_ns=self.thaw_start_ns,
            thawed_ns=self.thawed_ns,
            frozen_filesystems=self.frozen,
            expected_filesystems=self.filesystems,
            cut_short=self._cut_short(lease_stood=lease_stood),
        )

    def _cut_short(self, *, lease_stood: bool) -> str | None:
        if not lease_stood:
            return "the thaw guard let it go"
        if self.found is None:
            return "letting it go failed, so nobody knows when it was let go"
        if self.found.was_paused is False:
            return "it was paused, and ran before it was resumed"
        if self.frozen is not None and self.found.thawed != self.frozen:
            return f"{self.frozen} filesystems were frozen and {self.found.thawed} thawed"
        return None


def ready(host: Host, order: HoldOrder, journal: CaptureJournal, unfit: list[HeldGuestFault]) -> list[HeldGuest]:
    """Everything that can be done ahead: XML built, changes in the journal, libvirt asked for each guest, twice.

    A guest whose disks have changed since prepare ends the hold with policy `all`; else it is added to `unfit`, and the
    others go on. Raises DisksChangedError, and if no guest is left.
    """
    prepared = prepared_guests(journal)
    guests = []
    for to_hold in order.guests:
        uuid = to_hold.guest_uuid
        guest = prepared.get(uuid)
        if guest is None or host.claims.holder(uuid) != order.capture_id:
            raise NotPreparedError(f"Guest {uuid} is not prepared for capture {order.capture_id} on this host.")
        host.claims.fence(uuid, order.epoch)
        try:
            guests.append(_ready_guest(host, order, journal, guest, to_hold.hold))
        except refusal.DisksChangedError as error:
            if order.all_or_nothing or len(order.guests) == 1:
                raise
            unfit.append(HeldGuestFault(guest_uuid=uuid, fault=Fault.of(error, guest=guest.name, host=host.host_id)))
    if not guests:
        raise refusal.DisksChangedError(" ".join(one.fault.message for one in unfit))
    return guests


def _ready_guest(
    host: Host, order: HoldOrder, journal: CaptureJournal, guest: PreparedGuest, hold: GuestHold
) -> HeldGuest:
    domain = host.hypervisor.domain(guest.guest_uuid)
    left_out = left_out_now(domain, guest)
    socket = host.qemu(domain.name, guest.guest_uuid).export_socket(order.capture_id)
    socket.unlink(missing_ok=True)
    disks = [
        backup.BackupDisk(
            disk.target, host.scratch_file(order.capture_id, guest.guest_uuid, disk.target), disk.parent_checkpoint
        )
        for disk in guest.disks
    ]
    tracked = [disk.target for disk in guest.disks if disk.checkpoint]
    untracked = [disk.target for disk in guest.disks if not disk.checkpoint]
    name = checkpoint.checkpoint_name(order.repository_id, order.capture_id) if tracked else None
    journal.record(
        BackupChange(guest_uuid=guest.guest_uuid, socket=socket, checkpoint=name, repository_id=order.repository_id)
    )
    journal.record(HoldChange(guest_uuid=guest.guest_uuid, hold=hold.kind))
    return HeldGuest(
        domain=domain,
        apart=host.hypervisor.domain(guest.guest_uuid),
        hold=hold,
        hold_timeout_s=order.hold_timeout_s,
        moving_disks=guest.moving_disks,
        filesystems=guest.filesystems,
        backup_xml=backup.backup_xml(socket, disks, left_out),
        checkpoint_xml=checkpoint.checkpoint_xml(name, tracked, [*untracked, *left_out]) if name else None,
        agent_timeout_s=host.settings.agent_timeout_s,
        agent_socket=domain.agent_socket(),
        delay_s=delay_s(guest.expected_hold_ms, order.slowest_hold_ms, order.hold_timeout_s),
    )
