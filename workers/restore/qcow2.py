"""qcow2 images, written by ourselves: what is where is known from the index before the first byte is written. Pure.

        header │ refcount table │ refcount blocks │ L1 │ L2 tables │ unit │ unit │ unit …
        └─────────── written at the end ──────────────────────────┘ └─ data, in the disk's order ─┘

A *cluster* is 64 KiB. A *unit* is a chunk, or a cluster where chunks are smaller; it has a place in the file if any chunk of it
holds data. So threads write to the file as they would to a raw one, without a server between, and a restore that was
interrupted goes on like a raw one. A cluster in which nothing was written is in no table and counts as free; in the file it is
a hole. The image has no backing file, no snapshots, no feature that old QEMUs lack.

Offsets in the file, big-endian [QEMU docs/interop/qcow2.txt]:

    L1 entry     one a 512 MiB of disk: its L2 table | COPIED
    L2 entry     one a cluster: its place | COPIED, or 0
    refcount     16 bits a cluster of the file: 1 or 0
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from workers.restore.bits import Bits

CLUSTER: Final = 64 << 10
_SECTOR: Final = 512  # what QEMU's disks are multiples of
_ENTRIES: Final = CLUSTER // 8  # of a table
_REFCOUNTS: Final = CLUSTER // 2  # of a block
_COPIED: Final = 1 << 63  # used once: may be written to in place

_HEADER: Final = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_HEADER_BYTES: Final = 104  # version 3, without what came later

#: Eight clusters' bits as eight refcounts.
_SPREAD: Final = tuple(b"".join(b"\0\1" if byte >> bit & 1 else b"\0\0" for bit in range(8)) for byte in range(256))


class Qcow2Layout:
    """A disk of `size_bytes`, rounded up to 512, in chunks of `chunk_bytes`, of which `used` hold data, in order."""

    def __init__(self, size_bytes: int, chunk_bytes: int, used: Iterable[int]) -> None:
        self._size_bytes = _up(size_bytes, _SECTOR) * _SECTOR
        self._unit = max(chunk_bytes, CLUSTER)
        self._units = Bits(_up(self._size_bytes, self._unit))
        self._written = Bits(_up(self._size_bytes, CLUSTER))
        ranges: set[int] = set()
        for slot in used:
            unit = slot * chunk_bytes // self._unit
            self._units.add(unit, unit + 1)
            ranges.add(slot * chunk_bytes // (_ENTRIES * CLUSTER))
        self._l1_entries = _up(self._size_bytes, _ENTRIES * CLUSTER)
        self._ranges = sorted(ranges)
        self._arrange()

    @property
    def reference_blocks(self) -> int:
        """Blocks of reference counts, each for 32,768 clusters of the file."""
        return self._blocks

    def place(self, offset: int) -> int:
        unit, rest = divmod(offset, self._unit)
        place = self._data + self._units.rank(unit) * self._unit
        return place + rest if unit < self._units.length and unit in self._units else place

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        end = offset + length
        while offset < end:
            piece = min(end, (offset // self._unit + 1) * self._unit) - offset
            if offset // self._unit in self._units:
                yield self.place(offset), piece
            offset += piece

    def note(self, offset: int, length: int) -> None:
        self._written.add(offset // CLUSTER, _up(offset + length, CLUSTER))

    def closing(self) -> Iterator[tuple[int, bytes]]:
        taken = Bits(self.file_bytes // CLUSTER)
        taken.add(0, self._data // CLUSTER)
        for number, guest_range in enumerate(self._ranges):
            yield self._l2 + number * CLUSTER, self._l2_table(guest_range, taken)
        yield self._l1, self._l1_table()
        for number in range(self._blocks):
            bits = taken.piece(number * _REFCOUNTS // 8, _REFCOUNTS // 8)
            yield self._refcounts + number * CLUSTER, b"".join(map(_SPREAD.__getitem__, bits))
        blocks = (self._refcounts + number * CLUSTER for number in range(self._blocks))
        yield CLUSTER, _table(blocks, self._table_clusters)
        yield 0, self._header()

    def _arrange(self) -> None:
        """Find room for the refcounts, which count themselves."""
        units = len(self._units)
        last = self._units.length - 1
        data_clusters = units * (self._unit // CLUSTER)
        if units and last in self._units:  # the disk may end within its last unit
            data_clusters -= self._unit // CLUSTER - _up(self._size_bytes - last * self._unit, CLUSTER)
        l1_clusters = _up(self._l1_entries, _ENTRIES)
        others = 1 + l1_clusters + len(self._ranges) + data_clusters
        self._blocks = self._table_clusters = 1
        while (total := others + self._blocks + self._table_clusters) > self._blocks * _REFCOUNTS:
            self._blocks = _up(total, _REFCOUNTS)
            self._table_clusters = _up(self._blocks, _ENTRIES)
        self._refcounts = (1 + self._table_clusters) * CLUSTER
        self._l1 = self._refcounts + self._blocks * CLUSTER
        self._l2 = self._l1 + l1_clusters * CLUSTER
        self._data = self._l2 + len(self._ranges) * CLUSTER
        self.file_bytes = self._data + data_clusters * CLUSTER

    def _l2_table(self, guest_range: int, taken: Bits) -> bytes:
        """One L2 table; what it points to is added to `taken`."""
        first = guest_range * _ENTRIES
        last = min(first + _ENTRIES, self._written.length)
        step = self._unit // CLUSTER
        entries = [0] * _ENTRIES
        for unit in range(first // step, _up(last, step)):
            if unit in self._units:
                place = self.place(unit * self._unit)
                for cluster in range(unit * step, min(unit * step + step, last)):
                    if cluster in self._written:
                        entries[cluster - first] = place | _COPIED
                        taken.add(place // CLUSTER, place // CLUSTER + 1)
                    place += CLUSTER
        return struct.pack(f">{_ENTRIES}Q", *entries)

    def _l1_table(self) -> bytes:
        places = {guest_range: self._l2 + number * CLUSTER for number, guest_range in enumerate(self._ranges)}
        entries = (places[one] | _COPIED if one in places else 0 for one in range(self._l1_entries))
        return _table(entries, _up(self._l1_entries, _ENTRIES))

    def _header(self) -> bytes:
        header = _HEADER.pack(
            *(b"QFI\xfb", 3),
            *(0, 0),  # no backing file
            *(CLUSTER.bit_length() - 1, self._size_bytes),
            0,  # not encrypted
            *(self._l1_entries, self._l1),
            *(CLUSTER, self._table_clusters),
            *(0, 0),  # no snapshots
            *(0, 0, 0),  # no features
            *(4, _HEADER_BYTES),  # refcounts of 2⁴ bits
        )
        return header.ljust(CLUSTER, b"\0")


def _table(entries: Iterable[int], clusters: int) -> bytes:
    return b"".join(entry.to_bytes(8, "big") for entry in entries).ljust(clusters * CLUSTER, b"\0")


def _up(length: int, step: int) -> int:
    """How many steps hold `length`."""
    return -(-length // step)
