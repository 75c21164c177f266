"""Reading: the threads of a transfer, from the export to the repository's writer.

    extents ─▶ which chunks ─▶ ┌ several threads, each with an NBD connection of its own:    ┐
    (one connection, walk.py)  │ next two chunks asked for │ this one: zeros? digest, known? │
                               │  (while limits let)       │ compress, store                 │
                               └─────────────────────────────────────────────────────────────┘
    what an incremental inherits ─▶ one thread: is it there at all?   ─▶ what it lacks, and what is damaged, is read again
                                 └▶ some of it, by chance: read and compared (audit.py)

While a thread hands one chunk to the repository's writer the next two are on their way into buffers of the writer's, so the
source and the processors are busy at the same time, also where a chunk that does not compress is done with sooner than the
next is read. So at most three chunks a thread are in hand here; the writer bounds what it has queued.
Reading, hashing, compressing and writing release the GIL.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import NamedTuple

import structlog

from freezeframe.contract.order import TransferOrder
from freezeframe.repository import ChunkBuffer, DiskWriter
from workers.bandwidth import MIB, Bandwidth, slowest
from workers.bounded import NO_THREAD, NoThreadError
from workers.connection import DataConnection
from workers.export import ChunkNeed, Export, ExportError, Extent, bytes_of, chunk_needs
from workers.host import Host
from workers.steps.audit import Audit, InheritedDiffersError
from workers.steps.export_of import ServedExport, export_of
from workers.steps.progress import Progress
from workers.steps.walk import Walk

log = structlog.get_logger("transfer")

#: Chunks that a thread has asked for beside the one in hand.
AHEAD = 2


class _Coming(NamedTuple):
    """A chunk that a thread will read next, and from when on (monotonic clock) it may."""

    slot: int
    start: int
    length: int
    not_before: float

    @property
    def allowed(self) -> bool:
        return self.not_before <= time.monotonic()


class _Lane:
    """One thread's reads: up to AHEAD on their way while another is in hand."""

    def __init__(self, connection: DataConnection, writer: DiskWriter) -> None:
        self._connection = connection
        self._writer = writer
        self._begun: deque[tuple[_Coming, range, ChunkBuffer]] = deque()

    @property
    def is_empty(self) -> bool:
        return not self._begun

    @property
    def has_room(self) -> bool:
        return len(self._begun) < AHEAD

    def begin(self, coming: _Coming) -> None:
        """Ask for a chunk."""
        buffer = self._writer.take_buffer()
        self._begun.append((coming, self._connection.begin(coming.start, buffer.chunk(coming.length)), buffer))

    def complete(self) -> tuple[_Coming, ChunkBuffer]:
        """The chunk that was asked for first, and where its bytes are."""
        coming, cookies, buffer = self._begun[0]
        self._connection.complete(cookies)
        self._begun.popleft()
        return coming, buffer


