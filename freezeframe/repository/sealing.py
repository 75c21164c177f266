"""Sealing: a chunk in a buffer becomes its envelope there, compressed if that pays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezeframe.repository.chunk import padding_of
from freezeframe.repository.effort import STEPS
from freezeframe.repository.packer import pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezeframe.repository.buffer import ChunkBuffer


def seal(
    buffer: ChunkBuffer, length: int, level: int = STEPS[0], stored_bytes: Callable[[int], int] = int
) -> memoryview:
    """The envelope of the buffer's first `length` bytes, in the buffer.

    `stored_bytes` gives the length of what is stored for an envelope of some length. Raises ValueError for a chunk of no size.
    """
    packed = pack(buffer.chunk(length), level)
    if packed is None:
        return buffer.raw_envelope(length, padding_of(length, stored_bytes))
    return buffer.packed_envelope(packed, length, padding_of(len(packed), stored_bytes))
