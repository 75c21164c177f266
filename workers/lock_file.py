"""Lock files: one caller at a time, of all threads and processes of the host. The kernel drops the lock of one that dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

#: Seconds between two tries for a lock that another has.
LOOK_S = 0.05


@contextmanager
def locked(path: Path, patience_s: float | None) -> Iterator[None]:
    """Hold the lock within the block. Raises BlockingIOError if another has it for longer than `patience_s`.

    None waits as long as it takes.
    """
    with path.open("w") as file:
        if patience_s is None:
            flock(file, LOCK_EX)
        else:
            _lock_within(file.fileno(), patience_s)
        yield


def _lock_within(descriptor: int, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(LOOK_S)
        else:
            return
