"""Seal: from what was planned, prepared, held and transferred to the manifest. Writing it is the commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from freezeframe.contract import names
from freezeframe.contract.definition import Definition
from freezeframe.contract.proof import GuestProof, Proof, consistency, guest_consistency, shortcomings
from freezeframe.contract.result import (
    HoldResult,
    PreparedDisk,
    PreparedGuest,
    PrepareResult,
    SeenUses,
    TransferResult,
)
from freezeframe.contract.words import CaptureKind
from freezeframe.repository import DiskCapture, GuestCapture, Instant, Manifest
from orchestrator import unread_answers, unseen
from orchestrator.answers import Unread
from orchestrator.clocks import MOST_APART_S
from orchestrator.decision import proof_of
from orchestrator.errors import AnswersLostError
from orchestrator.inherited import warnings_of
from orchestrator.run import Run
from orchestrator.transfers import kept_guests

#: What Redis's clock and the orchestrator's may differ by; more is refused at intake.
APART = timedelta(seconds=MOST_APART_S)


def manifest_of(
    run: Run,
    prepared: Sequence[PrepareResult],
    held: Sequence[HoldResult],
    transferred: Sequence[TransferResult],
    seen: Sequence[SeenUses],
    definitions: Mapping[str, Definition | Unread],
) -> Manifest:
    """Return the manifest of a run: of each guest that is kept, and of no other. Pure: sealing twice is sealing once.

    `definitions` are by names.definition_field. Raises AnswersLostError if a guest that is kept is not among the answers or
    has no definition, or is there twice; GuestUnreadableError if what tells of it cannot be read.
    """
    assert run.plan is not None  # noqa: S101  a run is planned before it is sealed
    not_seen = [*unseen.unseen_since(run, prepared, [*held, *seen]), *unseen.unseen_in(transferred)]
    proof = unseen.claim_less(_of_guests(proof_of(run, held), frozenset(run.kept)), not_seen)
    lacking = shortcomings(proof)
    steps = {guest.guest_uuid: guest for host in proof.hosts for guest in host.guests}
    disks = {(result.guest_uuid, result.target): result for result in transferred}
    unread_answers.check(run, prepared, held, steps)
    _check_all_were_held(run, steps)
    chunk_bytes = run.plan.chunk_bytes
    audits = [*warnings_of(prepared, transferred), *((one.guest_uuid, one.warning) for one in not_seen)]
    found = _by_guest([*((one.guest_uuid, one.text) for result in held for one in result.guest_warnings), *audits])
    guests = tuple(
        _guest_capture(host_id, guest, definitions, disks, lacking, steps[guest.guest_uuid], chunk_bytes).model_copy(
            update={"warnings": (*guest.warnings, *found.get(guest.guest_uuid, ()))}
        )
        for host_id, guest in kept_guests(run, prepared)
    )
    _check_all_are_there(run, guests)
    kinds = {disk.kind for guest in guests for disk in guest.disks}
    return Manifest(
        capture_id=run.capture_id,
        created_at=run.first_entered_at,
        group=run.request.group,
        tags=run.request.tags,
        instant=Instant(at=_instant(proof, run)),
        hold=run.request.hold,
        policy=run.request.policy,
        consistency=consistency(proof),
        kind=CaptureKind.INCREMENTAL if kinds == {CaptureKind.INCREMENTAL} else CaptureKind.FULL,
        guests=guests,
        proof=proof,
    )


def definition_fields(run: Run, prepared: Sequence[PrepareResult]) -> list[str]:
    """Return where the definitions of the guests are that are kept, by names.definition_field."""
    return [names.definition_field(host_id, guest.guest_uuid) for host_id, guest in kept_guests(run, prepared)]


def _by_guest(warnings: Iterable[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    """Return the texts of warnings by the UUIDs of their guests."""
    found = defaultdict[str, list[str]](list)
    for guest_uuid, text in warnings:
        found[guest_uuid].append(text)
    return found


def _check_all_were_held(run: Run, steps: Collection[str]) -> None:
    """Raise AnswersLostError if the holds' results do not name each guest that is kept."""
    if lost := set(run.kept).difference(steps):
        raise AnswersLostError(f"What the hosts answered of their hold does not name {', '.join(sorted(lost))}.")


