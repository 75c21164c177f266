"""The check of a repository's structure: damage is named, garbage is told, and neither is taken for the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from freezeframe.repository import Repository, verify
from freezeframe.repository.check import check
from freezeframe.repository.errors import RepositoryNotReadable
from freezeframe.repository.layout import key_slot_name
from freezeframe.repository.store import DirectoryStore, MemoryStore

from .locked import PROTECTIONS, locked, protected
from .power import Device, Dying, PowerCut
from .samples import CHUNK, capture_id, disk_of, random_disk, seal, store_disk
from .test_crash import FIRST, SECOND, STEPS, chance

DISK = disk_of(b"a", b"b")


class Counted(MemoryStore):
    """Knows what was read, and what was asked for one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.asked: list[str] = []

    def get(self, name: str) -> bytes:
        self.read.append(name)
        return super().get(name)

    def exists(self, name: str) -> bool:
        self.asked.append(name)
        return super().exists(name)


@pytest.fixture(params=PROTECTIONS)
def held(request: pytest.FixtureRequest) -> Repository:
    store = Counted()
    return protected(request.param, store)


def index_of(repository: Repository, number: int) -> str:
    return repository.manifest(capture_id(number)).guests[0].disks[0].index


def chunk_names(repository: Repository, index: str) -> list[str]:
    with repository.index(index) as opened:
        return [repository.objects.protection.locate(digest) for _, digest in opened.used_slots()]


def test_a_sound_repository_is_sound_and_no_chunk_is_read_or_asked_for(held: Repository) -> None:
    seal(held, 1, random_disk(300))
    seal(held, 2, DISK)
    store = held.store
    assert isinstance(store, Counted)
    store.read.clear()
    store.asked.clear()
    done: list[int] = []
    report = check(held, done.append)
    assert report.sound
    assert report.garbage.count == 0
    assert report.garbage.certain
    assert (report.captures, report.indexes_read, report.chunks_found) == ((capture_id(2), capture_id(1)), 2, 302)
    assert done == list(range(1, 257))
    assert not [name for name in store.read + store.asked if name.startswith("chunks/")]
    assert len([name for name in store.read if name.startswith("manifests/")]) == 2  # of thousands each costs a request


def test_an_empty_repository_is_sound(held: Repository) -> None:
    assert check(held).sound


def test_a_missing_chunk_is_damage_and_names_every_capture(held: Repository) -> None:
    seal(held, 1, DISK)
    seal(held, 2, disk_of(b"b"))
    seal(held, 3, disk_of(b"c"))
    held.store.delete(chunk_names(held, index_of(held, 2))[0])
    report = check(held)
    assert [one.reason for one in report.chunks] == [f"Chunk {report.chunks[0].digest} is missing."]
    assert report.damaged_captures == [capture_id(2), capture_id(1)]
    assert (report.chunks_found, report.garbage.count) == (2, 0)


def test_a_chunk_that_was_set_aside_is_damage_until_it_is_repaired(held: Repository) -> None:
    seal(held, 1, DISK)
    name = chunk_names(held, index_of(held, 1))[0]
    held.store.put_many([(name, b"x")])
    verify(held, held.manifests(), set_aside=True)
    (damage,) = check(held).chunks
    assert damage.set_aside
    seal(held, 2, DISK)
    report = check(held)
    assert report.sound
    assert len(report.garbage.set_aside) == 1


def test_damaged_indexes_and_manifests_are_damage_and_make_garbage_doubtful(held: Repository) -> None:
    seal(held, 1, DISK)
    seal(held, 2, disk_of(b"c"))
    name = held.objects.protection.index_name(bytes.fromhex(index_of(held, 1)))
    held.store.put_many([(name, b"x")])
    report = check(held)
    assert [one.digest for one in report.indexes] == [index_of(held, 1)]
    assert report.damaged_captures == [capture_id(1)]
    assert not report.garbage.certain
    assert len(report.garbage.chunks) == 2  # of the index that cannot be read
    held.store.put_many([(held.objects.protection.manifest_name(capture_id(2)), b"x")])
    report = check(held)
    assert len(report.manifests) == 1
    assert report.newer == ()  # damage is not told a second time as something newer
    assert not report.sound


def test_what_nothing_refers_to_is_told_and_is_no_damage(held: Repository) -> None:
    seal(held, 1, DISK)
    index = store_disk(held, disk_of(b"left", b"a"))
    held.store.put_many([(f"tmp/{'0' * 32}", b"half"), ("chunks/ab/README", b"hello"), ("manifests/notes", b"hello")])
    report = check(held)
    assert report.sound
    assert report.garbage.certain
    assert len(report.garbage.chunks) == 1
    assert report.garbage.indexes == [held.objects.protection.index_name(bytes.fromhex(index))]
    assert report.garbage.tmp == [f"tmp/{'0' * 32}"]
    assert report.garbage.strange == ["chunks/ab/README", "manifests/notes"]


def test_a_damaged_key_slot_is_damage() -> None:
    repository = locked()
    repository.store.put_many([(key_slot_name("0" * 32), b"{}")])
    report = check(repository)
    assert len(report.key_slots) == 1
    assert not report.sound


def test_a_chunk_of_a_capture_that_is_forgotten_meanwhile_is_no_damage(held: Repository) -> None:
    seal(held, 1, DISK)
    name = held.objects.protection.manifest_name(capture_id(1))
    chunks = chunk_names(held, index_of(held, 1))

    def forget(done: int) -> None:
        held.store.delete(name)

    held.store.delete(chunks[0])
    assert check(held, forget).sound


def test_a_listing_that_fails_is_no_answer() -> None:
    class Broken(MemoryStore):
        def names(self, folder: str) -> Iterator[str]:
            if folder == "chunks/80":
                raise RepositoryNotReadable("Reading chunks/80 failed.")
            return super().names(folder)

    repository = Repository.init_in(Broken(), chunk_bytes=CHUNK)
    with pytest.raises(RepositoryNotReadable):
        check(repository)


def test_after_a_power_cut_at_any_step_nothing_is_damaged_and_all_that_is_left_is_named(memory_path: Path) -> None:
    for steps in range(0, STEPS, 3):
        root = memory_path / str(steps)
        seal(Repository.init(root), 1, FIRST)
        device = Device(root)
        lived = True
        try:
            seal(Repository.open_in(DirectoryStore(root, Dying(device, steps))), 2, SECOND)
        except PowerCut:
            lived = False
        device.cut(chance(steps))
        repository = Repository.open(root)
        report = check(repository)
        assert report.sound
        files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        kept = {repository.objects.protection.manifest_name(one) for one in report.captures} | {"config"}
        kept |= {
            repository.objects.protection.index_name(bytes.fromhex(index_of_id(repository, one)))
            for one in report.captures
        }
        kept |= {name for one in report.captures for name in chunk_names(repository, index_of_id(repository, one))}
        garbage = report.garbage
        assert files == kept | {*garbage.chunks, *garbage.indexes, *garbage.tmp}
        if lived:
            return
    pytest.fail("no run came to its end")


def index_of_id(repository: Repository, wanted: str) -> str:
    return repository.manifest(wanted).guests[0].disks[0].index
