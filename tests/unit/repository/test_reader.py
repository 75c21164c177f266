from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.repository import DiskReader, Repository, reader
from freezeframe.repository.builder import IndexBuilder
from freezeframe.repository.errors import ChunkDamaged, IndexDamaged

from .samples import CHUNK, disk_of, random_disk, read_disk, store_disk


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
