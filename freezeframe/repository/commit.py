"""The commit queue: chunks on their way into a store, gathered into batches, several batches at once.

        write_chunk ──▶ │ gathering, < 8 MiB │ ──▶ 4 threads, one batch each ──▶ settled
        (any thread)    └──────── all together at most about 64 MiB ────────┘

A writer waits when the queue is full, so memory is bounded by the queue and not by the disk. The first error ends it: what
is queued is dropped, and the error is raised from every later call.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from concurrent.futures import Future

    from freezeframe.repository.store.backend import Store

#: The figures of store/directory.py: 8 MiB or 64 files share the fsync of their folders, and four at once hide the wait.
BATCH_BYTES: Final = 8 << 20
BATCH_OBJECTS: Final = 64
BATCHES_AT_ONCE: Final = 4

#: Twice what the four hold, so that the transfer goes on while they wait for the device.
QUEUE_BYTES: Final = 64 << 20


class CommitQueue:
    """Objects to be settled in `store`. Any thread may call; `flush` or `abandon` ends it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(BATCHES_AT_ONCE, thread_name_prefix="commit")
        self._changed = threading.Condition()
        self._gathering: list[tuple[str, bytes | bytearray]] = []
        self._gathering_bytes = 0
        self._queued_bytes = 0
        self._batches = 0
        self._error: BaseException | None = None

    def add(self, name: str, data: bytes | bytearray) -> None:
        """Queue an object, whose bytes must not change. Waits while the queue is full. Raises the store's errors."""
        with self._changed:
            # a full queue always has batches at work: what is gathering is far smaller than the queue
            self._changed.wait_for(lambda: self._queued_bytes < QUEUE_BYTES or self._error is not None)
            self._check()
            self._gathering.append((name, data))
            self._gathering_bytes += len(data)
            self._queued_bytes += len(data)
            if self._gathering_bytes >= BATCH_BYTES or len(self._gathering) >= BATCH_OBJECTS:
                self._send()

    def flush(self) -> None:
        """Wait until everything queued is settled, and end. Raises the store's errors."""
        with self._changed:
            if self._gathering and self._error is None:
                self._send()
            self._changed.wait_for(lambda: self._batches == 0)
        self._pool.shutdown()
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

    def _send(self) -> None:
        batch, size = self._gathering, self._gathering_bytes
        self._gathering, self._gathering_bytes = [], 0
        self._batches += 1
        self._pool.submit(self._store.put_many, batch).add_done_callback(lambda done: self._settled(done, size))

    def _settled(self, done: Future[None], size: int) -> None:
        error = None if done.cancelled() else done.exception()
        with self._changed:
            self._error = self._error or error
            self._queued_bytes -= size
            self._batches -= 1
            self._changed.notify_all()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
