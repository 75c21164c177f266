"""A set of small numbers in a bit each: 2 MiB for all clusters of 1 TiB."""

from __future__ import annotations

import threading
from itertools import accumulate
from typing import Final

_PAGE_BYTES: Final = 512
_PAGE_BITS: Final = _PAGE_BYTES * 8


class Bits:
    """Numbers from 0 to `length` - 1. Any thread may add; `rank` once nothing is added any more."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._bytes = bytearray(-(-length // _PAGE_BITS) * _PAGE_BYTES)
        self._lock = threading.Lock()
        self._before: list[int] | None = None

    def add(self, first: int, last: int) -> None:
        """All from `first` to before `last`."""
        with self._lock:
            for number in range(first, last):
                self._bytes[number >> 3] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        return bool(self._bytes[number >> 3] >> (number & 7) & 1)

    def __len__(self) -> int:
        return int.from_bytes(self._bytes, "little").bit_count()

    def rank(self, number: int) -> int:
        """How many are smaller than `number`."""
        if self._before is None:
            pages = range(0, len(self._bytes), _PAGE_BYTES)
            self._before = list(accumulate((_count(self._bytes[at : at + _PAGE_BYTES]) for at in pages), initial=0))
        page = number // _PAGE_BITS
        first = page * _PAGE_BYTES
        rest = int.from_bytes(self._bytes[first : first + _PAGE_BYTES], "little")
        return self._before[page] + (rest & ((1 << number % _PAGE_BITS) - 1)).bit_count()

    def piece(self, first_byte: int, length: int) -> bytes:
        """Eight numbers a byte, the smallest lowest; zeros beyond the end."""
        return bytes(self._bytes[first_byte : first_byte + length]).ljust(length, b"\0")


def _count(page: bytearray) -> int:
    return int.from_bytes(page, "little").bit_count()
