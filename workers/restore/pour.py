"""Pouring: a disk's bytes from the repository to where they go, by several threads, in bounded memory.

    pieces, in order                each lane a thread
    ─▶ next chunk or hole ─┬─▶ lane 1: there already? ─ fetch, verify ─ its data, run by run ─▶ destination
       under a lock        └─▶ lane 2: …
                           ┌─▶ marker: sync, then remember: everything below this is durable
       every 256 MiB ──────┘

Each thread holds one chunk, so memory does not grow with the disk. There are as many threads as the destination has lanes, and
more where the repository is in object storage: for 32 MiB of chunks (`repository/lanes.py`). What is in hand at a moment is
known, so everything before the first of it is done: that is what may become the mark.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from freezeframe.errors import FreezeframeError
from freezeframe.repository import DiskReader
from freezeframe.repository.chunk import digest_of_chunk
from workers.restore.destination import Destination, Lane

#: Called with bytes done and bytes in all, of data: holes take no time. By any thread, but never by two at once.
OnProgress = Callable[[int, int], None]

#: What is looked at for zeros within a chunk: qcow2's cluster, below which an image cannot leave anything out.
BLOCK_BYTES: Final = 64 << 10
_ZEROS: Final = bytes(BLOCK_BYTES)
_BEGINNING: Final = 64

#: Bytes of data after which progress is made durable. Threads wait when they are too far ahead of that, so an interruption
#: costs three times this at most, some seconds of work. Smaller disks begin anew.
MARK_BYTES: Final = 256 << 20

#: The most that is zeroed at once, so that threads share it and an interrupt does not wait long.
_HOLE_BYTES: Final = 1 << 30


class StoppedError(FreezeframeError):
    """Another disk's failure, or an interrupt, has ended this restore."""

    code = "stopped"


@dataclass(frozen=True)
class Piece:
    """A part of a disk: one chunk with its digest, or a hole, or a part of one."""

    offset: int
    length: int
    slot: int
    digest: bytes | None


@dataclass
class Poured:
    """What became of the data."""

    bytes_written: int = 0
    bytes_kept: int = 0  # there already, from an earlier restore


def pieces(reader: DiskReader, blank_from: int) -> Iterator[Piece]:
    """All chunks of a disk in order, and the holes that must be made because they begin before `blank_from`."""
    end = 0
    for slot, digest in reader.used_slots():
        offset = slot * reader.header.chunk_bytes
        yield from _holes(end, min(offset, blank_from))
        yield Piece(offset, reader.header.slot_bytes(slot), slot, digest)
        end = offset + reader.header.slot_bytes(slot)
    yield from _holes(end, min(reader.header.size_bytes, blank_from))


def _holes(start: int, end: int) -> Iterator[Piece]:
    for offset in range(start, end, _HOLE_BYTES):
        yield Piece(offset, min(_HOLE_BYTES, end - offset), 0, None)


def data_runs(chunk: bytes) -> Iterator[tuple[int, int]]:
    """The parts of a chunk, as (start, end), that are left when its blocks of zeros are left out. Pure."""
    start = None
    for block in range(0, len(chunk), BLOCK_BYTES):
        if _is_zero(chunk, block):
            if start is not None:
                yield start, block
            start = None
        elif start is None:
            start = block
    if start is not None:
        yield start, len(chunk)


def _is_zero(chunk: bytes, block: int) -> bool:
    """Most blocks of data show it in their first bytes, so the copy that a slice of 64 KiB is is seldom made."""
    if chunk[block : block + _BEGINNING].strip(b"\0"):
        return False
    piece = chunk[block : block + BLOCK_BYTES]
    return piece == (_ZEROS if len(piece) == BLOCK_BYTES else _ZEROS[: len(piece)])


