"""What an export tells of its disk: size, extents, and so which of its chunks a transfer must read. Data: `connection.py`.

    bytes    0         chunk         2 chunk        3 chunk       4 chunk  size
    data     ██████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░███████████████████
    dirty    ░░░░░░▓▓▓▓▓░░░░░░░░░░░░░▓▓▓▓░░░░░░░░░░░░░░░░░░░░░░░░░░░░▓░░░░░
    full     read          read          zero           read          read
    incr.    read          keep          zero           keep          read

A chunk is read whole if any byte of it must be; one that must be looked at and holds no data is zero without being read;
one that is not dirty keeps the parent's digest, which is that of zeros if it holds no data (`keep zero`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nbd

from freezeframe.errors import EXIT_UNREACHABLE, FreezeframeError
from workers.hypervisor.backup import bitmap_name
from workers.peer import Peer

#: How much of a disk one question about extents covers. The protocol's limit is 4 GiB less one byte; QEMU answers with as
#: many extents as fit, and the rest is asked for again.
STATUS_BYTES = 2 << 30

_ALLOCATION = "base:allocation"
_DIRTY = 1  # the one flag of qemu:dirty-bitmap contexts [QEMU docs/interop/nbd.txt]


class ExportError(FreezeframeError):
    """A disk's export cannot be read."""

    code = "export"
    exit_code = EXIT_UNREACHABLE
    advice = "The guest or its backup has ended meanwhile; capture it again."


class ChunkNeed(Enum):
    """What a transfer must do about a chunk."""

    READ = "read"
    ZERO = "zero"
    KEEP = "keep"
    KEEP_ZERO = "keep zero"


@dataclass(frozen=True)
class Extent:
    """A run of bytes that are alike: `data` unless they are known to read as zeros, `dirty` unless known as unchanged."""

    start: int
    length: int
    data: bool
    dirty: bool


class Export:
    """One NBD connection to one disk's export. Not for sharing between threads. Raises ExportError, WrongPeerError."""

    def __init__(self, socket: Path, target: str, peer: Peer, *, with_bitmap: bool) -> None:
        self._what = f"the export of disk {target} at {socket}"
        self._bitmap = f"qemu:dirty-bitmap:{bitmap_name(target)}" if with_bitmap else None
        self._nbd: Any = nbd.NBD()
        self._nbd.set_export_name(target)
        self._nbd.add_meta_context(_ALLOCATION)
        if self._bitmap:
            self._nbd.add_meta_context(self._bitmap)
        try:
            connection = peer.connect(socket)
        except OSError as error:
            raise ExportError(f"Connecting to {self._what} failed: {error.strerror or error}.") from error
        try:
            self._nbd.connect_socket(connection.detach())  # libnbd's own from here on
        except nbd.Error as error:
            raise ExportError(f"Connecting to {self._what} failed: {error.string}.") from error
        for context in filter(None, (_ALLOCATION, self._bitmap)):
            if not self._nbd.can_meta_context(context):
                raise ExportError(f"QEMU does not show {context} for {self._what}.")
        self.size_bytes: int = self._nbd.get_size()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # nothing depends on an orderly end of what only reads, and it must not hide why there is one
        with suppress(nbd.Error):
            self._nbd.shutdown()

    def extents(self, start: int = 0, end: int | None = None) -> Iterator[Extent]:
        """The extents between two places of the disk, of all of it if none are given; the two contexts laid over each other."""
        end = self.size_bytes if end is None else min(end, self.size_bytes)
        while start < end:
            answers = self._status(start, min(STATUS_BYTES, end - start))
            covered = min(sum(length for length, _ in runs) for runs in answers.values())
            if covered <= 0:
                raise ExportError(f"QEMU gave no extents for {self._what} at {start}.")
            yield from overlay(start, covered, answers[_ALLOCATION], answers.get(self._bitmap or ""))
            start += covered

    def _status(self, start: int, length: int) -> dict[str, list[tuple[int, int]]]:
        """What each context says, as runs of (length, flags) from `start` on."""
        answers: dict[str, list[tuple[int, int]]] = {}

        def answered(context: str, _offset: int, entries: list[int], _error: Any) -> int:
            answers[context] = list(zip(entries[::2], entries[1::2], strict=True))
            return 0

        try:
            self._nbd.block_status(length, start, answered)
        except nbd.Error as error:
            raise ExportError(f"Asking {self._what} for extents at {start} failed: {error.string}.") from error
        missing = [context for context in filter(None, (_ALLOCATION, self._bitmap)) if context not in answers]
        if missing:
            raise ExportError(f"QEMU did not answer with {missing[0]} for {self._what} at {start}.")
        return answers


def overlay(
    start: int, covered: int, allocation: list[tuple[int, int]], dirty: list[tuple[int, int]] | None
) -> Iterator[Extent]:
    """Lay the runs of two contexts over each other, up to `covered` bytes. Without a bitmap all is dirty. Pure."""
    allocation_runs, dirty_runs = iter(allocation), iter(dirty if dirty is not None else [(covered, _DIRTY)])
    allocation_left = dirty_left = allocation_flags = dirty_flags = 0
    position, end = start, start + covered
    while position < end:
        if not allocation_left:
            allocation_left, allocation_flags = next(allocation_runs)
        if not dirty_left:
            dirty_left, dirty_flags = next(dirty_runs)
        length = min(allocation_left, dirty_left, end - position)
        # NBD_STATE_ZERO: it reads as zeros, allocated or not
        yield Extent(position, length, not allocation_flags & nbd.STATE_ZERO, bool(dirty_flags & _DIRTY))
        position, allocation_left, dirty_left = position + length, allocation_left - length, dirty_left - length


def chunk_needs(
    extents: Iterator[Extent], size_bytes: int, chunk_bytes: int, slot: int = 0
) -> Iterator[tuple[range, ChunkNeed]]:
    """What chunks need, in order; see the drawing above. Pure.

    `extents` must cover whole chunks from `slot` on, or the disk's end, without a gap. Yields runs of slots that need the same:
    one for all chunks that are an extent's alone, one for each that several extents share. So it takes time by extents, not
    by the disk's size.

        extents  │███│░░░░░░░░░░░░░░│█████│░░░│
        chunks   │     │     │     │     │    │
        runs     │ one │ one       │ one │ one│
    """
    begun = data = dirty = False
    for extent in extents:
        end = extent.start + extent.length
        ended = -(-end // chunk_bytes) if end == size_bytes else end // chunk_bytes
        if begun:
            data, dirty = data or extent.data, dirty or extent.dirty
            if ended == slot:
                continue
            yield range(slot, slot + 1), _need(data=data, dirty=dirty)
            slot += 1
        if ended > slot:
            yield range(slot, ended), _need(data=extent.data, dirty=extent.dirty)
            slot = ended
        begun, data, dirty = slot * chunk_bytes < end, extent.data, extent.dirty


def bytes_of(slots: range, size_bytes: int, chunk_bytes: int) -> int:
    """How many bytes of the disk a run of slots is. Pure."""
    return min(slots.stop * chunk_bytes, size_bytes) - slots.start * chunk_bytes


def _need(*, data: bool, dirty: bool) -> ChunkNeed:
    if not dirty:
        return ChunkNeed.KEEP if data else ChunkNeed.KEEP_ZERO
    return ChunkNeed.READ if data else ChunkNeed.ZERO
