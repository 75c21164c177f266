"""The tier `restored`: each disk of some captures, restored to a scratch file by the restore's own code, and compared.

    room for the largest? ─▶ disk by disk: restore ─▶ read back, every slot against the index ─▶ scratch away
                                              └─ damaged ─▶ its captures, rehashed: every damaged chunk is found, not the first

The restore belongs to the hosts' side, which this package must not know; whoever calls brings it (`Rehearsal`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from freezeframe.errors import EXIT_DAMAGED, FreezeframeError
from freezeframe.repository.errors import RepositoryFull, RepositoryNotWritable
from freezeframe.repository.verify.captures import look_through
from freezeframe.repository.verify.record import write_restored
from freezeframe.repository.verify.report import Damage, OnProgress, Progress, Tier, VerifyReport
from freezeframe.repository.verify.run import Run
from freezeframe.repository.whereabouts import places_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.repository import Repository


@dataclass(frozen=True)
class CapturedDisk:
    """One disk of one capture, by its index; the rest is for messages."""

    capture_id: str
    guest_name: str
    target: str
    index: str

    def __str__(self) -> str:
        return f"disk {self.target} of guest {self.guest_name} in capture {self.capture_id}"


@dataclass(frozen=True)
class Rehearsed:
    """A disk that was restored and read back: how many chunks and bytes were compared, and which slots are not right."""

    chunks: int
    bytes_read: int
    wrong_slots: tuple[int, ...] = ()


class Rehearsal(Protocol):
    """Restores to a scratch directory of this machine, and leaves nothing there."""

    def check_room(self, repository: Repository, indexes: Collection[str]) -> None:
        """Raises a FreezeframeError if there is no room for the largest disk's data. Damaged indexes are passed over."""

    def restore(self, repository: Repository, disk: CapturedDisk, on_progress: Callable[[int], None]) -> Rehearsed:
        """Restore the disk and compare it. `on_progress` is told bytes done.

        Raises a FreezeframeError with EXIT_DAMAGED if the repository is, and others for the scratch directory.
        """


def verify_restored(
    repository: Repository,
    captures: Iterable[Manifest],
    rehearsal: Rehearsal,
    on_progress: OnProgress | None = None,
    *,
    set_aside: bool = False,
    set_aside_at_most: int | None = None,
) -> VerifyReport:
    """Restore every disk of these captures, equal ones once. Raises what the rehearsal and the store raise."""
    wanted = list(captures)
    disks: dict[str, tuple[CapturedDisk, int]] = {}
    for manifest in wanted:
        for guest, disk in manifest.disks():
            one = CapturedDisk(manifest.capture_id, guest.name, disk.target, disk.index)
            disks.setdefault(disk.index, (one, disk.chunk_bytes))
    run = Run(repository, Tier.RESTORED, on_progress, aside=set_aside, at_most=set_aside_at_most)
    rehearsal.check_room(repository, disks.keys())
    wrong: dict[str, str] = {}
    for index, (one, chunk_bytes) in disks.items():
        reason = _restore(run, rehearsal, one, chunk_bytes, on_progress)
        if reason is not None:
            wrong[index] = reason
    report = _report(run, wanted, wrong)
    note = _record(run, [one for one in wanted if one.capture_id not in report.damaged_captures])
    return report if note is None else replace(report, notes=(*report.notes, note))


def _restore(
    run: Run, rehearsal: Rehearsal, disk: CapturedDisk, chunk_bytes: int, on_progress: OnProgress | None
) -> str | None:
    """What is wrong with the disk once it is restored, if anything."""
    before = Progress(run.found.chunks_checked, run.found.bytes_read)

    def move(done_bytes: int) -> None:
        if on_progress is not None:
            chunks = before.chunks_checked + done_bytes // chunk_bytes
            on_progress(Progress(chunks, before.bytes_read + done_bytes))

    try:
        done = rehearsal.restore(run.repository, disk, move)
    except FreezeframeError as error:
        if error.exit_code != EXIT_DAMAGED:
            raise
        return error.message
    run.found.chunks_checked += done.chunks
    run.found.bytes_read += done.bytes_read
    if not done.wrong_slots:
        return None
    return (
        f"Restored, {disk} reads back wrongly at slot {done.wrong_slots[0]}, and {len(done.wrong_slots)} slots in all."
    )


def _report(run: Run, wanted: list[Manifest], wrong: dict[str, str]) -> VerifyReport:
    """With all damaged chunks of the disks that went wrong, and with the disks that did although their chunks are sound."""
    affected = [one for one in wanted if any(disk.index in wrong for _, disk in one.disks())]
    look_through(run, affected)
    report = run.report(wanted)
    known = {(place.capture_id, place.guest_uuid, place.target) for one in report.damage for place in one.places}
    places = places_of(run.repository, set(wrong), set()) if wrong else {}
    restores = [
        Damage(index, reason, places[index])
        for index, reason in wrong.items()
        # of no place: the last capture of it was forgotten meanwhile
        if not all((place.capture_id, place.guest_uuid, place.target) in known for place in places[index])
    ]
    return run.report(wanted, restores=restores) if restores else report


def _record(run: Run, sound: list[Manifest]) -> str | None:
    """Record the captures that were restored. Return a note if that cannot be done: who may only read verifies all the same."""
    now = datetime.now(UTC)
    try:
        write_restored(run.objects, {one.capture_id: now for one in sound})
    except (RepositoryNotWritable, RepositoryFull) as error:
        return f"What was verified could not be recorded: {error.message}"
    return None
