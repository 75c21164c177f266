"""Images: what a restored disk is as a file. Both kinds are written by threads at once, in any order, and are sparse.

                   place of a byte of the disk                 what is written at the end
raw                where it is                                 nothing
qcow2              see qcow2.py; known before the first write  header, tables, reference counts
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Protocol

from workers.restore.descriptor import Descriptor
from workers.restore.destination import LANES, Lane


class ImageFormat(StrEnum):
    """What a disk can be restored to."""

    QCOW2 = "qcow2"
    RAW = "raw"


class Layout(Protocol):
    """Where the bytes of a disk are in an image's file."""

    @property
    def file_bytes(self) -> int:
        """How long the file is."""

    def place(self, offset: int) -> int:
        """Where a byte of a chunk is; of any other byte, where the next chunk's first is."""

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """A range as (place, length) in the file, without what has no place in it."""

    def note(self, offset: int, length: int) -> None:
        """A range of data was written, or may have been. By any thread."""

    def closing(self) -> Iterable[tuple[int, bytes]]:
        """What is still to be written when all data is there, each with its place."""


class RawLayout:
    """Byte for byte."""

    def __init__(self, size_bytes: int) -> None:
        self.file_bytes = size_bytes

    def place(self, offset: int) -> int:
        return offset

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        yield offset, length

    def note(self, offset: int, length: int) -> None:
        """Nothing is kept about it."""

    def closing(self) -> Iterable[tuple[int, bytes]]:
        return ()


class Image:
    """A destination: a file with a layout. `mark` is 0 for a new one.

    Raises TargetFullError, TargetNotWritableError.
    """

    def __init__(self, descriptor: Descriptor, layout: Layout, mark: int, advance: Callable[[int], None]) -> None:
        self.mark = self.blank_from = mark
        self.advance = advance
        self._layout = layout
        self._descriptor = descriptor
        self.lanes: Sequence[Lane] = [self] * LANES
        # what lies beyond the mark may be anything: cut off, and long again, it reads as zeros
        descriptor.truncate(layout.place(mark) if mark else 0)
        descriptor.truncate(layout.file_bytes)

    def write(self, offset: int, data: memoryview) -> None:
        self._layout.note(offset, len(data))
        self._descriptor.write(self._layout.place(offset), data)

    def zero(self, offset: int, length: int) -> None:
        for place, piece in self._layout.pieces(offset, length):
            self._descriptor.zero(place, piece)

    def read(self, offset: int, length: int) -> bytes:
        return self._descriptor.read(self._layout.place(offset), length)

    def keep(self, offset: int, length: int) -> None:
        """Take a range as it is, from an earlier restore."""
        self._layout.note(offset, length)

    def sync(self) -> None:
        self._descriptor.sync()

    def close(self) -> None:
        """Write what the layout has to say; the file is whole then, and not yet durable."""
        for place, data in self._layout.closing():
            self._descriptor.write(place, memoryview(data))
