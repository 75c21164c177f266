"""What a disk is poured into, to those who pour: an image, a block device or an NBD export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

#: Ways to one disk. Each thread fetches, verifies and writes; more than 4 do not pay on 2 cores. Where the repository is in
#: object storage more threads share them (`pour.py`).
LANES: Final = 4


class Lane(Protocol):
    """A way to a destination, for any number of threads; offsets are the disk's. Raises RestoreError."""

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of `data`, which lies within one chunk."""

    def zero(self, offset: int, length: int) -> None:
        """Let the range read as zeros, without storing them where that can be had."""

    def read(self, offset: int, length: int) -> bytes:
        """What is there; fewer bytes than `length` only beyond the end. The range lies within one chunk."""

    def keep(self, offset: int, length: int) -> None:
        """What is there is data of the disk, and stays."""


class Destination(Protocol):
    """Where one disk goes, opened for writing."""

    @property
    def lanes(self) -> Sequence[Lane]: ...

    @property
    def mark(self) -> int:
        """Up to here an earlier restore of the same disk has made it durable, in bytes of the disk."""

    @property
    def blank_from(self) -> int:
        """From here on reads as zeros what is never written: holes there need no `zero`."""

    def sync(self) -> None:
        """When this returns, all that was written before the call is durable."""

    def advance(self, mark: int) -> None:
        """Remember durably that everything below `mark` is durable."""
