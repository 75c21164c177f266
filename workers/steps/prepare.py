"""Prepare: everything slow or doubtful, before any guest is touched.

For the host: the repository and the directory for temporary files can be written, the repository is the right one, the thaw
guard answers. For each guest, side by side:
it is claimed for this capture alone, runs, has no job and is not frozen, its agent answers, every disk of it can be captured
or is left out with a reason, and each disk's kind is decided: incremental only where the chain is proven (invariant 7),
else full with the reason. Then room for scratch files is reserved, beside all other guests and captures (`workers/scratch`),
and the files are made, so that the hold need not.

A guest that is refused is undone at once and named in the result; the orchestrator decides what becomes of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from subprocess import SubprocessError

from freezeframe.bounded import answered
from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.identity import DiskIdentity
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult
from freezeframe.contract.words import CaptureKind, HoldKind
from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest
from freezeframe.repository.temporary import check_temporary
from workers import fitness, host_calls, refusal
from workers.guard.client import GuardLine
from workers.host import Host
from workers.hypervisor import agent, agent_info, backup, checkpoint, lost
from workers.hypervisor.disk import DomainDisk, disks_of
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError, HypervisorError
from workers.hypervisor.image import header_of
from workers.hypervisor.volumes import located
from workers.identity.device_class import passed_of
from workers.identity.read import Unknown, read_identities
from workers.journal import CaptureJournal, ClaimChange
from workers.scratch.files import make_files, scratch_secret
from workers.steps.claimed import claim
from workers.steps.leasing import check_let_go
from workers.steps.parents import choose_parent, full_reason
from workers.steps.prepare_guests import prepare_each
from workers.steps.refusing import patience_for_uses_s, refuse, refuse_shared, uses_here
from workers.steps.rehearsal import rehearse
from workers.steps.settling import remove_orphans
from workers.steps.still_fit import check_block_jobs, job_refusal
from workers.steps.stillness import stillness_of

#: The least room in the repository to begin with. How much a capture will need nobody knows before it is deduplicated; a
#: repository that is as good as full should be told of before guests are held.
REPOSITORY_LEAST_BYTES = 64 << 20
#: Seconds for the repository to answer. More than object storage may take to fail (`s3_patience_s` and `s3_timeout_s`, 90 s),
#: which knows better why; less than `prepare_timeout_s`, so that a directory that hangs is told and not only a silent host.
REPOSITORY_PATIENCE_S = 100.0
#: Seconds for libvirt to validate some XML, which takes it milliseconds.
TYPES_S = 20.0


def prepare(host: Host, order: PrepareOrder) -> PrepareResult:
    """Prepare all guests of an order on this host. Raises FreezeframeError if the host itself cannot take part."""
    stored_encrypted = answered(
        f"The repository at {host.repository}", REPOSITORY_PATIENCE_S, lambda: _check_repository(host, order)
    )
    with GuardLine(host.settings.guard_socket) as line:
        line.ping()
    host_calls.answered(host, "validating XML", TYPES_S, host.hypervisor.set_up_types)
    journal = host.journal.of(order.capture_id)
    guests = prepare_each(
        host, order, journal, lambda plan: _prepare_guest(host, order, journal, plan, stored_encrypted=stored_encrypted)
    )
    uses = uses_here(host, guests, patience_for_uses_s(order.not_after))
    return PrepareResult(
        capture_id=order.capture_id,
        host_id=host.host_id,
        guests=tuple(refuse_shared(host, journal, guests, uses)),
        round=order.round,
        uses=fitness.uses_everywhere(uses),
    )


def failed(order: PrepareOrder, fault: Fault) -> PrepareResult:
    return PrepareResult(capture_id=order.capture_id, host_id=order.host_id, fault=fault, round=order.round)


def _check_repository(host: Host, order: PrepareOrder) -> bool:
    """Return True if it is encrypted. Raises FreezeframeError if this host cannot store captures in it."""
    repository = host.open_repository()
    if str(repository.config.id) != order.repository_id:
        raise refusal.RepositoryMismatchError(
            f"Host {host.host_id} has another repository at {host.repository} than the orchestrator."
        )
    repository.check_writable()
    repository.check_space(REPOSITORY_LEAST_BYTES)
    check_temporary()
    return repository.config.encrypted


def _prepare_guest(
    host: Host, order: PrepareOrder, journal: CaptureJournal, plan: GuestPlan, *, stored_encrypted: bool
) -> PreparedGuest:
    try:
        return _attempt(host, order, journal, plan, stored_encrypted=stored_encrypted)
    except FreezeframeError as error:
        return refuse(host, journal, plan.guest_uuid, plan.name, error)
    except (
        OSError,
        SubprocessError,
        ValueError,
    ) as error:  # a full file system, a tool that is missing, XML that is none
        trouble = refusal.GuestTroubleError(f"Guest {plan.name} could not be prepared on host {host.host_id}: {error}.")
        return refuse(host, journal, plan.guest_uuid, plan.name, trouble)


def _attempt(
    host: Host, order: PrepareOrder, journal: CaptureJournal, plan: GuestPlan, *, stored_encrypted: bool
) -> PreparedGuest:
    claim(host, plan, order.capture_id)
    host.claims.fence(plan.guest_uuid, order.epoch)
    journal.record(ClaimChange(guest_uuid=plan.guest_uuid))
    domain = host.hypervisor.domain(plan.guest_uuid)
    _check_state(domain, plan.hold.kind)
    live_xml = domain.live_xml()
    passed = passed_of(live_xml)
    guest = NamedGuest(domain.name, domain.uuid)
    taken, skipped = fitness.choose_disks(
        guest, disks_of(live_xml), plan.skip, plan.decrypt, repository_encrypted=stored_encrypted, passed=passed
    )
    check_block_jobs(domain, [disk.target for disk in taken])
    still = fitness.Stillness()
    if plan.hold.kind.freezes:
        commands = _check_agent(domain, plan.hold, host.settings.agent_timeout_s)
        still = stillness_of(domain, plan.hold, taken, commands, host.settings.agent_timeout_s)
    check_let_go(host, plan)
    identities = read_identities(domain, [disk.target for disk in taken])
    prepared = tuple(_prepare_disk(domain, order, plan, disk, identities) for disk in taken)
    _check_socket(host, domain)
    remove_orphans(domain, taken)
    make_files(host, journal, domain, prepared)
    scratch = [host.scratch_file(order.capture_id, domain.uuid, disk.target) for disk in prepared]
    rehearse(host, order.capture_id, host.qemu(domain.name, domain.uuid), scratch)
    return PreparedGuest(
        guest_uuid=domain.uuid,
        name=domain.name,
        expected_hold_ms=host.paces.expected_ms(domain.uuid),
        domain_xml=domain.stored_xml(),
        live_xml=live_xml,
        autostart=domain.autostart(),
        disks=prepared,
        skipped=tuple(skipped),
        moving_disks=tuple(disk.target for disk in still.moving),
        filesystems=still.filesystems,
        warnings=(
            *still.warnings(guest),
            *fitness.passed_warnings(guest, passed, plan.skip),
            *fitness.plain_text_warnings(guest, taken, repository_encrypted=stored_encrypted),
        ),
    )


def _check_state(domain: Domain, hold: HoldKind) -> None:
    if not domain.active():
        raise refusal.GuestNotRunningError(f"Guest {domain.name} is not running.")
    if lost.is_lost(domain):
        raise refusal.LostBackupError(f"libvirt has a backup job on guest {domain.name} of which it has lost all data.")
    guest = NamedGuest(domain.name, domain.uuid)
    busy = job_refusal(guest, domain.job())
    unfit = fitness.state_refusal(guest, domain.state(), hold)
    if (found := busy if isinstance(busy, refusal.GuestMigratingError) else unfit or busy) is not None:
        raise found


def _check_agent(domain: Domain, hold: GuestHold, timeout_s: int) -> Mapping[str, bool] | None:
    """Refuse a guest whose agent does not answer, has frozen it, or blocks what the hold needs; return what the agent knows.

    The status comes before the blocked commands: the agent of a frozen guest lists every command that could wait for a disk
    as disabled, freeze among them. [qemu qga/main.c, ga_disable_not_allowed]
    """
    guest = NamedGuest(domain.name, domain.uuid)
    try:
        commands = agent_info.commands(domain, timeout_s)
        if commands is None or commands.get("guest-fsfreeze-status"):
            _check_thawed(domain, timeout_s)
        if (blocked := fitness.blocked_command(guest, hold, commands)) is not None:
            raise blocked
    except AgentError as error:
        raise refusal.no_agent(guest, error.message) from error
    return commands


def _check_thawed(domain: Domain, timeout_s: int) -> None:
    if agent.freeze_status(domain, timeout_s) == "frozen":
        raise refusal.GuestFrozenError(NamedGuest(domain.name, domain.uuid))


def _prepare_disk(
    domain: Domain,
    order: PrepareOrder,
    plan: GuestPlan,
    disk: DomainDisk,
    identities: Mapping[str, DiskIdentity | Unknown],
) -> PreparedDisk:
    size_bytes = domain.disk_bytes(disk.target)
    if (hindrance := fitness.size_hindrance(size_bytes, order.chunk_bytes)) is not None:
        raise fitness.not_capturable(NamedGuest(domain.name, domain.uuid), disk.target, hindrance)
    choice = choose_parent(disk.target, identities, plan.parents)
    where = disk
    with suppress(HypervisorError):  # no image of a volume that is not found can be read here
        where = located(domain, disk)
    untracked = fitness.untracked_reason(where, header_of(where))
    reason = untracked or full_reason(domain, disk.target, size_bytes, choice, order.chunk_bytes)
    proven = choice.parent if reason is None else None
    identity = identities[disk.target]
    name = checkpoint.checkpoint_name(order.repository_id, order.capture_id)
    return PreparedDisk(
        target=disk.target,
        source=where.source,
        source_format=disk.source_format,
        identity=None if isinstance(identity, Unknown) else identity,
        size_bytes=size_bytes,
        readonly=disk.readonly,
        scratch_secret=scratch_secret(order.capture_id, domain.uuid, disk.target) if disk.encryption else None,
        kind=CaptureKind.INCREMENTAL if proven else CaptureKind.FULL,
        full_reason=reason,
        parent_capture_id=proven.capture_id if proven else None,
        parent_index=proven.index if proven else None,
        parent_checkpoint=proven.checkpoint if proven else None,
        checkpoint=name if untracked is None else None,
    )


def _check_socket(host: Host, domain: Domain) -> None:
    """A second backup is refused by libvirt only when it begins, inside the hold; find it out now."""
    if (socket := backup.current_socket(domain)) is not None:
        guest = NamedGuest(domain.name, domain.uuid)
        raise refusal.GuestBusyError(guest, f"Guest {guest} has a backup running on host {host.host_id}, at {socket}.")
