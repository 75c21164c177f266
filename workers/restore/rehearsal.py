"""Rehearsals: a disk restored to a scratch file as for a user, read back from the device and compared, then taken away.

    index ─▶ restore_disk ─▶ DIR/freezeframe-…/disk.raw ─▶ drop from the cache ─▶ each slot: SHA-256 = the index's digest?
             (every chunk verified)    sparse                                    each hole: nothing but zeros?

So what is compared has been through all that a restore is: the fetching, the pouring, the file system and its device. A
rehearsal that is killed leaves its directory, whose name says whose it is; it may be removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final

from freezeframe.repository import Index, Repository
from freezeframe.repository.errors import IndexDamaged, NewerFormat
from freezeframe.repository.verify import CapturedDisk, Rehearsed
from freezeframe.temporary import temporary_directory
from workers.restore.disk import DiskPart, restore_disk
from workers.restore.errors import NoRoomError, TargetUnfitError
from workers.restore.image import ImageFormat
from workers.restore.partial import writing

#: For names, and the file system's own tables.
_SPARE_BYTES: Final = 4 << 20


class ScratchRehearsal:
    """In a directory that is there: `directory`, or else the one for all temporary files."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or temporary_directory()

    def check_room(self, repository: Repository, indexes: Collection[str]) -> None:
        """Raises TargetUnfitError and NoRoomError. A damaged index is told when its turn comes."""
        if not self._directory.is_dir() or not os.access(self._directory, os.W_OK | os.X_OK):
            raise TargetUnfitError(
                f"This user cannot write to {self._directory}.", advice="Name another directory with --scratch."
            )
        wanted_bytes = max((_data_bytes(repository, index) for index in indexes), default=0) + _SPARE_BYTES
        status = os.statvfs(self._directory)
        free_bytes = status.f_bavail * status.f_frsize
        if free_bytes < wanted_bytes:
            raise NoRoomError(
                f"{self._directory} has {free_bytes >> 20} MiB free; the largest disk needs {-(-wanted_bytes >> 20)} MiB.",
                advice="Free space there, or name another directory with --scratch.",
            )

    def restore(self, repository: Repository, disk: CapturedDisk, on_progress: Callable[[int], None]) -> Rehearsed:
        """Raises DiskDamagedError, TargetFullError, TargetNotWritableError and RepositoryNotReadable."""
        with writing(self._directory), TemporaryDirectory(prefix="freezeframe-", dir=self._directory) as scratch:
            path = Path(scratch) / "disk.raw"
            part = DiskPart(disk.capture_id, disk.guest_name, disk.target, disk.index, path, ImageFormat.RAW)
            restore_disk(repository, part, on_progress=lambda done, _total: on_progress(done))
            return compare(repository, disk.index, path)


def compare(repository: Repository, index: str, path: Path) -> Rehearsed:
    """What a raw image that must be the disk of that index reads back as."""
    with repository.index(index) as opened, path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        wrong = list(_wrong_slots(opened, file))
        if os.fstat(file.fileno()).st_size != opened.header.size_bytes:
            wrong.append(opened.header.slots - 1)
        lengths = [opened.header.slot_bytes(slot) for slot, _ in opened.used_slots()]
    return Rehearsed(len(lengths), sum(lengths), tuple(dict.fromkeys(wrong)))


def _wrong_slots(index: Index, file: BinaryIO) -> Iterator[int]:
    header, fd, hole = index.header, file.fileno(), 0
    for slot, digest in index.used_slots():
        yield from _not_zero(fd, header.chunk_bytes, hole, slot * header.chunk_bytes)
        data = os.pread(fd, header.slot_bytes(slot), slot * header.chunk_bytes)
        if hashlib.sha256(data).digest() != digest:
            yield slot
        hole = (slot + 1) * header.chunk_bytes
    yield from _not_zero(fd, header.chunk_bytes, hole, header.size_bytes)


def _not_zero(fd: int, chunk_bytes: int, start: int, end: int) -> Iterator[int]:
    """Slots between two offsets that have anything but zeros. What the file system knows as a hole is not read."""
    while start < end:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        until = min(end, os.lseek(fd, start, os.SEEK_HOLE)) if start < end else start
        while start < until:
            piece = os.pread(fd, min(chunk_bytes - start % chunk_bytes, until - start), start)
            if not piece:
                return
            if piece.count(0) != len(piece):
                yield start // chunk_bytes
            start += len(piece)


def _data_bytes(repository: Repository, index: str) -> int:
    try:
        with repository.index(index) as opened:
            return sum(opened.header.slot_bytes(slot) for slot, _ in opened.used_slots())
    except (IndexDamaged, NewerFormat):
        return 0
