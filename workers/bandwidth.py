"""Bandwidth: what transfers may read from guests' disks, each and all of a host together.

    reading thread ──take(chunk)──▶ this transfer's bucket   in memory, between its threads
                                └─▶ the host's bucket        in run_dir/bandwidth, between its data processes
                    ◀──from when on they may be read──

The host's bucket is a file of a few bytes under a lock that is held for a read and a write of it: no process serves it, and one
that dies leaves nothing but what it took. It is in terms of CLOCK_MONOTONIC, the same for all processes until the next boot, so
the boot's id is kept beside it. Nothing here is called while a guest is held.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from workers.bucket import Rate, take

#: What may come at once: enough that the threads of a transfer do not take turns, little enough to be no burst to a disk.
BURST_S = 0.25
MIB = 1 << 20

_FILE = struct.Struct("<36sd")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Bucket(Protocol):
    """Any thread may take. From when on these bytes may be read, by the clock that the bucket looked at: whoever looked at
    it once more to add what is to be waited would be let through too early or too late.
    """

    def take(self, count: int) -> float: ...


class OwnBucket:
    """One transfer's."""

    def __init__(self, bytes_s: float, clock: Callable[[], float] | None = None) -> None:
        self._rate = Rate(bytes_s, int(bytes_s * BURST_S))
        self._clock = clock or time.monotonic
        self._lock = threading.Lock()
        self._full_at_s = self._clock()

    def take(self, count: int) -> float:
        with self._lock:
            self._full_at_s, not_before = take(self._full_at_s, count, self._clock(), self._rate)
            return not_before


class SharedBucket:
    """The host's, in a file. Raises OSError where that cannot be used."""

    def __init__(self, path: Path, bytes_s: float, clock: Callable[[], float] | None = None) -> None:
        self._path = path
        self._rate = Rate(bytes_s, int(bytes_s * BURST_S))
        self._clock = clock or time.monotonic
        self._boot = _BOOT_ID.read_bytes().strip().ljust(36)[:36]

    def take(self, count: int) -> float:
        # a descriptor a take: flock(2) is between open files, so threads of one process exclude each other too
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            full_at_s, not_before = take(self._full_at_s(descriptor), count, self._clock(), self._rate)
            os.pwrite(descriptor, _FILE.pack(self._boot, full_at_s), 0)
        finally:
            os.close(descriptor)
        return not_before

    def _full_at_s(self, descriptor: int) -> float:
        """Of this boot; what is left of another, or cut short, says nothing."""
        stored = os.pread(descriptor, _FILE.size, 0)
        if len(stored) < _FILE.size:
            return self._clock()
        boot, full_at_s = _FILE.unpack(stored)
        return full_at_s if boot == self._boot else self._clock()


class Bandwidth:
    """All limits that hold for one transfer."""

    def __init__(self, buckets: list[Bucket]) -> None:
        self._buckets = buckets

    @classmethod
    def of(cls, transfer_bytes_s: float | None, host_bytes_s: float | None, shared: Path) -> Bandwidth:
        """`shared`: where the host's bucket is."""
        buckets: list[Bucket] = []
        if transfer_bytes_s is not None:
            buckets.append(OwnBucket(transfer_bytes_s))
        if host_bytes_s is not None:
            buckets.append(SharedBucket(shared, host_bytes_s))
        return cls(buckets)

    def take(self, count: int) -> float:
        """From when on (monotonic clock) `count` bytes may be read: when the slowest of the buckets allows it."""
        if not self._buckets:
            return 0.0
        return max(bucket.take(count) for bucket in self._buckets)


def slowest(*limits_bytes_s: float | None) -> float | None:
    """The limit that counts where there are several; None if there is none."""
    return min((limit for limit in limits_bytes_s if limit is not None), default=None)
