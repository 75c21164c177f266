"""Lineage and freshness: an older state of a store, and captures that nobody has forgotten, leave a trace (A4)."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.chain import read_chain
from freezeframe.repository.document import checked
from freezeframe.repository.errors import AlreadyExists, NewerFormat, RepositoryNotReadable, RepositoryRolledBack
from freezeframe.repository.freshness import check_pin, pin_of
from freezeframe.repository.garbage import collect
from freezeframe.repository.lineage import link_of
from freezeframe.repository.store.backend import Entry

from .chains import another, doubts, objects_of, pinned, plain_form, sealed
from .locked import PROTECTIONS, protected
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, store_disk


@pytest.fixture(params=PROTECTIONS)
def repository(request: pytest.FixtureRequest) -> Repository:
    return protected(request.param)


def test_each_manifest_names_the_newest_before_it(repository: Repository) -> None:
    one, two, three = sealed(repository, 5, 2, 9)  # the order is that of the seals, not of the ids
    assert [each.lineage.counter for each in (one, two, three) if each.lineage] == [1, 2, 3]
    assert one.lineage is not None
    assert one.lineage.predecessor is None
    for manifest, before in ((two, 5), (three, 2)):
        assert manifest.lineage is not None
        assert manifest.lineage.predecessor is not None
        assert manifest.lineage.predecessor.capture_id == capture_id(before)
        assert manifest.lineage.predecessor.digest == hashlib.sha256(plain_form(repository, before)).hexdigest()
    assert doubts(repository, pinned(repository)) == []
    assert pinned(repository).capture_id == capture_id(9)


def test_a_repository_from_before_there_was_a_lineage_goes_on_with_one(repository: Repository) -> None:
    manifest = manifest_of(1, disk_capture(store_disk(repository, disk_of(b"a")), CHUNK))
    name = repository.objects.protection.manifest_name(manifest.capture_id)
    repository.store.put_many([(name, bytes(repository.objects.protection.protect(name, manifest.to_json())))])
    (next_one,) = sealed(repository, 2)
    assert next_one.lineage is not None
    assert (next_one.lineage.counter, next_one.lineage.predecessor is not None) == (1, True)
    assert doubts(repository) == []


def test_another_orchestrator_that_seals_the_same_capture_finds_it_sealed(repository: Repository) -> None:
    """It has found another capture to be the newest."""
    manifest = manifest_of(2, disk_capture(store_disk(repository, disk_of(b"a")), CHUNK))
    sealed(repository, 1)
    repository.write_manifest(manifest)
    stored = plain_form(repository, 2)
    sealed(repository, 3)
    another(repository).write_manifest(manifest)
    another(repository).write_manifest(repository.manifest(capture_id(2)))
    assert plain_form(repository, 2) == stored
    with pytest.raises(AlreadyExists):
        another(repository).write_manifest(manifest.model_copy(update={"group": "other"}))


def test_a_key_of_a_later_version_leaves_the_link_as_it_is(repository: Repository) -> None:
    sealed(repository, 1, 2)
    content = json.loads(plain_form(repository, 2))
    content["lineage"]["more"] = 1
    content["lineage"]["predecessor"]["more"] = 2
    link = link_of(capture_id(2), checked(content))
    assert link is not None
    assert (link.counter, [one.capture_id for one in link.named]) == (2, [capture_id(1)])
    none: list[object] = [1, [], "x", None, {"counter": 0}]
    for one in none:
        link = link_of(capture_id(2), checked({**content, "lineage": one}))
        assert link is not None
        assert (link.counter, link.named) == (0, ())


def test_an_older_state_of_the_store_is_found_by_a_pin(repository: Repository) -> None:
    sealed(repository, 1, 2)
    before = dict(objects_of(repository))
    sealed(repository, 3)
    pin = pinned(repository)
    check_pin(repository, pin)
    objects_of(repository).clear()
    objects_of(repository).update(before)
    assert doubts(repository) == []  # by itself it is whole
    (told,) = doubts(another(repository), pin)
    assert capture_id(3) in told
    assert capture_id(2) in told
    with pytest.raises(RepositoryRolledBack, match=capture_id(3)):
        check_pin(another(repository), pin)
    sealed(another(repository), 4, 5)  # and goes on being found
    assert any(capture_id(3) in one for one in doubts(another(repository), pin))


def test_a_store_without_any_capture_is_older_than_any_pin(repository: Repository) -> None:
    sealed(repository, 1)
    pin = pinned(repository)
    repository.store.delete(repository.objects.protection.manifest_name(capture_id(1)))
    assert doubts(repository, pin) == [
        f"Capture {capture_id(1)}, number 1, was the newest when it was pinned; there is none now."
    ]
    assert pin_of(read_chain(repository)) is None


def test_a_capture_that_was_taken_away_is_found_by_its_successor(repository: Repository) -> None:
    sealed(repository, 1, 2, 3)
    pin = pinned(repository)
    repository.store.delete(repository.objects.protection.manifest_name(capture_id(2)))
    (told,) = doubts(repository, pin)
    assert f"Capture {capture_id(2)} is gone, and nobody has forgotten it" in told
    repository.forget(capture_id(3))
    (told,) = doubts(repository, pin)  # the tombstone has the predecessor
    assert capture_id(2) in told


def test_a_manifest_that_was_replaced_is_found(repository: Repository) -> None:
    """In a plain repository anybody can write one; in an encrypted one who has the key."""
    sealed(repository, 1, 2)
    pin = pinned(repository)
    for number in (1, 2):
        name = repository.objects.protection.manifest_name(capture_id(number))
        content = {**json.loads(plain_form(repository, number)), "group": "other"}
        repository.store.put_many([(name, bytes(repository.objects.protection.protect(name, checked(content))))])
    assert [capture_id(number) in told for number, told in zip((2, 1), doubts(repository, pin), strict=True)] == [
        True,
        True,
    ]


@pytest.mark.parametrize("numbers", [(1,), (2,), (3,), (1, 2), (1, 2, 3)])
def test_what_was_forgotten_leaves_no_doubt(repository: Repository, numbers: tuple[int, ...]) -> None:
    sealed(repository, 1, 2, 3)
    pin = pinned(repository)
    repository.forget_all([capture_id(number) for number in numbers])
    collect(repository, grace=timedelta(0))
    collect(repository, grace=timedelta(0))
    assert doubts(repository, pin) == []
    (after,) = sealed(another(repository), 4)
    assert after.lineage is not None
    assert after.lineage.counter == 4  # a number is given once, also if the newest was forgotten
    assert doubts(repository, pin) == []


def test_a_tombstone_says_what_was_forgotten(repository: Repository) -> None:
    sealed(repository, 1, 2)
    digests = [hashlib.sha256(plain_form(repository, number)).hexdigest() for number in (1, 2)]
    repository.forget_all([capture_id(1), capture_id(2), capture_id(3)])
    found = repository.lineages.tombstones()
    (tombstone,) = found.read.values()
    assert [(one.capture_id, one.counter, one.digest) for one in tombstone.captures] == [
        (capture_id(1), 1, digests[0]),
        (capture_id(2), 2, digests[1]),
    ]
    assert (found.damaged, found.unclear) == ([], [])
    repository.forget_all([capture_id(1)])
    assert len(repository.lineages.tombstones().read) == 1  # of nothing there is none
    (name,) = repository.store.names("lineage")
    assert (capture_id(1).encode() in repository.store.get(name)) is not repository.config.encrypted


def test_a_capture_that_is_damaged_is_there_and_can_be_forgotten(repository: Repository) -> None:
    sealed(repository, 1, 2)
    pin = pinned(repository)
    name = repository.objects.protection.manifest_name(capture_id(2))
    repository.store.put_many([(name, repository.store.get(name)[:-9])])
    pinned_one, unfollowed = doubts(repository, pin)
    assert "which was pinned, is damaged" in pinned_one
    assert "cannot be told" in unfollowed
    (after,) = sealed(repository, 3)
    assert after.lineage is not None
    assert after.lineage.counter == 2
    repository.forget(capture_id(2))
    assert doubts(repository, pin) == []


def test_a_capture_that_is_sealed_again_after_it_was_forgotten_is_no_doubt(repository: Repository) -> None:
    (manifest,) = sealed(repository, 1)
    pin = pinned(repository)
    repository.forget(capture_id(1))
    repository.write_manifest(manifest)
    found = repository.manifest(capture_id(1)).lineage
    assert found is not None
    assert (found.counter, found.predecessor) == (1, None)  # never its own predecessor
    assert doubts(repository, pin) == []


def test_the_newest_is_found_with_few_reads_among_many_captures(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(repository, *range(1, 40))
    read: list[str] = []
    fresh = another(repository)
    real = fresh.store.get

    def get(name: str) -> bytes:
        read.append(name)
        return real(name)

    monkeypatch.setattr(fresh.store, "get", get)
    assert fresh.lineages.next(capture_id(50)).counter == 40
    assert len(read) <= 8
    read.clear()
    assert fresh.lineages.next(capture_id(50)).counter == 40
    assert read == []


def test_it_is_found_by_its_id_where_a_copy_of_the_store_has_other_times(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(repository, *range(1, 20))
    real = repository.store.entries
    latest = repository.objects.protection.manifest_name(capture_id(19))

    def entries(folder: str) -> list[Entry]:
        return [Entry(one.name, one.size, one.modified - timedelta(days=one.name == latest)) for one in real(folder)]

    monkeypatch.setattr(repository.store, "entries", entries)
    assert another(repository).lineages.next(capture_id(50)).counter == 20


def test_the_link_of_a_newer_manifest_is_read(repository: Repository) -> None:
    sealed(repository, 1, 2)
    name = repository.objects.protection.manifest_name(capture_id(2))
    content = {**json.loads(plain_form(repository, 2)), "more": 1, "critical": ["more"]}
    repository.store.put_many([(name, bytes(repository.objects.protection.protect(name, checked(content))))])
    (after,) = sealed(repository, 3)
    assert after.lineage is not None
    assert after.lineage.counter == 3


def test_a_tombstone_that_cannot_be_read_is_told_and_stops_no_seal(repository: Repository) -> None:
    sealed(repository, 1, 2)
    repository.forget(capture_id(1))
    (name,) = repository.store.names("lineage")
    (tombstone,) = repository.lineages.tombstones().read.values()
    repository.store.put_many([(name, repository.store.get(name)[:-9])])
    assert name in doubts(repository)[-1]
    newer = checked({**tombstone.content(), "format": 2})
    repository.store.put_many([(name, bytes(repository.objects.protection.protect(name, newer)))])
    assert [type(one) for one in read_chain(repository).unclear] == [NewerFormat]
    assert doubts(repository) == []  # it may be right
    (after,) = sealed(repository, 3)
    assert after.lineage is not None
    assert after.lineage.counter == 3


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_manifest_has_no_link(data: bytes) -> None:
    assert link_of(capture_id(1), data) is None


def test_a_store_that_is_away_is_not_taken_for_an_empty_one(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(repository, 1)

    def away(_: str) -> bytes:
        raise RepositoryNotReadable("away", transient=True)

    fresh = another(repository)
    monkeypatch.setattr(fresh.store, "get", away)
    with pytest.raises(RepositoryNotReadable):
        fresh.lineages.next(capture_id(2))
