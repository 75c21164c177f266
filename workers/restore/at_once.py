"""Several disks at once: while one waits for its last sync, or for the repository, another goes on.

    disks   a ─────────▶ c ──────▶ …        two at once, LANES threads each
            b ──────────────▶ d ──▶ …
    guests  as soon as all disks of one are whole, in the plan's order

The first failure lets those that are at work go on to their end, and begins no other. An interrupt stops all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Final, Self

from freezeframe.errors import FreezeframeError
from workers.restore.disk import DiskPart
from workers.restore.plan import GuestPart
from workers.restore.report import RestoredDisk

#: Memory is a chunk a thread and disk, so this bounds it: with chunks of 1 MiB less than 20 MiB, with the largest ones 300 MiB;
#: from object storage 32 MiB of chunks a disk at least, twice for a moment.
AT_ONCE: Final = 2


class DisksAtOnce:
    """A context manager: disks are begun when it is entered, and none is at work when it is left."""

    def __init__(
        self,
        parts: Sequence[GuestPart],
        restore: Callable[[DiskPart, threading.Event], RestoredDisk],
        whole: list[str],
    ) -> None:
        self._parts = parts
        self._restore = restore
        self._whole = whole
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="restore-disk")
        self._begun: dict[DiskPart, Future[RestoredDisk]] = {}

    def wait_for(self, part: GuestPart) -> tuple[RestoredDisk, ...]:
        """What became of a guest's disks. Raises the first failure of any disk, unless all of this guest's are whole."""
        mine = [self._begun[disk] for disk in part.disks]
        wait(mine)
        if self._failure is not None and any(future.exception() for future in mine):
            raise self._failure
        return tuple(future.result() for future in mine)

    def __enter__(self) -> Self:
        try:
            self._begun = {disk: self._pool.submit(self._one, disk) for part in self._parts for disk in part.disks}
        except BaseException:  # there is no thread: none may be at work on a destination that nobody waits for
            self._stop.set()
            self._pool.shutdown(cancel_futures=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, FreezeframeError):
            self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def _one(self, disk: DiskPart) -> RestoredDisk:
        if self._failure is not None:
            raise self._failure
        try:
            done = self._restore(disk, self._stop)
        except BaseException as error:
            self._fail(error)
            raise
        self._whole.append(disk.where)
        return done

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
