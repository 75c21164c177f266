"""Chunks on their way from one repository into another: several are read at once, and several stored.

    digests ─▶ threads: there? ─ no ─▶ read, verified ─▶ commit queue ─▶ stored
               └─ 64 at most, 32 MiB ─┘                  └─ 64 MiB ─┘

What is sent is what is stored at the source: nothing is compressed or sealed anew.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from freezeframe.repository.commit import CommitQueue
from freezeframe.repository.errors import ChunkDamaged, IndexDamaged, NewerFormat, RepositoryNotReadable
from freezeframe.repository.lanes import lanes
from freezeframe.repository.layout import folder_of
from freezeframe.repository.refusal import check_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from freezeframe.repository.errors import RepositoryError
    from freezeframe.repository.repository import Repository

ResultT = TypeVar("ResultT")

#: Digests that are remembered, about 10 MiB of them, so that a chunk of many slots is asked for once.
_REMEMBERED: Final = 1 << 16
#: Chunks on their way for each thread: none waits for a slow one.
_WINDOW: Final = 2


class CaptureError(Exception):
    """An object of one side, the source's or the copy's, cannot be used. That costs the capture, and no other."""

    def __init__(self, error: RepositoryError, address: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.address = address  # of that side


class ChunkCopier:
    """Copies chunks that the copy lacks. One of its methods at a time; `threads` 0: in the caller's."""

    def __init__(self, source: Repository, copy: Repository, threads: int | None = None) -> None:
        self._source = source
        self._copy = copy
        self._threads = threads
        self._lock = threading.Lock()
        self.copied = 0
        self.known = 0
        self.bytes_copied = 0

    def send(self, digests: Iterable[bytes], chunk_bytes: int, tell: Callable[[], None]) -> None:
        """Copy chunks; all of them are settled when this returns. `tell` is called now and then, in this thread.

        Raises CaptureError for the first that cannot be copied; what was read before that is stored.
        """
        queue, folders = CommitQueue(self._copy.store), set[str]()
        try:
            try:
                self._send(queue, folders, digests, chunk_bytes, tell)
            except CaptureError:
                queue.flush()
                raise
            queue.flush()
        finally:
            queue.abandon()
        self._copy.store.settle(folders)

    def _send(
        self,
        queue: CommitQueue,
        folders: set[str],
        digests: Iterable[bytes],
        chunk_bytes: int,
        tell: Callable[[], None],
    ) -> None:
        threads = self._lanes(chunk_bytes) if self._threads is None else self._threads
        met: set[bytes] = set()
        ahead: deque[Future[None]] = deque()
        locate = self._copy.objects.protection.locate
        with ThreadPoolExecutor(threads or 1, thread_name_prefix="copy") as pool:
            try:
                for digest in digests:
                    if digest in met:
                        continue
                    if len(met) >= _REMEMBERED:
                        met.clear()
                    met.add(digest)
                    name = locate(digest)
                    folders.add(folder_of(name))
                    if not threads:
                        self._send_one(queue, name, digest)
                        continue
                    if len(ahead) == threads * _WINDOW:
                        ahead.popleft().result()
                        tell()
                    ahead.append(pool.submit(self._send_one, queue, name, digest))
                while ahead:
                    ahead.popleft().result()
                    tell()
            finally:
                pool.shutdown(cancel_futures=True)

    def _lanes(self, chunk_bytes: int) -> int:
        """Return the number of threads: as many as the side wants that is farther away."""
        return max(lanes(one.store.traffic, chunk_bytes) for one in (self._source, self._copy))

    def _send_one(self, queue: CommitQueue, name: str, digest: bytes) -> None:
        if read_alone(self._copy, lambda: self._copy.objects.has_chunk(name)):
            with self._lock:
                self.known += 1
            return
        stored = read_alone(self._source, lambda: self._source.objects.stored_chunk(digest))
        queue.add(name, stored, len(stored))
        with self._lock:
            self.copied += 1
            self.bytes_copied += len(stored)


def read_alone(side: Repository, read: Callable[[], ResultT]) -> ResultT:
    """Return what `read` reads of the source or the copy. Raises CaptureError if one object cannot be read, while others can.

    Raises RepositoryNotReadable if that side is away.
    """
    try:
        return read()
    except (ChunkDamaged, IndexDamaged, NewerFormat) as error:
        raise CaptureError(error, side.address) from error
    except RepositoryNotReadable as error:
        check_alone(side.store, error)
        raise CaptureError(error, side.address) from error
