"""Disk writers: the way of one disk's bytes into the repository.

    buffer ─▶ zeros? ─▶ SHA-256 ─▶ met? ─▶ in the store? ─▶ seal, protect ─▶ stored ┐
                │                    │           │                                  ├─▶ finish: settle all of their folders,
                └─ hole              └───────────┴─ nothing to store ───────────────┘   then store the index

A chunk counts as known if this writer has met it already, or if the store shows it. The caller's thread asks the store where
that takes no time; object storage is asked by the commit queue's threads, which also seal and store, many at once. What this
writer has queued is stored by `finish`, and its folder settled before the index is stored; so is the folder of what the store
shows, which may be another writer's that has not come to it yet. No writer remembers what an earlier one saw: a chunk that has
been set aside as damaged since must be written anew.

A chunk may be set aside, too, while this writer works, or before, and a clean slot of an incremental refer to it. So when
all has been read the writer says which slots it must be given again, clean or not (`slots_to_read_again`), and only then may
it finish.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from freezeframe.repository.aside import stems_aside
from freezeframe.repository.buffer import ChunkBuffer, ChunkBuffers
from freezeframe.repository.chunk import digest_of_chunk
from freezeframe.repository.commit import CommitQueue
from freezeframe.repository.effort import Effort
from freezeframe.repository.errors import RepositoryError
from freezeframe.repository.inherited import missing_chunks
from freezeframe.repository.layout import folder_of
from freezeframe.repository.outcome import ChunkOutcome, IndexReceipt
from freezeframe.repository.pressure import Pressure
from freezeframe.repository.sealing import seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freezeframe.repository.builder import IndexBuilder
    from freezeframe.repository.index import Index
    from freezeframe.repository.objects import Objects
    from freezeframe.repository.protection import Stored

#: Digests that a writer remembers, about 10 MiB of them. Then it forgets all: the store knows most of them by then, and a
#: chunk that is stored twice is the same chunk.
_REMEMBERED: Final = 1 << 16


class DiskWriter:
    """Writes one disk. A context manager: leaving it without `finish` aborts.

    `write_chunk`, `write_buffer` and `set_zero` may be called by many threads, for different slots, and `look_for_inherited` by
    one beside them; `finish` once they are done. Each of them raises RepositoryFull, RepositoryNotWritable,
    RepositoryNotReadable or TemporaryStorageFailed, the first two also for chunks of earlier calls. After one of these only
    `abort` is left, and no index will be stored.
    """

    def __init__(
        self,
        objects: Objects,
        builder: IndexBuilder,
        effort: Effort | None = None,
        parent: Index | None = None,
    ) -> None:
        """`parent`: the index that the builder's is a copy of; the writer's to close."""
        self._objects = objects
        self._pressure = Pressure(effort or Effort())
        self._builder = builder
        self._queue = CommitQueue(objects.store)
        self._buffers = ChunkBuffers(builder.header.chunk_bytes)
        self._zeros = bytes(builder.header.chunk_bytes)
        self._lock = threading.Lock()
        self._met: set[bytes] = set()
        self._parent = parent
        self._missing: frozenset[bytes] | None = None  # nobody has looked yet
        self._folders_to_settle: set[str] = set()
        self._chunks = dict.fromkeys(ChunkOutcome, 0)
        self._bytes_read = 0
        self._bytes_stored = 0

    def write_chunk(self, slot: int, data: bytes | bytearray | memoryview) -> ChunkOutcome:
        """Write the chunk of a slot: `chunk_bytes` of data, less only in the disk's last slot.

        The data is the caller's again when this returns. Waits while the commit queue is full.
        """
        self._check_slot(slot, len(data))
        buffer = self.take_buffer()
        buffer.chunk(len(data))[:] = data
        return self.write_buffer(slot, buffer)

    def take_buffer(self) -> ChunkBuffer:
        """Memory for `write_buffer`, which takes it back."""
        return self._buffers.take()

    def write_buffer(self, slot: int, buffer: ChunkBuffer) -> ChunkOutcome:
        """Write the chunk of a slot out of a buffer from `take_buffer`, which is not the caller's any more, whatever happens.

        Waits while the commit queue is full.
        """
        length = self._builder.header.slot_bytes(slot)
        try:
            self._pressure.begin()
            outcome = self._write(slot, buffer, length)
            self._pressure.end()
        except BaseException as error:
            # another thread may count on this chunk already, so nothing this writer did may be referred to
            self._queue.fail(error)
            raise
        with self._lock:
            self._bytes_read += length
        self._count(outcome)
        return outcome

    def set_zero(self, slot: int, count: int = 1) -> None:
        """Make `count` slots from `slot` on holes. Only an incremental needs to: all slots of a full begin as holes."""
        try:
            self._builder.set_zero(slot, count)
        except RepositoryError as error:
            self._queue.fail(error)
            raise

    def first_inherited(self, slots: range) -> int | None:
        """Return the first of these slots of which the parent has a chunk; None if it has holes in all of them."""
        return None if self._parent is None else self._parent.table.first_used(slots.start, slots.stop)

    def is_inherited(self, slot: int, buffer: ChunkBuffer) -> bool:
        """Return True if the parent has the data in the buffer for this slot. Takes the buffer back, as `write_buffer` does."""
        if self._parent is None:
            raise ValueError("a full capture inherits nothing")
        plain = buffer.chunk(self._builder.header.slot_bytes(slot))
        inherited = self._parent.digest_at(slot)
        same = self._zeros.startswith(plain) if inherited is None else digest_of_chunk(plain) == inherited
        self._buffers.give_back(buffer)
        return same

    def look_for_inherited(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Look whether the chunks that the parent refers to are there at all, until `stopped` says so.

        For a thread that has nothing to write, while others write: in object storage it takes seconds. If nobody does it
        `slots_to_read_again` will. Raises RepositoryNotReadable.
        """
        self._missing = missing_chunks(self._objects, self._parent, stopped=stopped) if self._parent else frozenset()

    def slots_to_read_again(self) -> Iterator[int]:
        """Slots whose chunk is set aside or missing, and not written anew; to be given to `write_chunk` before `finish`.

        To be asked for when all other slots are written. Later slots of the same chunk are left out once it is written.
        Raises RepositoryNotReadable.
        """
        if self._missing is None:
            self.look_for_inherited()
        missing = self._missing or frozenset()
        aside = stems_aside(self._objects)
        if not aside and not missing:
            return
        locate = self._objects.protection.locate
        there: dict[bytes, bool] = {}
        for slot, digest in self._builder.used_slots():
            name = locate(digest)
            if digest not in missing and name.rpartition("/")[2] not in aside:
                continue
            if digest not in there:
                there[digest] = self._is_there(name, digest)
            elif not there[digest]:
                with self._lock:
                    there[digest] = digest in self._met
            if not there[digest]:
                yield slot

    def finish(self) -> IndexReceipt:
        """Settle all chunks, each folder once, then the index. Only then may anybody be told of it."""
        self._queue.flush()
        self._objects.store.settle(self._folders_to_settle)
        digest, index_bytes = self._builder.store(self._objects)
        self.abort()
        return IndexReceipt(
            digest=digest.hex(),
            size_bytes=self._builder.header.size_bytes,
            chunk_bytes=self._builder.header.chunk_bytes,
            chunks_new=self._chunks[ChunkOutcome.NEW],
            chunks_known=self._chunks[ChunkOutcome.KNOWN],
            bytes_read=self._bytes_read,
            bytes_stored=self._bytes_stored + index_bytes,
        )

    def abort(self) -> None:
        """End without an index; chunks that are stored stay, for the next capture. Nothing after `finish` or itself."""
        self._queue.abandon()
        self._builder.close()
        if self._parent:
            self._parent.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _check_slot(self, slot: int, length: int) -> None:
        header = self._builder.header
        if not 0 <= slot < header.slots or length != header.slot_bytes(slot):
            raise ValueError(f"{length} bytes for slot {slot} of {header.slots}, {header.chunk_bytes} bytes each")

    def _write(self, slot: int, buffer: ChunkBuffer, length: int) -> ChunkOutcome:
        plain = buffer.chunk(length)
        if self._zeros.startswith(plain):  # at 40 GB/s; a memoryview compares itself at 0.3
            self._buffers.give_back(buffer)
            self._builder.set_zero(slot)
            return ChunkOutcome.HOLE
        digest = digest_of_chunk(plain)
        name = self._objects.protection.locate(digest)
        if self._is_first(digest, name):
            outcome = self._queue_chunk(name, buffer, length)
        else:
            self._buffers.give_back(buffer)
            outcome = ChunkOutcome.KNOWN
        self._builder.set(slot, digest)
        return outcome

    def _queue_chunk(self, name: str, buffer: ChunkBuffer, length: int) -> ChunkOutcome:
        """Store a chunk that this writer meets for the first time, if the store does not show it."""
        if self._objects.store.traffic.remote:
            make = partial(self._made_in_queue, name, buffer, length)
            waited_s = self._queue.add_later(name, make, len(buffer), partial(self._buffers.give_back, buffer))
            self._pressure.waited(waited_s)
            return ChunkOutcome.QUEUED
        if self._objects.has_chunk(name):
            self._buffers.give_back(buffer)
            return ChunkOutcome.KNOWN
        self._store_chunk(name, buffer, length)
        return ChunkOutcome.NEW

    def _made_in_queue(self, name: str, buffer: ChunkBuffer, length: int) -> Stored | None:
        """Return the stored form of a chunk; None if the store shows it. For a thread of the queue."""
        if self._objects.has_chunk(name):
            self._count(ChunkOutcome.KNOWN)
            return None
        stored = self._stored_form(name, buffer, length)
        self._count(ChunkOutcome.NEW)
        return stored

    def _is_first(self, digest: bytes, name: str) -> bool:
        """Return True if this writer meets the chunk for the first time; its folder is to be settled, whoever has stored it."""
        with self._lock:
            if digest in self._met:
                return False
            if len(self._met) >= _REMEMBERED:
                self._met.clear()
            self._met.add(digest)
            self._folders_to_settle.add(folder_of(name))
            return True

    def _is_there(self, name: str, digest: bytes) -> bool:
        """Return True if the store shows the chunk now; if not, it is written when it is met again."""
        is_there = self._objects.has_chunk(name)
        with self._lock:
            if is_there:
                self._folders_to_settle.add(folder_of(name))
            else:
                self._met.discard(digest)
        return is_there

    def _store_chunk(self, name: str, buffer: ChunkBuffer, length: int) -> None:
        stored = self._stored_form(name, buffer, length)
        if isinstance(stored, memoryview):  # the envelope itself, in the buffer
            waited_s = self._queue.add(name, stored, len(buffer), partial(self._buffers.give_back, buffer))
        else:
            self._buffers.give_back(buffer)
            waited_s = self._queue.add(name, stored, len(stored))
        self._pressure.waited(waited_s)

    def _stored_form(self, name: str, buffer: ChunkBuffer, length: int) -> Stored:
        """Return the bytes that are to be stored for a chunk: in the buffer, unless it is encrypted."""
        protection = self._objects.protection
        stored = protection.protect(name, seal(buffer, length, self._pressure.level, protection.stored_bytes))
        with self._lock:
            self._bytes_stored += len(stored)
        return stored

    def _count(self, outcome: ChunkOutcome) -> None:
        with self._lock:
            self._chunks[outcome] += 1
