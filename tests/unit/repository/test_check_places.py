"""The check of a repository where names are strange or captures go meanwhile; and what a repository is made with."""

from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.errors import FreezeframeError
from freezeframe.repository import Repository
from freezeframe.repository.aside import Kind, set_aside
from freezeframe.repository.check import check
from freezeframe.repository.errors import NotEncrypted, RepositoryExists
from freezeframe.repository.layout import (
    CHUNK_BYTES_MAX,
    CONFIG,
    KEYS,
    OBJECT_BYTES_MAX,
    damaged_document,
    folders,
    key_slot_name,
    locate,
    manifest_name,
    object_bytes_max,
)
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.whereabouts import places_of

from .locked import locked
from .samples import CHUNK, capture_id, disk_of, random_disk, seal
from .test_aside import Flaky, first_chunk, spoil


@pytest.fixture
def repository() -> Repository:
    return Repository.init_in(Flaky(), chunk_bytes=CHUNK)


def test_a_name_that_cannot_be_where_it_is_is_strange(repository: Repository) -> None:
    seal(repository, 1, disk_of(b"a"))
    strange = [f"chunks/ab/{'cd' * 32}", f"chunks/ab/{'ab' * 31}", f"indexes/ab/{'cd' * 32}", "chunks/ab/README"]
    repository.store.put_many([(name, b"x") for name in [*strange, f"chunks/ab/{'ab' * 32}"]])
    garbage = check(repository).garbage
    assert sorted(garbage.strange) == sorted(strange)
    assert garbage.chunks == [f"chunks/ab/{'ab' * 32}"]


def test_a_name_among_key_slots_that_is_none_is_strange() -> None:
    repository = locked()
    repository.store.put_many([(f"{KEYS}/README", b"somebody's")])
    report = check(repository)
    assert report.sound
    assert report.garbage.strange == [f"{KEYS}/README"]


def test_each_kind_of_damage_alone_makes_a_repository_unsound() -> None:
    for kind in ("manifest", "key slot", "index", "chunk"):
        repository = locked(Flaky())
        index = seal(repository, 1, disk_of(b"a")).guests[0].disks[0].index
        protection = repository.objects.protection
        if kind == "key slot":
            repository.store.put_many([(key_slot_name("0" * 32), b"{}")])
        else:
            name = {
                "manifest": protection.manifest_name(capture_id(1)),
                "index": protection.index_name(bytes.fromhex(index)),
                "chunk": protection.locate(first_chunk(repository, index)),
            }[kind]
            repository.store.delete(name) if kind == "chunk" else spoil(repository, name)
        report = check(repository)
        found = {
            "manifest": report.manifests,
            "key slot": report.key_slots,
            "index": report.indexes,
            "chunk": report.chunks,
        }
        assert [one for one, what in found.items() if what] == [kind]
        assert not report.sound


def test_damage_of_a_capture_that_is_forgotten_meanwhile_is_nobodys(repository: Repository) -> None:
    index = seal(repository, 1, disk_of(b"a")).guests[0].disks[0].index
    broken = seal(repository, 2, disk_of(b"b")).guests[0].disks[0].index
    repository.store.delete(locate(first_chunk(repository, index)))
    spoil(repository, repository.objects.protection.index_name(bytes.fromhex(broken)))
    assert not check(repository).sound

    def meanwhile(done: int) -> None:
        if done == 256:
            repository.forget_all([capture_id(1), capture_id(2)])

    assert check(repository, meanwhile).sound


def test_a_chunk_that_is_back_before_the_end_is_not_missing(repository: Repository) -> None:
    """As one that another run moves from where it was condemned."""
    index = seal(repository, 1, disk_of(b"a")).guests[0].disks[0].index
    name = locate(first_chunk(repository, index))
    data = repository.store.get(name)
    repository.store.delete(name)

    def back(done: int) -> None:
        if done == 256:
            repository.store.put_many([(name, data)])

    assert check(repository, back).sound


def test_a_missing_chunk_is_told_beside_what_is_set_aside_without_a_word(repository: Repository) -> None:
    index = seal(repository, 1, disk_of(b"a")).guests[0].disks[0].index
    chunk = first_chunk(repository, index)
    spoil(repository, locate(chunk))
    assert set_aside(repository.objects, Kind.CHUNK, chunk, "it is damaged")
    repository.store.put_many([(damaged_document(locate(chunk)), b"no document")])
    (damage,) = check(repository).chunks
    assert not damage.set_aside


def test_only_an_encrypted_repository_has_key_slots(memory_path: Path) -> None:
    assert KEYS not in folders(authenticated=False)
    assert KEYS in folders(authenticated=True)
    Repository.init(memory_path / "plain")
    assert not (memory_path / "plain" / KEYS).exists()
    with pytest.raises(NotEncrypted, match="is not encrypted, and has no key slots"):
        _ = Repository.open(memory_path / "plain").encryption


def test_a_repository_is_not_made_over_another() -> None:
    store = MemoryStore()
    made = Repository.init_in(store)
    with pytest.raises(RepositoryExists, match=store.address):
        Repository.init_in(store)
    assert Repository.open_in(store).config.id == made.config.id


def test_each_kind_of_object_has_a_length_that_none_is_longer_than() -> None:
    assert object_bytes_max(locate(bytes(32))) == CHUNK_BYTES_MAX + 4096
    assert object_bytes_max(CONFIG) == object_bytes_max(key_slot_name("0" * 32)) == 1 << 20
    assert object_bytes_max(manifest_name(capture_id(1))) == OBJECT_BYTES_MAX


def test_a_damaged_index_is_looked_at_once(repository: Repository) -> None:
    seal(repository, 1, random_disk(30))
    broken = seal(repository, 2, random_disk(30)).guests[0].disks[0].index
    name = repository.objects.protection.index_name(bytes.fromhex(broken))
    spoil(repository, name)
    assert [one.digest for one in check(repository).indexes] == [broken]
    store = repository.store
    assert isinstance(store, Flaky)
    assert store.dropped == [name, name]  # the two reads of one look


def test_an_index_that_is_set_aside_is_told_as_that_and_one_that_is_damaged_is_not(repository: Repository) -> None:
    indexes = [seal(repository, number, disk_of(b"%d" % number)).guests[0].disks[0].index for number in (1, 2)]
    for index in indexes:
        spoil(repository, repository.objects.protection.index_name(bytes.fromhex(index)))
    assert set_aside(repository.objects, Kind.INDEX, bytes.fromhex(indexes[0]), "it is damaged")
    assert {one.digest: one.set_aside for one in check(repository).indexes} == {indexes[0]: True, indexes[1]: False}


def test_the_places_of_indexes_are_in_manifests_alone(repository: Repository) -> None:
    """No index is read for them: each may be far away, and this very one is damaged."""
    broken = seal(repository, 1, disk_of(b"a")).guests[0].disks[0].index
    spoil(repository, repository.objects.protection.index_name(bytes.fromhex(broken)))
    unreadable: list[FreezeframeError] = []
    (place,) = places_of(repository, {broken}, set(), unreadable.append)[broken]
    assert place.capture_id == capture_id(1)
    assert unreadable == []
