"""Disk readers: a disk's bytes back from the repository, in order, every chunk verified.

index ──▶ │ a │ b │ . . . . │ c │        yields (0, a) (1, b) (2 … 5, None) (6, c)
└───┴── window ───┘          chunks being fetched by threads while the first is used
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from freezeframe.repository.errors import ChunkDamaged
from freezeframe.repository.index import Index, load_index
from freezeframe.repository.lanes import lanes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from freezeframe.repository.header import IndexHeader
    from freezeframe.repository.objects import Objects

#: What may be fetched ahead of the reader, in bytes of the disk.
_WINDOW_BYTES: Final = 32 << 20


@dataclass(frozen=True)
class Extent:
    """A piece of a disk. `data` is None for a hole, which may span many slots; else it is one chunk."""

    offset: int
    length: int
    data: bytes | None


class DiskReader:
    """One disk of a capture. A context manager; `for extent in reader` gives all of it, without gaps, in order.

    Raises IndexDamaged when it is made, ChunkDamaged and RepositoryNotReadable while it is read.
    """

    def __init__(self, objects: Objects, index_digest: bytes) -> None:
        self._objects = objects
        self._index: Index = load_index(objects, index_digest)
        self._pool = ThreadPoolExecutor(self.lanes, thread_name_prefix="read-ahead")

    @property
    def header(self) -> IndexHeader:
        return self._index.header

    @property
    def is_remote(self) -> bool:
        """Return True if each chunk takes the time to a server and back."""
        return self._objects.store.traffic.remote

    @property
    def lanes(self) -> int:
        """Return the number of chunks that are worth reading at once."""
        return lanes(self._objects.store.traffic, self.header.chunk_bytes)

    def __iter__(self) -> Iterator[Extent]:
        """Extents from offset 0 to the disk's size."""
        end = 0
        for slot, data in self._chunks():
            offset = slot * self.header.chunk_bytes
            if end < offset:
                yield Extent(end, offset - end, None)
            yield Extent(offset, len(data), data)
            end = offset + len(data)
        if end < self.header.size_bytes:
            yield Extent(end, self.header.size_bytes - end, None)

    def used_slots(self) -> Iterator[tuple[int, bytes]]:
        """Every slot that has a chunk, with the chunk's digest, in order. Not for two threads at once."""
        return self._index.used_slots()

    def read_slot(self, slot: int) -> bytes | None:
        """The chunk of one slot; None for a hole. Any thread may call. Raises IndexError beyond the disk."""
        digest = self._index.digest_at(slot)
        return None if digest is None else self._fetch(slot, digest)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _chunks(self) -> Iterator[tuple[int, bytes]]:
        """Every chunk with its slot, in order, fetched ahead within the window."""
        window = max(self.lanes, _WINDOW_BYTES // self.header.chunk_bytes)
        ahead: deque[tuple[int, Future[bytes]]] = deque()
        try:
            for slot, digest in self._index.used_slots():
                if len(ahead) == window:
                    first, future = ahead.popleft()
                    yield first, future.result()
                ahead.append((slot, self._pool.submit(self._fetch, slot, digest)))
            while ahead:
                first, future = ahead.popleft()
                yield first, future.result()
        finally:
            for _, future in ahead:
                future.cancel()

    def _fetch(self, slot: int, digest: bytes) -> bytes:
        data = self._objects.chunk(digest)
        if len(data) != self.header.slot_bytes(slot):
            raise ChunkDamaged(f"Chunk {digest.hex()} has {len(data)} bytes, too many or too few for slot {slot}.")
        return data
