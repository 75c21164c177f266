from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from freezeframe.repository import DiskReader, Repository, reader
from freezeframe.repository.builder import IndexBuilder
from freezeframe.repository.errors import ChunkDamaged, IndexDamaged
from freezeframe.repository.lanes import LEAST
from freezeframe.repository.store import MemoryStore

from .samples import CHUNK, disk_of, random_disk, read_disk, store_disk

LONG_S = 60.0


def chunk_files(root: Path) -> list[Path]:
    return sorted((root / "chunks").glob("??/*"))


def test_holes_are_told_as_one_extent_however_many_slots(repository: Repository) -> None:
    index = store_disk(repository, disk_of(b"", b"", b"a", b"b", b"", b"", b"c", b""))
    with repository.disk_reader(index) as disk:
        told = [(extent.offset // CHUNK, extent.length // CHUNK, extent.data is None) for extent in disk]
    assert told == [(0, 2, True), (2, 1, False), (3, 1, False), (4, 2, True), (6, 1, False), (7, 1, True)]


@pytest.mark.parametrize("disk", [bytes(5 * CHUNK), bytes(100), b"x" * 100, random_disk(1) + b"tail"])
def test_any_size_is_read_to_its_end(repository: Repository, disk: bytes) -> None:
    assert read_disk(repository, store_disk(repository, disk)) == disk


def test_a_disk_larger_than_the_window_comes_in_order(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_WINDOW_BYTES", 6 * CHUNK)
    disk = random_disk(50)
    assert read_disk(repository, store_disk(repository, disk)) == disk


def test_a_disk_that_ends_with_a_chunk_ends_there(repository: Repository) -> None:
    """An extent without a byte would be an empty write to whoever restores it."""
    with repository.disk_reader(store_disk(repository, disk_of(b"", b"a"))) as disk:
        assert [(one.offset, one.length) for one in disk] == [(0, CHUNK), (CHUNK, CHUNK)]


class Gated(MemoryStore):
    """Chunks can be read only as far as they are let; `asked` has what was asked for, `wanted` counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.wanted, self.let = threading.Semaphore(0), threading.Semaphore(1000)

    def get(self, name: str) -> bytes:
        if name.startswith("chunks/"):
            self.asked.append(name)
            self.wanted.release()
            assert self.let.acquire(timeout=LONG_S)
        return super().get(name)


@pytest.fixture
def gated() -> Repository:
    return Repository.init_in(Gated(), chunk_bytes=CHUNK)


def settle(disk: DiskReader) -> None:
    """Wait until all that threads were given to do is done, and each of them is free."""
    all_free = threading.Barrier(LEAST)
    for done in [disk._pool.submit(all_free.wait, LONG_S) for _ in range(LEAST)]:
        done.result(LONG_S)


def test_no_more_than_the_window_is_fetched_ahead(gated: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the memory would have to hold the disk."""
    monkeypatch.setattr(reader, "_WINDOW_BYTES", 6 * CHUNK)
    store = gated.store
    assert isinstance(store, Gated)
    with gated.disk_reader(store_disk(gated, random_disk(50))) as disk:
        extents = iter(disk)
        for number in range(5):
            assert next(extents).offset == number * CHUNK
            settle(disk)
            assert len(store.asked) == number + 6


def test_chunks_that_are_longer_than_the_window_are_fetched_by_all_threads(
    gated: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_WINDOW_BYTES", CHUNK)
    store = gated.store
    assert isinstance(store, Gated)
    store.let = threading.Semaphore(0)
    content = random_disk(LEAST)
    with gated.disk_reader(store_disk(gated, content)) as disk, ThreadPoolExecutor(1) as user:
        read = user.submit(lambda: b"".join(one.data or b"" for one in disk))
        try:
            assert [store.wanted.acquire(timeout=10) for _ in range(LEAST)] == [True] * LEAST
        finally:
            store.let.release(1000)
        assert read.result(LONG_S) == content


def test_what_was_ahead_of_a_reader_that_is_left_is_not_fetched_any_more(
    gated: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restore that failed to write: the rest of the window may be far away."""
    monkeypatch.setattr(reader, "_WINDOW_BYTES", 20 * CHUNK)
    store = gated.store
    assert isinstance(store, Gated)
    store.let = threading.Semaphore(1)
    with gated.disk_reader(store_disk(gated, random_disk(50))) as disk:
        extents = disk._chunks()
        next(extents)
        for _ in range(1 + LEAST):  # the first, and one that each thread stands at
            assert store.wanted.acquire(timeout=LONG_S)
        assert isinstance(extents, Generator)
        extents.close()
        store.let.release(1000)
        settle(disk)
        assert len(store.asked) == 1 + LEAST


def test_no_thread_is_left_of_a_reader_that_was_closed(repository: Repository) -> None:
    with repository.disk_reader(store_disk(repository, random_disk(20))) as disk:
        next(iter(disk))
        assert [one for one in threading.enumerate() if one.name.startswith("read-ahead")]
    assert not [one for one in threading.enumerate() if one.name.startswith("read-ahead")]


def test_slots_are_read_one_by_one(repository: Repository) -> None:
    with repository.disk_reader(store_disk(repository, disk_of(b"a", b""))) as disk:
        assert disk.read_slot(0) == disk_of(b"a")
        assert disk.read_slot(1) is None
        with pytest.raises(IndexError):
            disk.read_slot(2)


def test_a_reader_may_be_left_early(repository: Repository) -> None:
    with repository.disk_reader(store_disk(repository, random_disk(200))) as disk:
        assert next(iter(disk)).offset == 0


def test_a_missing_chunk_is_damage_that_names_it(repository: Repository, root: Path) -> None:
    index = store_disk(repository, disk_of(b"a", b"b"))
    path = chunk_files(root)[0]
    path.unlink()
    with pytest.raises(ChunkDamaged, match=path.name):
        read_disk(repository, index)


def test_a_chunk_in_anothers_place_is_damage(repository: Repository, root: Path) -> None:
    index = store_disk(repository, disk_of(b"a", b"b"))
    one, two = chunk_files(root)
    one.write_bytes(two.read_bytes())
    with pytest.raises(ChunkDamaged, match=one.name):
        read_disk(repository, index)


def test_a_chunk_of_another_length_than_its_slot_is_damage(repository: Repository) -> None:
    short = store_disk(repository, b"x" * 100)
    with repository.index(short) as index:
        digest = index.digest_at(0)
    assert digest is not None
    with IndexBuilder(2 * CHUNK, CHUNK) as builder:
        builder.set(0, digest)
        long, _ = builder.store(repository.objects)
    with DiskReader(repository.objects, long) as disk, pytest.raises(ChunkDamaged, match="slot 0"):
        disk.read_slot(0)


def test_a_missing_index_is_damage(repository: Repository) -> None:
    with pytest.raises(IndexDamaged):
        repository.disk_reader("00" * 32)
