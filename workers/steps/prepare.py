"""Prepare: everything slow or doubtful, before any guest is touched.

For the host: the repository can be written and is the right one, the thaw guard answers. For each guest, side by side:
it is claimed for this capture alone, runs, has no job and is not frozen, its agent answers, every disk of it can be captured
or is left out with a reason, and each disk's kind is decided: incremental only where the chain is proven (invariant 7),
else full with the reason. Then scratch files are made, so that the hold need not.

A guest that is refused is undone at once and named in the result; the orchestrator decides what becomes of the rest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.plan import GuestPlan, ParentDisk
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult, SkippedDisk
from freezeframe.contract.words import CaptureKind, HoldKind, Step
from freezeframe.errors import FreezeframeError
from workers import durable
from workers.bounded import answered
from workers.guard.client import GuardLine
from workers.host import Host
from workers.hypervisor import agent, backup, checkpoint, lost
from workers.hypervisor.disk import DomainDisk, obstacle
from workers.hypervisor.domain import MIGRATIONS, Domain
from workers.hypervisor.errors import AgentError
from workers.journal import CaptureJournal, ClaimChange, ScratchChange
from workers.steps import refusal
from workers.steps.mountpoints import moving_disks
from workers.steps.undo import undo_guest

#: Guests of a host that are prepared side by side; most of it is waiting for libvirt and agents.
SIDE_BY_SIDE = 16
#: The least room in the repository to begin with. How much a capture will need nobody knows before it is deduplicated; a
#: repository that is as good as full should be told of before guests are held.
REPOSITORY_LEAST_BYTES = 64 << 20
#: Seconds for the repository to answer. More than object storage may take to fail (`s3_patience_s` and `s3_timeout_s`, 90 s),
#: which knows better why; less than `prepare_timeout_s`, so that a directory that hangs is told and not only a silent host.
REPOSITORY_PATIENCE_S = 100.0
#: The least room for scratch files, however small the disks.
SCRATCH_LEAST_BYTES = 64 << 20


def prepare(host: Host, order: PrepareOrder) -> PrepareResult:
    """Prepare all guests of an order on this host. Raises FreezeframeError if the host itself cannot take part."""
    answered(f"The repository at {host.repository}", REPOSITORY_PATIENCE_S, lambda: _check_repository(host, order))
    with GuardLine(host.settings.guard_socket) as line:
        line.ping()
    host.hypervisor.set_up_types()
    journal = host.journal.of(order.capture_id)
    with ThreadPoolExecutor(SIDE_BY_SIDE, "prepare") as pool:
        guests = list(pool.map(lambda plan: _prepare_guest(host, order, journal, plan), order.guests))
    return PrepareResult(capture_id=order.capture_id, host_id=host.host_id, guests=tuple(guests), round=order.round)


def failed(order: PrepareOrder, fault: Fault) -> PrepareResult:
    return PrepareResult(capture_id=order.capture_id, host_id=order.host_id, fault=fault, round=order.round)


def prepared_guests(journal: CaptureJournal) -> dict[str, PreparedGuest]:
    """All guests that this host has prepared for a capture, by whichever order: one that came later has one of its own."""
    results = [PrepareResult.model_validate_json(text) for step, _, text in journal.results() if step is Step.PREPARE]
    return {guest.guest_uuid: guest for result in results for guest in result.guests if not guest.fault}


def _check_repository(host: Host, order: PrepareOrder) -> None:
    repository = host.open_repository()
    if str(repository.config.id) != order.repository_id:
        raise refusal.RepositoryMismatchError(
            f"Host {host.host_id} has another repository at {host.repository} than the orchestrator."
        )
    repository.check_writable()
    repository.check_space(REPOSITORY_LEAST_BYTES)


def _prepare_guest(host: Host, order: PrepareOrder, journal: CaptureJournal, plan: GuestPlan) -> PreparedGuest:
    try:
        return _attempt(host, order, journal, plan)
    except FreezeframeError as error:
        undo_guest(host, journal, plan.guest_uuid, sealed=False)
        fault = Fault.of(error, guest=plan.name, host=host.host_id)
        return PreparedGuest(guest_uuid=plan.guest_uuid, name=plan.name, fault=fault)


def _attempt(host: Host, order: PrepareOrder, journal: CaptureJournal, plan: GuestPlan) -> PreparedGuest:
    host.claims.take(plan.guest_uuid, order.capture_id)
    host.claims.fence(plan.guest_uuid, order.epoch)
    journal.record(ClaimChange(guest_uuid=plan.guest_uuid))
    domain = host.hypervisor.domain(plan.guest_uuid)
    _check_state(domain, plan.hold.kind)
    taken, skipped = choose_disks(domain.name, domain.disks(), plan.skip)
    _check_block_jobs(domain, taken)
    moving: tuple[str, ...] = ()
    if plan.hold.kind.freezes:
        _check_agent(domain, host.settings.agent_timeout_s)
        moving = _moving_disks(domain, plan.hold, taken, host.settings.agent_timeout_s)
    prepared = tuple(_prepare_disk(domain, order, plan, disk) for disk in taken)
    _check_socket(host, domain)
    _make_scratch_files(host, order, journal, domain, prepared)
    return PreparedGuest(
        guest_uuid=domain.uuid,
        name=domain.name,
        expected_hold_ms=host.paces.expected_ms(domain.uuid),
        domain_xml=domain.stored_xml(),
        disks=prepared,
        skipped=tuple(skipped),
        moving_disks=moving,
    )


def _check_state(domain: Domain, hold: HoldKind) -> None:
    if not domain.active():
        raise refusal.GuestNotRunningError(f"Guest {domain.name} is not running.")
    if lost.is_lost(domain):
        raise refusal.LostBackupError(f"libvirt has a backup job on guest {domain.name} of which it has lost all data.")
    job = domain.job()
    if job in MIGRATIONS:
        raise refusal.GuestMigratingError(f"Guest {domain.name} is migrating ({job}).")
    if domain.state() == "paused" and hold is not HoldKind.NONE:
        raise refusal.GuestPausedError(f"Guest {domain.name} is paused already, and not by this capture.")
    if job is not None:
        raise refusal.GuestBusyError(f"Guest {domain.name} is busy with another job: {job}.")


def _check_block_jobs(domain: Domain, disks: Sequence[DomainDisk]) -> None:
    for disk in disks:
        if domain.block_job(disk.target):
            raise refusal.GuestBusyError(f"Disk {disk.target} of guest {domain.name} has a block job.")


def _check_agent(domain: Domain, timeout_s: int) -> None:
    try:
        status = agent.freeze_status(domain, timeout_s)
    except AgentError as error:
        raise refusal.NoAgentError(
            f"The agent of guest {domain.name} does not answer: {error.message}",
            advice=f"Start qemu-guest-agent in the guest, or capture it with --guest-hold {domain.name}:pause. If it runs, "
            "restart it: libvirt loses sight of an agent that was restarted while a backup ran.",
        ) from error
    if status == "frozen":
        raise refusal.GuestFrozenError(f"Guest {domain.name} is frozen already, and not by this capture.")


def _moving_disks(domain: Domain, hold: GuestHold, taken: Sequence[DomainDisk], timeout_s: int) -> tuple[str, ...]:
    """What its mount points leave out. A pause as well keeps all of the guest still."""
    if not hold.mountpoints:
        return ()
    targets = [disk.target for disk in taken]
    moving = moving_disks(domain.name, agent.filesystems(domain, timeout_s), hold.mountpoints, targets)
    return () if hold.kind.pauses else moving


def choose_disks(
    guest: str, disks: Sequence[DomainDisk], skip: Sequence[str]
) -> tuple[list[DomainDisk], list[SkippedDisk]]:
    """Which disks are captured and which are left out, with the reason. Pure.

    Raises DiskNotCapturableError for a disk with data of the guest's own that cannot be captured and that the caller has not
    agreed to leave out.
    """
    unknown = set(skip) - {disk.target for disk in disks}
    if unknown:
        raise refusal.DiskNotCapturableError(
            f"Guest {guest} has no disk {', '.join(sorted(unknown))} to leave out.",
            advice=f"Its disks are {', '.join(disk.target for disk in disks) or 'none'}.",
        )
    taken, skipped = [], []
    for disk in disks:
        found = obstacle(disk)
        if disk.target in skip:
            skipped.append(SkippedDisk(target=disk.target, reason="the caller left it out"))
        elif found is None:
            taken.append(disk)
        elif found.harmless:
            skipped.append(SkippedDisk(target=disk.target, reason=found.reason))
        else:
            raise refusal.DiskNotCapturableError(
                f"Disk {disk.target} of guest {guest} cannot be captured: {found.reason}.",
                advice=f"Leave it out with --skip-disk {guest}:{disk.target} if you can do without it.",
            )
    if not taken:
        raise refusal.NoDiskError(f"Guest {guest} has no disk that can be captured.")
    return taken, skipped


def _prepare_disk(domain: Domain, order: PrepareOrder, plan: GuestPlan, disk: DomainDisk) -> PreparedDisk:
    size_bytes = domain.disk_bytes(disk.target)
    parent = plan.parent_of(disk.target)
    reason = full_reason(domain, disk, size_bytes, parent, order.chunk_bytes)
    proven = parent if reason is None else None
    name = checkpoint.checkpoint_name(order.repository_id, order.capture_id)
    return PreparedDisk(
        target=disk.target,
        source=disk.source,
        source_format=disk.source_format,
        size_bytes=size_bytes,
        kind=CaptureKind.INCREMENTAL if proven else CaptureKind.FULL,
        full_reason=reason,
        parent_capture_id=proven.capture_id if proven else None,
        parent_index=proven.index if proven else None,
        parent_checkpoint=proven.checkpoint if proven else None,
        checkpoint=name if disk.carries_bitmaps else None,
    )


def full_reason(
    domain: Domain, disk: DomainDisk, size_bytes: int, parent: ParentDisk | None, chunk_bytes: int
) -> str | None:
    """Why a disk must be read in full; None if its changes since the parent are proven."""
    if not disk.carries_bitmaps:
        return f"a {disk.source_format} disk keeps no record of its changes"
    if parent is None:
        return "there is no earlier capture of it to build upon, or a full one was asked for"
    if parent.size_bytes != size_bytes:
        return f"its size has changed from {parent.size_bytes} to {size_bytes} bytes"
    if parent.chunk_bytes != chunk_bytes:
        return "the repository's chunk size has changed"
    return checkpoint.chain_fault(domain, parent.checkpoint, disk.target)


def _check_socket(host: Host, domain: Domain) -> None:
    """A second backup is refused by libvirt only when it begins, inside the hold; find it out now."""
    if (socket := backup.current_socket(domain)) is not None:
        raise refusal.GuestBusyError(f"Guest {domain.name} has a backup running on host {host.host_id}, at {socket}.")


def _make_scratch_files(
    host: Host, order: PrepareOrder, journal: CaptureJournal, domain: Domain, disks: Sequence[PreparedDisk]
) -> None:
    total = sum(disk.size_bytes for disk in disks)
    needed = max(int(total * host.settings.scratch_share), SCRATCH_LEAST_BYTES)
    free = shutil.disk_usage(host.settings.scratch_dir).free
    if free < needed:
        raise refusal.ScratchSpaceError(
            f"The scratch files of guest {domain.name} need {needed >> 20} MiB on host {host.host_id}, "
            f"and {host.settings.scratch_dir} has {free >> 20} MiB free.",
            advice="Make room there, or set FREEZEFRAME_SCRATCH_DIR to a larger file system.",
        )
    for disk in disks:
        path = host.scratch_file(order.capture_id, domain.uuid, disk.target)
        durable.make_directory(path.parent)
        journal.record(ScratchChange(guest_uuid=domain.uuid, path=path))
        command = ["qemu-img", "create", "-q", "-f", "qcow2", os.fspath(path), str(disk.size_bytes)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise refusal.ScratchSpaceError(
                f"The scratch file for disk {disk.target} of guest {domain.name} cannot be made: {done.stderr.strip()}",
                advice="Look at the file system of FREEZEFRAME_SCRATCH_DIR.",
            )
