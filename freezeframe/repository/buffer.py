"""Chunk buffers: memory that a chunk is read into, and from which its envelope is stored.

    memory   │ header │ chunk …                               │        │      whole blocks, from a block's beginning on
             │ header │ the same, or packed … │ padding │              │
             0        16
             └──────── the envelope ────────────────────┘

So what does not compress is not copied at all, and what does once. Copying holds the GIL and throws out what the caches had:
for a chunk that does not compress it took as long as its digest.
"""

from __future__ import annotations

import mmap
from collections import deque

from freezeframe.direct import BLOCK_BYTES
from freezeframe.repository.chunk import HEADER_BYTES, packed_header, raw_header


class ChunkBuffer:
    """Room for one chunk of up to `chunk_bytes` bytes."""

    __slots__ = ("_memory",)

    def __init__(self, chunk_bytes: int) -> None:
        # a mapping begins at a page; private, or a process that was forked since would write into it too
        length = -(-(HEADER_BYTES + chunk_bytes) // BLOCK_BYTES) * BLOCK_BYTES
        self._memory = memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def __len__(self) -> int:
        """The memory that it takes, in bytes."""
        return len(self._memory)

    def chunk(self, length: int) -> memoryview:
        """The first `length` bytes of the chunk, to be written or read."""
        return self._memory[HEADER_BYTES : HEADER_BYTES + length]

    def raw_envelope(self, length: int, padding: int) -> memoryview:
        """The envelope of the chunk's first `length` bytes, stored as they are."""
        return self._envelope(raw_header(length), length, padding)

    def packed_envelope(self, packed: bytes, length: int, padding: int) -> memoryview:
        """The envelope of the chunk's first `length` bytes, of which zstd has made `packed`. The chunk is gone then."""
        self.chunk(len(packed))[:] = packed
        return self._envelope(packed_header(length, len(packed)), len(packed), padding)

    def _envelope(self, header: bytes, data_bytes: int, padding: int) -> memoryview:
        end = HEADER_BYTES + data_bytes
        self._memory[:HEADER_BYTES] = header
        self._memory[end : end + padding] = bytes(padding)
        return self._memory[: end + padding]


class ChunkBuffers:
    """Buffers of one size, used again and again. Any thread may call.

    The one that was given back last is taken first: the caches may still have it. As many are kept as were in use at once,
    which the commit queue bounds: to give memory back and take it anew costs more than to write it.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._free: deque[ChunkBuffer] = deque()

    def take(self) -> ChunkBuffer:
        try:
            return self._free.pop()
        except IndexError:
            return ChunkBuffer(self._chunk_bytes)

    def give_back(self, buffer: ChunkBuffer) -> None:
        self._free.append(buffer)
