"""The commit queue: chunks on their way into a store, several requests at once.

    directory        write_chunk ──▶ │ gathering, < 8 MiB │ ──▶ 4 threads, one batch each ──▶ in the store
                     (any thread)    └──────── all together at most about 48 MiB ────────┘

    object storage   write_chunk ──▶ │ waiting │ ──▶ 64 threads, one chunk each: there? ─▶ no: compress, PUT
                     (any thread)    └──────── all together at most about 64 MiB ────────┘

Where a question takes the time to a server and back the queue's threads ask it, so those that read the disk need not wait. A
writer waits when the queue is full, so memory is bounded by the queue and not by the disk. The first error ends it: what is
queued is dropped, and the error is raised from every later call.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from typing_extensions import Buffer

    from freezeframe.repository.store.backend import Store, Traffic

#: The figures of store/directory.py: the fsyncs of 8 MiB or 64 files overlap with other batches' writes, and four at once
#: hide the wait.
BATCH_BYTES: Final = 8 << 20
BATCH_OBJECTS: Final = 64
BATCHES_AT_ONCE: Final = 4

#: Half as much again as the four hold, so that the transfer goes on while they wait for the device.
QUEUE_BYTES: Final = 48 << 20

#: Where each chunk is a request of its own: so much keeps 16 requests for chunks of 4 MiB under way, and 64 below 1 MiB
#: (docs/bench.md has the curve).
REMOTE_QUEUE_BYTES: Final = 64 << 20


class Limits(NamedTuple):
    """The threads, batches and bytes with which a store is fed."""

    batch_bytes: int
    batch_objects: int
    at_once: int  # batches
    queue_bytes: int


def limits_of(traffic: Traffic) -> Limits:
    """Return how to feed a store with that traffic. Pure."""
    if traffic.remote:
        return Limits(batch_bytes=0, batch_objects=1, at_once=traffic.at_once, queue_bytes=REMOTE_QUEUE_BYTES)
    return Limits(BATCH_BYTES, BATCH_OBJECTS, BATCHES_AT_ONCE, QUEUE_BYTES)


class Queued(NamedTuple):
    """An object, and what is called when its bytes are needed no more."""

    name: str
    make: Callable[[], Buffer | None]  # its bytes; None if it need not be stored. Called by a thread of the queue
    done: Callable[[], None]


class CommitQueue:
    """Objects to be put into `store`. Any thread may call; `flush` or `abandon` ends it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._limits = limits_of(store.traffic)
        self._pool = ThreadPoolExecutor(self._limits.at_once, thread_name_prefix="commit")
        self._changed = threading.Condition()
        self._gathering: list[Queued] = []
        self._gathering_bytes = 0
        self._queued_bytes = 0
        self._error: BaseException | None = None

    def add(self, name: str, data: Buffer, held_bytes: int, done: Callable[[], None] = lambda: None) -> float:
        """Queue an object, whose bytes must not change until `done` is called, if ever it is: not after an error.

        `held_bytes` is the memory that it keeps meanwhile. Waits while the queue is full; for how many seconds. Raises the
        store's errors.
        """
        return self.add_later(name, lambda: data, held_bytes, done)

    def add_later(
        self, name: str, make: Callable[[], Buffer | None], held_bytes: int, done: Callable[[], None] = lambda: None
    ) -> float:
        """As `add`, for an object whose bytes `make` gives to a thread of the queue: None if it need not be stored.

        An error of `make` is one of the queue.
        """
        waited_s = 0.0
        with self._changed:
            if self._queued_bytes >= self._limits.queue_bytes:
                waited_s = self._wait_for_room()
            self._check()
            self._gathering.append(Queued(name, make, done))
            self._gathering_bytes += held_bytes
            self._queued_bytes += held_bytes
            if self._gathering_bytes >= self._limits.batch_bytes or len(self._gathering) >= self._limits.batch_objects:
                self._send()
        return waited_s

    def flush(self) -> None:
        """Wait until everything queued is in the store, to be settled, and end. Raises the store's errors."""
        with self._changed:
            if self._gathering and self._error is None:
                self._send()
        self._pool.shutdown()  # waits; after an error the batches in it end at once
        self._check()

    def fail(self, error: BaseException) -> None:
        """Let every later call raise `error`, if none has failed before."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Drop what is queued, wait for what is at work, and end."""
        self._pool.shutdown(cancel_futures=True)
        self._gathering.clear()

    def _wait_for_room(self) -> float:
        began = time.monotonic()
        # a full queue always has batches at work: what is gathering is far smaller than the queue
        self._changed.wait_for(lambda: self._queued_bytes < self._limits.queue_bytes or self._error is not None)
        return time.monotonic() - began

    def _send(self) -> None:
        batch, size = self._gathering, self._gathering_bytes
        self._gathering, self._gathering_bytes = [], 0
        try:
            future = self._pool.submit(self._put, batch)
        except (
            RuntimeError,
            MemoryError,
        ) as error:  # no thread for it: whoever waits for room, or flushes, must learn of it
            self._error = self._error or error
            self._queued_bytes -= size
            self._changed.notify_all()
            raise
        future.add_done_callback(lambda done: self._ended(done, size))

    def _put(self, batch: list[Queued]) -> None:
        if self._error is not None:  # each batch would wait for the store as long again
            return
        made = [(one.name, one.make()) for one in batch]
        objects = [(name, data) for name, data in made if data is not None]
        if objects and self._error is None:
            self._store.put_many(objects)
        for one in batch:
            one.done()

    def _ended(self, done: Future[None], size: int) -> None:
        error = None if done.cancelled() else done.exception()
        with self._changed:
            self._error = self._error or error
            self._queued_bytes -= size
            self._changed.notify_all()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