class Pouring:
    """The threads of one disk. The first failure stops them all, and is the one that is raised.

    `trust`: keep what is below the destination's mark without reading it.
    """

    def __init__(
        self,
        reader: DiskReader,
        destination: Destination,
        on_progress: Callable[[int], None],
        *,
        trust: bool = False,
        stop: threading.Event | None = None,
        mark_bytes: int = MARK_BYTES,
    ) -> None:
        self._reader = reader
        self._destination = destination
        self._pieces = pieces(reader, destination.blank_from)
        self._on_progress = on_progress
        self._trust = trust
        self._stop = stop or threading.Event()
        self._mark_bytes = mark_bytes
        self._lock = threading.Lock()
        self._marking = threading.Condition(self._lock)
        self._in_hand: set[int] = set()
        self._lowest: int | None = None
        self._next_offset = 0
        self._unmarked_bytes = 0
        self._syncing = False
        self._ended = False
        self._failure: BaseException | None = None
        self._poured = Poured()

    def run(self) -> Poured:
        """Write all that must be. Raises what the reader, a lane or `on_progress` raised first, once all threads have ended."""
        lanes = [threading.Thread(target=self._fill, args=(lane,), name="restore") for lane in self._lanes()]
        marker = threading.Thread(target=self._mark, name="restore-mark")
        started: list[threading.Thread] = []
        try:
            for thread in (marker, *lanes):
                thread.start()
                started.append(thread)
            for thread in lanes:
                thread.join()
        except BaseException as error:  # an interrupt: the destination must not be left while threads write to it
            self._fail(error)
            for thread in started[1:]:
                thread.join()
            raise
        finally:
            with self._marking:
                self._ended = True
                self._marking.notify_all()
            for thread in started[:1]:
                thread.join()
        if self._failure is not None:
            raise self._failure
        return self._poured

    def _lanes(self) -> list[Lane]:
        """Return the lane of each thread: several share one where the repository is far away, and its answers take long."""
        lanes = self._destination.lanes
        threads = max(len(lanes), self._reader.lanes) if self._reader.is_remote else len(lanes)
        return [lanes[number % len(lanes)] for number in range(threads)]

    def _fill(self, lane: Lane) -> None:
        try:
            while (piece := self._next()) is not None:
                written, kept = self._piece(piece, lane)
                self._done(piece, written, kept)
        except BaseException as error:  # noqa: BLE001  a thread has nobody to raise to; `run` tells
            self._fail(error)

    def _next(self) -> Piece | None:
        """The next piece, once the marker is not too far behind. A generator must not be asked by two at once."""
        with self._marking:
            self._marking.wait_for(self._may_go_on)
            if self._stop.is_set():
                raise StoppedError("The restore was stopped.")
            if self._failure is not None:
                return None
            piece = next(self._pieces, None)
            if piece is not None:
                self._in_hand.add(piece.offset)
                self._next_offset = piece.offset + piece.length
            return piece

    def _may_go_on(self) -> bool:
        """Whether the marker is not too far behind: neither late to begin, nor at a sync that takes long."""
        if self._failure is not None:
            return True
        return self._unmarked_bytes < (self._mark_bytes if self._syncing else 2 * self._mark_bytes)

    def _piece(self, piece: Piece, lane: Lane) -> tuple[int, int]:
        """Bring one piece to its place; how many bytes were written and how many were there."""
        below = piece.offset + piece.length <= self._destination.mark
        if piece.digest is None:
            if not (below and self._trust):
                lane.zero(piece.offset, piece.length)
            return 0, 0
        if below and self._is_there(piece, piece.digest, lane):
            return 0, piece.length
        if below:
            self._lower(piece.offset)
        chunk = self._reader.read_slot(piece.slot) or b""
        return self._write(piece.offset, chunk, lane), 0

    def _is_there(self, piece: Piece, digest: bytes, lane: Lane) -> bool:
        if self._trust:
            lane.keep(piece.offset, piece.length)
            return True
        found = lane.read(piece.offset, piece.length)
        if len(found) != piece.length or digest_of_chunk(found) != digest:
            return False
        for start, end in data_runs(found):
            lane.keep(piece.offset + start, end - start)
        return True

    def _lower(self, offset: int) -> None:
        """Take the mark back before a chunk below it is written over: torn, it would still count as durable."""
        with self._lock:
            if self._lowest is None or offset < self._lowest:
                self._lowest = offset
                self._destination.advance(offset)

    def _write(self, offset: int, chunk: bytes, lane: Lane) -> int:
        view = memoryview(chunk)
        must_blank = offset < self._destination.blank_from
        written = at = 0
        for start, end in data_runs(chunk):
            if must_blank and at < start:
                lane.zero(offset + at, start - at)
            lane.write(offset + start, view[start:end])
            written += end - start
            at = end
        if must_blank and at < len(chunk):
            lane.zero(offset + at, len(chunk) - at)
        return written

    def _done(self, piece: Piece, written: int, kept: int) -> None:
        with self._lock:
            self._in_hand.discard(piece.offset)
            self._poured.bytes_written += written
            self._poured.bytes_kept += kept
            if piece.digest is None:
                return
            self._unmarked_bytes += piece.length
            if self._unmarked_bytes >= self._mark_bytes:
                self._marking.notify_all()
            self._on_progress(piece.length)

    def _mark(self) -> None:
        try:
            while (mark := self._next_mark()) is not None:
                self._destination.sync()
                if mark > self._destination.mark:
                    self._destination.advance(mark)
                with self._marking:
                    self._syncing = False
                    self._marking.notify_all()
        except BaseException as error:  # noqa: BLE001  as in `_fill`
            self._fail(error)

    def _next_mark(self) -> int | None:
        """Wait until enough is done, or all; what is complete by then."""
        with self._marking:
            self._marking.wait_for(
                lambda: self._ended or self._failure is not None or self._unmarked_bytes >= self._mark_bytes
            )
            if self._ended or self._failure is not None:
                return None
            self._unmarked_bytes = 0
            self._syncing = True
            return min(self._in_hand, default=self._next_offset)

    def _fail(self, error: BaseException) -> None:
        with self._marking:
            self._failure = self._failure or error
            self._marking.notify_all()
