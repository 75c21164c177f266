"""Temporary storage that fills up, or loses what was written: no slot becomes a hole, and no mark is lost, without an error.

Linux writes a part where room ends in the middle, and says so in the count alone.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from freezeframe.repository.builder import IndexBuilder
from freezeframe.repository.errors import TemporaryStorageFailed
from freezeframe.repository.index import Index, load_index
from freezeframe.repository.marks import Marks
from freezeframe.repository.objects import Objects
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.temporary import read_all, temporary_file, write_all

CHUNK = 512 << 10
SLOTS = 1 << 15  # the table is 1 MiB, one piece
PWRITE, PREAD = os.pwrite, os.pread


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


@pytest.fixture
def parent() -> Iterator[Index]:
    objects = Objects(MemoryStore())
    with IndexBuilder(SLOTS * CHUNK, CHUNK) as builder:
        for slot in range(SLOTS):
            builder.set(slot, digest(slot))
        stored, _ = builder.store(objects)
    with load_index(objects, stored) as index:
        yield index


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Leave so many bytes of room: a write takes what fits, and one that finds none fails."""
    left = [1 << 40]

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        taken = min(len(data), left[0])
        if len(data) and not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= taken
        return PWRITE(fd, memoryview(data)[:taken], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)

    def leave(count: int) -> None:
        left[0] = count

    return leave


@pytest.mark.parametrize("left", [0, 1, 4096, (512 << 10) + 7, (1 << 20) - 1])
def test_a_parents_table_that_does_not_fit_is_an_error(parent: Index, room: Callable[[int], None], left: int) -> None:
    room(left)
    with pytest.raises(TemporaryStorageFailed, match="No space left on device"):
        IndexBuilder(SLOTS * CHUNK, CHUNK, parent=parent)


@pytest.mark.parametrize("left", [0, 31, 100, 4096])
def test_a_slot_that_does_not_fit_is_an_error_and_the_index_is_not_stored(
    room: Callable[[int], None], left: int
) -> None:
    store = MemoryStore()
    with IndexBuilder(SLOTS * CHUNK, CHUNK) as builder:
        room(left)

        def make() -> None:
            for slot in range(300):
                builder.set(slot, digest(slot))
            builder.store(Objects(store))

        with pytest.raises(TemporaryStorageFailed, match="No space left on device"):
            make()
    assert not store._objects


@pytest.mark.parametrize("left", [0, 1, 8 << 10, (16 << 10) + 1, (48 << 10) - 1])
def test_marks_that_do_not_fit_are_an_error(room: Callable[[int], None], left: int) -> None:
    marked = [b"\0" + digest(number)[1:] for number in range(2000)]
    room(left)
    with Marks(None) as marks:
        marks.add(marked)
        with pytest.raises(TemporaryStorageFailed, match="No space left on device"):
            marks.keys(0)


def test_room_for_all_is_enough(parent: Index, room: Callable[[int], None]) -> None:
    room(1 << 20)
    with IndexBuilder(SLOTS * CHUNK, CHUNK, parent=parent) as builder:
        assert sum(1 for _ in builder.used_slots()) == SLOTS


@contextmanager
def losing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A device that has lost what was written: zeros are read, and no write has failed."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda fd, length, offset: bytes(len(PREAD(fd, length, offset))))
        yield


def test_what_the_device_has_lost_of_a_parents_table_is_an_error(
    parent: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    with losing(monkeypatch), pytest.raises(TemporaryStorageFailed, match="other bytes than were written"):
        IndexBuilder(SLOTS * CHUNK, CHUNK, parent=parent)


def test_what_the_device_has_lost_is_no_damage_of_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verification would set a sound index aside."""
    objects = Objects(MemoryStore())
    with IndexBuilder(CHUNK, CHUNK) as builder:
        builder.set(0, digest(0))
        stored, _ = builder.store(objects)
    with losing(monkeypatch), pytest.raises(TemporaryStorageFailed, match="other bytes than were written"):
        load_index(objects, stored)


def test_what_the_device_has_lost_of_the_marks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with Marks(None) as marks:
        marks.add([b"\0" + digest(number)[1:] for number in range(2000)])
        marks.count()
        with losing(monkeypatch), pytest.raises(TemporaryStorageFailed, match="other bytes than were written"):
            marks.keys(0)


def test_what_the_device_tells_late_keeps_an_index_from_being_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with IndexBuilder(CHUNK, CHUNK) as builder:
        builder.set(0, digest(0))
        monkeypatch.setattr(os, "fdatasync", fail)
        with pytest.raises(TemporaryStorageFailed, match="Input/output error"):
            builder.store(Objects(store))
    assert not store._objects


def test_all_is_written_and_read_in_however_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 5
    monkeypatch.setattr(os, "pwrite", lambda fd, rest, offset: PWRITE(fd, memoryview(rest)[:100], offset))
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: PREAD(fd, min(length, 70), offset))
    with temporary_file() as file:
        write_all(file, data, 3)
        assert read_all(file, len(data), 3) == data
        with pytest.raises(TemporaryStorageFailed, match="shorter than what was written"):
            read_all(file, len(data) + 1, 3)


def test_a_real_file_system_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on a file's length cuts a write short as a full file system does."""
    import resource  # noqa: PLC0415
    import signal  # noqa: PLC0415

    monkeypatch.setenv("FREEZEFRAME_TMP_DIR", str(tmp_path))
    before, handled = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with temporary_file() as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
            with pytest.raises(TemporaryStorageFailed, match="File too large"):
                write_all(file, bytes(4096), 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handled)
