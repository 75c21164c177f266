"""Marks: the chunks, or the indexes, that captures refer to, each once, by the folder that it is stored in.

 digests ─▶ 256 bins by the first byte ─▶ each distinct one ──── plain ─────▶ by folder: the first byte of the digest
            (blocks of a temporary file)                   └─ encrypted ─▶ its key ─▶ 256 bins of key and digest ─▶ by folder

A *key* is the 32 bytes in an object's name: the digest itself, or in an encrypted repository an HMAC of it. That takes longer
than all else here, so it is made once for each distinct digest. A bin that has grown to twice its distinct digests is rid of
repetitions, if a sample has many, and its blocks are used again.

Memory: 20 MiB of buffers and one bin, 200 bytes for each of its digests; a bin has a 256th of all. Temporary file: at most 64
bytes for each distinct digest, a tenth more by chance, and 1 MiB a bin.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import BinaryIO, Final, Self, cast

from freezeframe.repository.layout import DIGEST_BYTES
from freezeframe.repository.temporary import failed, read_all, temporary_file, write_all

_BLOCK_BYTES: Final = 16 << 10  # and a buffer for each of the 256: 4 MiB together
_LEAST_BYTES: Final = 1 << 20  # a bin of less is left as it is
#: A bin of which so much is distinct is left, too: being rid of repetitions takes 0.5 µs a digest, and those that follow cost
#: more, since memory that a set has given back lies about. An eighth of repetitions is not worth that (docs/bench.md).
_MOSTLY: Final = 3 / 4
_SAMPLE_LEAST: Final = 64  # of a bin of 1 MiB it is 128, by chance
_GATHERED: Final = 1 << 15  # records, before they are appended to the bins' buffers: one join for each 256 of them
_BINS: Final = 256
_DIGEST: Final = struct.Struct(f"{DIGEST_BYTES}s")
_KEY_AND_DIGEST: Final = struct.Struct(f"{DIGEST_BYTES}s{DIGEST_BYTES}s")


class Marks:
    """A context manager. Add all digests, then ask. `only`: the folders, by number, that will be asked for.

    `key_of` makes keys of digests; None if a digest is its own key. Raises TemporaryStorageFailed.
    """

    def __init__(self, key_of: Callable[[bytes], bytes] | None, only: Collection[int] = range(_BINS)) -> None:
        self._key_of = key_of
        self._only = only
        self._blocks = _Blocks()
        self._digests = _Bins(self._blocks, only if key_of is None else range(_BINS))
        self._named: _Bins | None = None

    def add(self, digests: Sequence[bytes]) -> None:
        """Mark these digests. The digest of a hole is none."""
        assert self._named is None  # noqa: S101  nothing is added once keys were asked for
        self._digests.add(digests)

    def keys(self, folder: int) -> set[bytes]:
        """Return the keys of all marked objects in that folder."""
        if self._key_of is None:
            return self._digests.distinct(folder)
        return {key for key, _ in self._pairs(folder)}

    def digests(self, folder: int) -> set[bytes]:
        """Return the digests of all marked objects in that folder."""
        if self._key_of is None:
            return self._digests.distinct(folder)
        return {digest for _, digest in self._pairs(folder)}

    def digests_by_key(self, folder: int) -> dict[bytes, bytes]:
        """Return all marked objects in that folder."""
        if self._key_of is None:
            digests = self._digests.distinct(folder)
            return dict(zip(digests, digests, strict=True))
        return dict(self._pairs(folder))

    def count(self) -> int:
        """Return the number of marked objects in all folders."""
        if self._key_of is None:
            return sum(len(self._digests.distinct(folder)) for folder in self._only)
        return self._all_named().all_bytes // _KEY_AND_DIGEST.size

    @property
    def file_bytes(self) -> int:
        return self._blocks.end

    def close(self) -> None:
        self._blocks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pairs(self, folder: int) -> Iterator[tuple[bytes, bytes]]:
        return cast("Iterator[tuple[bytes, bytes]]", self._all_named().records(folder, _KEY_AND_DIGEST))

    def _all_named(self) -> _Bins:
        """Make the key of each distinct digest, once. Each bin of digests gives its blocks back for what comes of it."""
        if self._named is None:
            assert self._key_of is not None  # noqa: S101  else a digest is its own key
            self._named = _Bins(self._blocks, self._only)
            for first in range(_BINS):
                self._name(self._digests.take(first), self._key_of, self._named)
        return self._named

    @staticmethod
    def _name(digests: Iterable[bytes], key_of: Callable[[bytes], bytes], named: _Bins) -> None:
        rest = iter(digests)
        while some := [key_of(digest) + digest for digest in islice(rest, _GATHERED)]:
            named.add(some, distinct=True)


class _Blocks:
    """Blocks of one temporary file, by their places; those that are given back are taken first.

    Each has a checksum: garbage collection deletes what is not marked, so nothing that the device has lost may be missed.
    """

    def __init__(self) -> None:
        self.end = 0
        self._checksums: dict[int, int] = {}
        self._free: list[int] = []
        self._file: BinaryIO | None = None

    def write(self, data: bytes | bytearray) -> int:
        place = self._free.pop() if self._free else self.end
        self.end = max(self.end, place + len(data))
        if self._file is None:
            self._file = temporary_file()
        write_all(self._file, data, place)
        self._checksums[place] = zlib.crc32(data)
        return place

    def read(self, place: int) -> bytes:
        assert self._file is not None  # noqa: S101  a place is of a block that was written
        data = read_all(self._file, _BLOCK_BYTES, place)
        if zlib.crc32(data) != self._checksums[place]:
            raise failed("it has other bytes than were written")
        return data

    def give_back(self, places: list[int]) -> None:
        self._free += places

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Bins:
    """Records of one length, by their first byte; those that are not `wanted` are left out."""

    def __init__(self, blocks: _Blocks, wanted: Collection[int]) -> None:
        self._bins = {first: _Bin(blocks) for first in wanted}
        self._lists: list[list[bytes]] = [[] for _ in range(_BINS)]
        self._appends = [one.append for one in self._lists]
        self._gathered = 0

    def add(self, records: Sequence[bytes], *, distinct: bool = False) -> None:
        """Add records. `distinct`: none of them is added twice."""
        appends = self._appends
        for record in records:
            appends[record[0]](record)
        self._gathered += len(records)
        if self._gathered >= _GATHERED:
            self._empty_lists(distinct=distinct)

    @property
    def all_bytes(self) -> int:
        self._empty_lists(distinct=True)
        return sum(one.all_bytes for one in self._bins.values())

    def distinct(self, first: int) -> set[bytes]:
        """Return the digests that begin with that byte."""
        self._empty_lists(distinct=True)
        return self._bins[first].distinct()

    def take(self, first: int) -> set[bytes]:
        """Return the digests that begin with that byte, and forget them."""
        found = self.distinct(first)
        self._bins[first].clear()
        return found

    def records(self, first: int, record: struct.Struct) -> Iterator[tuple[bytes, ...]]:
        self._empty_lists(distinct=True)
        return self._bins[first].records(record)

    def _empty_lists(self, *, distinct: bool) -> None:
        if not self._gathered:
            return
        for first, records in enumerate(self._lists):
            if records and first in self._bins:
                self._bins[first].add(b"".join(records), distinct=distinct)
            records.clear()
        self._gathered = 0


class _Bin:
    """Records with one first byte: whole blocks in the file, the rest in memory."""

    def __init__(self, blocks: _Blocks) -> None:
        self._blocks = blocks
        self._buffer = bytearray()
        self._places: list[int] = []
        self._distinct_bytes = 0  # when it was last without repetitions

    def add(self, records: bytes, *, distinct: bool) -> None:
        self._buffer += records
        while len(self._buffer) >= _BLOCK_BYTES:
            self._places.append(self._blocks.write(self._buffer[:_BLOCK_BYTES]))
            del self._buffer[:_BLOCK_BYTES]
        if not distinct and len(self._places) * _BLOCK_BYTES > max(_LEAST_BYTES, 2 * self._distinct_bytes):
            self._take_stock()

    @property
    def all_bytes(self) -> int:
        return len(self._places) * _BLOCK_BYTES + len(self._buffer)

    def records(self, record: struct.Struct) -> Iterator[tuple[bytes, ...]]:
        for place in self._places:
            yield from record.iter_unpack(self._blocks.read(place))
        yield from record.iter_unpack(bytes(self._buffer))

    def distinct(self) -> set[bytes]:
        found: set[bytes] = set()
        for place in self._places:
            found.update(chain.from_iterable(_DIGEST.iter_unpack(self._blocks.read(place))))
        found.update(chain.from_iterable(_DIGEST.iter_unpack(bytes(self._buffer))))
        return found

    def clear(self) -> None:
        self._blocks.give_back(self._places)
        self._places = []
        self._buffer.clear()

    def _take_stock(self) -> None:
        """Be rid of repetitions, unless they are few: that takes thirty times as long as to see it."""
        share = self._distinct_share()
        if share < _MOSTLY:
            self._compact()
        else:
            self._distinct_bytes = int(share * len(self._places) * _BLOCK_BYTES)

    def _distinct_share(self) -> float:
        """The share of digests that repeat none, by those with a second byte of zero, a 256th; 0 for too few of them."""
        sample: set[bytes] = set()
        count = 0
        for place in self._places:
            data = self._blocks.read(place)
            seconds, at = data[1::DIGEST_BYTES], -1
            while (at := seconds.find(0, at + 1)) >= 0:
                sample.add(data[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES])
                count += 1
        return len(sample) / count if count >= _SAMPLE_LEAST else 0.0

    def _compact(self) -> None:
        found = self.distinct()
        self.clear()
        rest = iter(found)
        while some := b"".join(islice(rest, _BLOCK_BYTES // DIGEST_BYTES)):
            self.add(some, distinct=True)
        self._distinct_bytes = len(found) * DIGEST_BYTES