def _check_all_are_there(run: Run, guests: Sequence[GuestCapture]) -> None:
    """Raise AnswersLostError unless these are the guests that are kept: a capture of fewer would be sealed without a word."""
    found = sorted(guest.guest_uuid for guest in guests)
    if found != sorted(run.kept):
        names = ", ".join(sorted(set(run.kept).symmetric_difference(found))) or "one that is there twice"
        raise AnswersLostError(f"What the hosts answered is not what the capture keeps: {names}.")


def _of_guests(proof: Proof, kept: Collection[str]) -> Proof:
    """Return the proof without the guests that were held and are not in the capture: it claims nothing of them."""
    hosts = tuple(
        host.model_copy(update={"guests": tuple(guest for guest in host.guests if guest.guest_uuid in kept)})
        for host in proof.hosts
    )
    return proof.model_copy(update={"hosts": hosts})


def _instant(proof: Proof, run: Run) -> datetime:
    """When the instant was, for people and retention: the barrier's release by Redis's clock, within the run by our own.

    Redis's is a wall clock, which may be set while a capture runs. Without a release: when the hold was due.
    """
    if proof.release_us is None:
        return run.first_entered_at
    latest = run.first_entered_at + APART
    return min(max(datetime.fromtimestamp(proof.release_us / 1e6, UTC), run.asked_at - APART), latest)


def _guest_capture(
    host_id: str,
    guest: PreparedGuest,
    definitions: Mapping[str, Definition | Unread],
    transferred: dict[tuple[str, str], TransferResult],
    lacking: Sequence[str],
    steps: GuestProof,
    chunk_bytes: int,
) -> GuestCapture:
    definition = definitions.get(names.definition_field(host_id, guest.guest_uuid))
    if definition is None:
        raise AnswersLostError(f"The definition of guest {guest.name}, which host {host_id} has told, is not there.")
    if isinstance(definition, Unread):
        raise unread_answers.unread_definition(guest.name, host_id, definition)
    return GuestCapture(
        guest_uuid=guest.guest_uuid,
        name=guest.name,
        host_id=host_id,
        domain_xml=definition.domain_xml,
        live_xml=definition.live_xml,
        autostart=guest.autostart,
        consistency=guest_consistency(lacking, steps),
        hold_ms=steps.hold_ms,
        disks=tuple(_disk_capture(disk, _transfer_of(guest, disk, transferred), chunk_bytes) for disk in guest.disks),
        skipped=guest.skipped,
    )


def _transfer_of(
    guest: PreparedGuest, disk: PreparedDisk, transferred: dict[tuple[str, str], TransferResult]
) -> TransferResult:
    found = transferred.get((guest.guest_uuid, disk.target))
    if found is None:
        raise AnswersLostError(
            f"The answer about the transfer of disk {disk.target} of guest {guest.name} is not there."
        )
    unread_answers.check_transfer(guest.name, found)
    return found


def _disk_capture(disk: PreparedDisk, result: TransferResult, chunk_bytes: int) -> DiskCapture:
    assert result.index is not None  # noqa: S101  only guests with every index are kept
    return DiskCapture(
        target=disk.target,
        source=disk.source,
        source_format=disk.source_format,
        identity=disk.identity,
        size_bytes=disk.size_bytes,
        chunk_bytes=chunk_bytes,
        kind=CaptureKind.FULL if result.full_reason else disk.kind,
        full_reason=result.full_reason or disk.full_reason,
        parent_capture_id=None if result.full_reason else disk.parent_capture_id,
        parent_index=None if result.full_reason else disk.parent_index,
        checkpoint=disk.checkpoint,
        index=result.index,
        bytes_read=result.bytes_read,
        bytes_stored=result.bytes_stored,
        chunks_new=result.chunks_new,
        chunks_known=result.chunks_known,
        dirty_bytes=result.dirty_bytes,
    )
