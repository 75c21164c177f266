"""What is remembered as durable was synced before, and everything below it was written before that."""

from __future__ import annotations

import threading

import pytest

from freezeframe.repository import Repository
from workers.restore.pour import Pouring

from .samples import CHUNK, disk_bytes, noise, store


class Remembering:
    """A destination in memory that keeps what was durable at each mark."""

    def __init__(self, size: int, lanes: int = 4, *, mark: int = 0, before: bytes = b"") -> None:
        self.mark = mark
        self.blank_from = size
        self.lanes = [self] * lanes
        self.content = bytearray(before or b"\xff" * size)
        self.durable = bytes(self.content)
        self.marks: list[tuple[int, bytes]] = []
        self._lock = threading.Lock()

    def write(self, offset: int, data: memoryview) -> None:
        with self._lock:
            self.content[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        self.write(offset, memoryview(bytes(length)))

    def read(self, offset: int, length: int) -> bytes:
        with self._lock:
            return bytes(self.content[offset : offset + length])

    def keep(self, offset: int, length: int) -> None:
        pass

    def sync(self) -> None:
        with self._lock:
            self.durable = bytes(self.content)

    def advance(self, mark: int) -> None:
        self.marks.append((mark, self.durable))


@pytest.mark.parametrize("lanes", [1, 4, 9])
def test_all_below_a_mark_is_durable_when_it_is_remembered(repository: Repository, lanes: int) -> None:
    disk = disk_bytes(60 * CHUNK + 77, (CHUNK, 20 * CHUNK), (30 * CHUNK + 5, 28 * CHUNK))
    with repository.disk_reader(store(repository, disk)) as reader:
        destination = Remembering(len(disk), lanes)
        Pouring(reader, destination, lambda _length: None, mark_bytes=CHUNK).run()
    assert bytes(destination.content) == disk
    assert destination.marks
    assert [mark for mark, _ in destination.marks] == sorted(mark for mark, _ in destination.marks)
    for mark, durable in destination.marks:
        assert durable[:mark] == disk[:mark]


def test_the_mark_is_taken_back_before_what_is_below_it_is_written(repository: Repository) -> None:
    disk = noise(8 * CHUNK)
    found = bytearray(disk)
    found[5 * CHUNK] ^= 1
    with repository.disk_reader(store(repository, disk)) as reader:
        destination = Remembering(len(disk), mark=7 * CHUNK, before=bytes(found))
        poured = Pouring(reader, destination, lambda _length: None).run()
    assert destination.marks[0][0] == 5 * CHUNK
    assert bytes(destination.content) == disk
    assert poured.bytes_written == 2 * CHUNK


def test_a_destination_that_cannot_remember_ends_it(repository: Repository) -> None:
    class Full(Remembering):
        def advance(self, mark: int) -> None:
            raise OSError(mark)

    disk = noise(40 * CHUNK)
    with repository.disk_reader(store(repository, disk)) as reader, pytest.raises(OSError, match=r"\d"):
        Pouring(reader, Full(len(disk)), lambda _length: None, mark_bytes=CHUNK).run()
