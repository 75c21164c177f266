"""The progress of a transfer: bytes done, signs that it moves, and its waits for anything but the source at this moment."""

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
    moves: int = 0  # changes with each piece that the source has given, and with each chunk that is done with
    waits: int = 0  # for the repository, or for what limits allow, that have not ended yet
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, done: int, read: int) -> None:
        with self.lock:
            self.bytes_done += done
            self.bytes_read += read
            self.moves += 1

    def note_piece(self) -> None:
        """Note that the source has given something: a large chunk may take long, and many may be on their way."""
        with self.lock:
            self.moves += 1

    def begin_again(self) -> None:
        """Start from nothing: the disk is read in full after all."""
        with self.lock:
            self.bytes_done = self.bytes_read = 0
            self.moves += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Say for the length of a block that the repository is waited for, or a limit, and not the source."""
        with self.lock:
            self.waits += 1
        try:
            yield
        finally:
            with self.lock:
                self.waits -= 1
