"""Objects that are read several at once, and given in their order."""

from __future__ import annotations

import threading
from contextlib import closing
from itertools import islice

import pytest

from freezeframe.repository.read_ahead import AT_ONCE, BYTES_AT_ONCE, read_ahead


class Reader:
    """Reads numbers, and knows how many at once it was asked for."""

    def __init__(self, *, together: int = 1) -> None:
        self.most = 0
        self.begun: list[int] = []
        self._now = 0
        self._lock = threading.Lock()
        self._together = threading.Barrier(together, timeout=20)

    def __call__(self, number: int) -> int:
        with self._lock:
            self._now += 1
            self.begun.append(number)
            self.most = max(self.most, self._now)
        self._together.wait()
        with self._lock:
            self._now -= 1
        return -number


def test_everything_is_given_in_its_order_as_many_at_once_as_may_be() -> None:
    read = Reader(together=AT_ONCE)  # fewer at once would wait for ever
    assert list(read_ahead(range(5 * AT_ONCE), read)) == [-number for number in range(5 * AT_ONCE)]
    assert read.most == AT_ONCE


def test_nothing_is_nothing() -> None:
    assert list(read_ahead([], Reader())) == []


def test_what_is_large_is_read_alone() -> None:
    read = Reader()
    assert list(read_ahead(range(20), read, lambda _: BYTES_AT_ONCE + 1)) == [-number for number in range(20)]
    assert read.most == 1


def test_no_more_bytes_are_read_at_once_than_may_be_in_memory() -> None:
    read = Reader(together=4)
    assert list(read_ahead(range(20), read, lambda _: BYTES_AT_ONCE // 4)) == [-number for number in range(20)]
    assert read.most == 4


def test_a_consumer_that_stops_leaves_the_rest_unread() -> None:
    read = Reader()
    with closing(read_ahead(range(1000), read)) as given:
        assert list(islice(given, 3)) == [0, -1, -2]
    assert len(read.begun) <= AT_ONCE + 3


def test_an_error_comes_when_its_turn_has_come() -> None:
    def read(number: int) -> int:
        if number == 2:
            raise OSError("bad sector")
        return number

    given = read_ahead(range(4), read)
    assert [next(given), next(given)] == [0, 1]
    with pytest.raises(OSError, match="bad sector"):
        next(given)