class Reading:
    """The threads of one transfer. The first failure stops them all and is the one that is told."""

    def __init__(
        self, host: Host, order: TransferOrder, writer: DiskWriter, progress: Progress, *, bitmap: bool
    ) -> None:
        self._order = order
        self._writer = writer
        self._progress = progress
        self._bitmap = bitmap
        self._host = host
        self._threads = host.settings.transfer_threads
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        self._bandwidth = _bandwidth(host, order)
        self._dirty_bytes = 0
        self._audit = Audit()
        self.audited = 0  # chunks that were inherited, and read and compared
        self._differing: list[int] = []  # of these

    def run(self) -> int | None:
        """Read what must be read; how many bytes the bitmap calls dirty, if there is one.

        Raises the first failure; InheritedDiffersError if the disk is not what the parent has of it.
        """
        served = self._served
        with Export(served.socket, self._order.target, served.peer, with_bitmap=self._bitmap) as export:
            self._check_size(export)
            chunk_bytes = self._order.chunk_bytes
            slots = -(-export.size_bytes // chunk_bytes)
            walk = Walk(slots, chunk_bytes, lambda stretch: self._slots_to_read(export, stretch))
            self._run_all([*self._readers(walk.next, self._write), self._look_for_inherited])
            self._read_audited()
            self._read_again()
        return self._dirty_bytes if self._bitmap else None

    @cached_property
    def _served(self) -> ServedExport:
        """Of one QEMU for all threads and from the first connection to the last."""
        return export_of(self._host, self._order)

    def fail(self, error: BaseException) -> None:
        """Stop; threads end after the chunk that they have in hand."""
        with self._lock:
            self._failure = self._failure or error
        self._stopped.set()

    def _readers(
        self, next_slot: Callable[[], int | None], take: Callable[[_Coming, ChunkBuffer], None]
    ) -> list[Callable[[], None]]:
        return [partial(self._read, next_slot, take)] * self._threads

    def _run_all(self, parts: list[Callable[[], None]]) -> None:
        """Each part in a thread of its own. Raises the first failure, when no thread is at work any more."""
        started: list[threading.Thread] = []
        for part in parts:
            thread = threading.Thread(target=part, name="read")
            try:
                thread.start()
            except NO_THREAD as error:
                self.fail(NoThreadError.of(error))
                break
            started.append(thread)
        for thread in started:
            thread.join()
        if self._failure:
            raise self._failure

    def _read_audited(self) -> None:
        """Read some of what is inherited, and compare it with the parent's."""
        slots = self._audit.slots()
        if not slots:
            return
        began = time.monotonic()
        self._run_all(self._readers(_one_by_one(iter(slots)), self._compare))
        seconds = round(time.monotonic() - began, 4)
        log.info("audited", guest=self._order.guest_name, disk=self._order.target, chunks=len(slots), seconds=seconds)
        if self._differing:
            raise self._differs(f"{len(self._differing)} of {len(slots)} chunks that were looked at have other data")

    def _compare(self, chunk: _Coming, buffer: ChunkBuffer) -> None:
        with self._progress.waiting():
            same = self._writer.is_inherited(chunk.slot, buffer)
        with self._lock:
            self.audited += 1
            if not same:
                self._differing.append(chunk.slot)
        self._progress.add(0, chunk.length)

    def _check_zeros(self, slots: range) -> None:
        """Raises InheritedDiffersError if the parent has data where the export has zeros and nothing says it has changed."""
        if (slot := self._writer.first_inherited(slots)) is not None:
            raise self._differs(f"chunk {slot} reads as zeros now")

    def _differs(self, how: str) -> InheritedDiffersError:
        older = self._order.parent_capture_id or "its older capture"
        return InheritedDiffersError(f"it is not what {older} has of it, although no change was recorded: {how}")

    def _read_again(self) -> None:
        """Read what the repository lacks of all that the index would refer to."""
        with self._progress.waiting():
            slots = self._writer.slots_to_read_again()
            first = next(slots, None)
        if first is None:
            return
        log.warning("reading what the repository lacks", guest=self._order.guest_name, disk=self._order.target)
        self._run_all(self._readers(_one_by_one(itertools.chain([first], slots)), self._write))

    def _look_for_inherited(self) -> None:
        try:
            with self._progress.waiting():
                self._writer.look_for_inherited(self._stopped.is_set)
        except BaseException as error:  # noqa: BLE001  a thread has nobody to raise to; `run` tells
            self.fail(error)

    def _write(self, chunk: _Coming, buffer: ChunkBuffer) -> None:
        with self._progress.waiting():
            self._writer.write_buffer(chunk.slot, buffer)
        self._progress.add(chunk.length, chunk.length)

    def _read(self, next_slot: Callable[[], int | None], take: Callable[[_Coming, ChunkBuffer], None]) -> None:
        try:
            served, note_piece = self._served, self._progress.note_piece
            with DataConnection(served.socket, self._order.target, served.peer, note_piece) as connection:
                lane = _Lane(connection, self._writer)
                coming = self._next(next_slot)
                while not self._stopped.is_set():
                    while coming is not None and lane.has_room and (coming.allowed or lane.is_empty):
                        if not self._wait_for(coming):
                            return
                        lane.begin(coming)
                        coming = self._next(next_slot)
                    if lane.is_empty:
                        return
                    chunk, buffer = lane.complete()
                    take(chunk, buffer)
        except BaseException as error:  # noqa: BLE001  a thread has nobody to raise to; `run` tells
            self.fail(error)

    def _next(self, next_slot: Callable[[], int | None]) -> _Coming | None:
        """The next chunk for a thread."""
        slot = None if self._failure else next_slot()
        if slot is None:
            return None
        length = self._length(slot)
        return _Coming(slot, slot * self._order.chunk_bytes, length, self._bandwidth.take(length))

    def _wait_for(self, coming: _Coming) -> bool:
        """Until the limits allow the chunk; whether nothing has failed meanwhile."""
        if coming.allowed:
            return True
        with self._progress.waiting():  # its own limit, as that of a host with many disks to read, is no silence
            return not self._stopped.wait(coming.not_before - time.monotonic())

    def _slots_to_read(self, export: Export, stretch: range) -> Iterator[int]:
        """Walk over the extents of a stretch; settle on the way what need not be read."""
        chunk_bytes = self._order.chunk_bytes
        extents = export.extents(stretch.start * chunk_bytes, stretch.stop * chunk_bytes)
        for slots, need in chunk_needs(self._counted(extents), export.size_bytes, chunk_bytes, stretch.start):
            if need is ChunkNeed.READ:
                yield from slots
                continue
            if need is ChunkNeed.ZERO and self._order.parent_index is not None:
                self._writer.set_zero(slots.start, len(slots))
            elif need is ChunkNeed.KEEP_ZERO:
                self._check_zeros(slots)
            if need is not ChunkNeed.ZERO:
                self._audit.inherit(slots, data=need is ChunkNeed.KEEP)
            self._progress.add(bytes_of(slots, export.size_bytes, chunk_bytes), 0)

    def _counted(self, extents: Iterator[Extent]) -> Iterator[Extent]:
        for extent in extents:
            self._dirty_bytes += extent.length if extent.dirty else 0
            yield extent

    def _check_size(self, export: Export) -> None:
        if export.size_bytes != self._order.size_bytes:
            raise ExportError(
                f"Disk {self._order.target} of guest {self._order.guest_name} has {export.size_bytes} bytes at the "
                f"instant, and had {self._order.size_bytes} when it was prepared."
            )

    def _length(self, slot: int) -> int:
        return min(self._order.chunk_bytes, self._order.size_bytes - slot * self._order.chunk_bytes)


def _one_by_one(slots: Iterator[int]) -> Callable[[], int | None]:
    """Hand out slots to several threads; None when there is no more."""
    lock = threading.Lock()

    def next_slot() -> int | None:
        with lock:
            return next(slots, None)

    return next_slot


def _bandwidth(host: Host, order: TransferOrder) -> Bandwidth:
    settings = host.settings
    own = None if settings.transfer_limit_mib_s is None else settings.transfer_limit_mib_s * MIB
    shared = None if settings.host_limit_mib_s is None else settings.host_limit_mib_s * MIB
    return Bandwidth.of(slowest(own, order.limit_bytes_s), shared, settings.run_dir / "bandwidth")
