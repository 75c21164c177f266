"""One disk back from the repository: its part of a capture, poured to where it goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from freezeframe.repository import Repository
from freezeframe.repository.errors import ChunkDamaged, IndexDamaged, NewerFormat
from workers.restore.errors import DiskDamagedError
from workers.restore.image import ImageFormat
from workers.restore.opening import opened
from workers.restore.place import Place
from workers.restore.pour import MARK_BYTES, OnProgress, Pouring
from workers.restore.progress import SUFFIX, Progress
from workers.restore.report import RestoredDisk


@dataclass(frozen=True)
class DiskPart:
    """One captured disk, and the file that it is to become, or the `place` that it goes to. `path` names the progress document
    in either case. `guest_name` and `capture_id` are for messages.
    """

    capture_id: str
    guest_name: str
    target: str
    index: str
    path: Path
    format: ImageFormat
    place: Place | None = None

    def __str__(self) -> str:
        return f"disk {self.target} of guest {self.guest_name} in capture {self.capture_id}"

    @property
    def where(self) -> str:
        return str(self.place or self.path)

    @property
    def progress(self) -> Progress:
        return Progress(self.path.with_name(self.path.name + SUFFIX))


@dataclass(frozen=True)
class DiskExtent:
    """A disk's size as the guest sees it, and how much of that is data, in whole chunks: at most what a restore writes."""

    size_bytes: int
    data_bytes: int


def extent_of(repository: Repository, part: DiskPart) -> DiskExtent:
    """Read from the disk's index alone. Raises DiskDamagedError."""
    with telling_damage(part), repository.index(part.index) as index:
        header = index.header
        return DiskExtent(header.size_bytes, sum(header.slot_bytes(slot) for slot, _ in index.used_slots()))


def restore_disk(
    repository: Repository,
    part: DiskPart,
    *,
    overwrite: bool = False,
    trust: bool = False,
    on_progress: OnProgress | None = None,
    stop: threading.Event | None = None,
    mark_bytes: int = MARK_BYTES,
) -> RestoredDisk:
    """Restore one disk. Its file is there, whole and durable, when this returns, else not at all; a device or an export is
    written and synced. An interrupted restore of the same disk to the same place is gone on with.

    `trust`: what that one had made durable is not read again. `stop`: ends it, as an interrupt does. Raises DiskDamagedError,
    TargetExistsError, TargetInUseError, TargetFullError, TargetNotWritableError, for a device or an export DeviceUnfitError and
    DeviceTooSmallError, and the repository's own RepositoryNotReadable.
    """
    began = time.monotonic()
    extent = extent_of(repository, part)
    done = _Done(extent.data_bytes, on_progress)
    with (
        telling_damage(part),
        repository.disk_reader(part.index) as reader,
        opened(part, reader, overwrite=overwrite) as destination,
    ):
        resumed_bytes = destination.mark
        pouring = Pouring(reader, destination, done.add, trust=trust, stop=stop, mark_bytes=mark_bytes)
        poured = pouring.run()
    return RestoredDisk(
        target=part.target,
        path=None if part.place else part.path,
        place=str(part.place) if part.place else None,
        format=part.format,
        size_bytes=extent.size_bytes,
        data_bytes=extent.data_bytes,
        bytes_written=poured.bytes_written,
        bytes_kept=poured.bytes_kept,
        resumed_bytes=resumed_bytes,
        seconds=round(time.monotonic() - began, 3),
    )


@contextmanager
def telling_damage(part: DiskPart) -> Iterator[None]:
    """Say of damage in the repository, and of what is newer, which disk it is in, and what can be done."""
    try:
        yield
    except NewerFormat as error:
        raise NewerFormat(f"Restoring {part} failed: {error.message}") from error
    except (ChunkDamaged, IndexDamaged) as error:
        raise DiskDamagedError(
            f"Restoring {part} failed: {error.message}",
            advice=f"Restore this disk from another capture; `freezeframe verify {part.capture_id}` names everything that is "
            "affected, and the next capture writes the chunk anew.",
        ) from error


class _Done:
    """Sums up progress."""

    def __init__(self, total_bytes: int, on_progress: OnProgress | None) -> None:
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._on_progress = on_progress
        self.add(0)

    def add(self, length: int) -> None:
        self._done_bytes += length
        if self._on_progress is not None:
            self._on_progress(self._done_bytes, self._total_bytes)
