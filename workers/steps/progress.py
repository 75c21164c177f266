"""The progress of a transfer: bytes done, and calls that wait for the repository at this moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Progress:
    """Written by a transfer's threads, read by its reporter."""

    bytes_total: int
    bytes_done: int = 0
    bytes_read: int = 0
    at_repository: int = 0  # calls of the repository that have not come back yet
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, done: int, read: int) -> None:
        with self.lock:
            self.bytes_done += done
            self.bytes_read += read

    def begin_again(self) -> None:
        """Start from nothing: the disk is read in full after all."""
        with self.lock:
            self.bytes_done = self.bytes_read = 0

    @contextmanager
    def asking_repository(self) -> Iterator[None]:
        """Say for the length of a block that the repository is waited for, and not the source."""
        with self.lock:
            self.at_repository += 1
        try:
            yield
        finally:
            with self.lock:
                self.at_repository -= 1
