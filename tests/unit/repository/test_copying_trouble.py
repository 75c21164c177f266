"""Trouble in the copy, or in the source's documents: it costs one capture at most, and is told."""

from __future__ import annotations

from io import BytesIO
from typing import BinaryIO

import pytest

from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.copying import Why, create_copy, open_copy
from freezeframe.repository.errors import RepositoryNotReadable, WrongKey
from freezeframe.repository.layout import CONFIG, KEYS, LINEAGE, key_slot_name

from .copies import DISKS, check_copy, chunk_name, copied, filled, index_name, objects_in, spoil
from .copies import capture as seal_capture
from .locked import KEY_FILE, PROTECTIONS, Key, protected
from .refusing import Refusing
from .samples import capture_id, disk_of
from .test_copying import newer, of

ONE, TWO, THREE, FOUR = map(capture_id, (1, 2, 3, 4))
NEW = disk_of(b"e", b"c", b"new")


@pytest.fixture(params=PROTECTIONS)
def source(request: pytest.FixtureRequest) -> Repository:
    """Three captures."""
    made = protected(request.param, Refusing())
    filled(made)
    return made


@pytest.fixture(params=["authenticated", "encrypted"])
def keyed(request: pytest.FixtureRequest) -> Repository:
    """With a second key slot."""
    made = protected(request.param, Refusing())
    filled(made)
    slots, keys = made.encryption
    slots.add(keys, KEY_FILE, "second")
    return made


@pytest.fixture
def store() -> Refusing:
    return Refusing()


@pytest.fixture
def copy(source: Repository, store: Refusing) -> Repository:
    """All of them."""
    copied(source, store)
    return open_copy(store, source)


@pytest.mark.parametrize("why", [Why.DAMAGED, Why.UNREADABLE])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_manifest_that_cannot_be_read_in_the_copy_is_not_there(
    source: Repository, copy: Repository, store: Refusing, why: Why, *, dry_run: bool
) -> None:
    name = copy.objects.protection.manifest_name(TWO)
    if why is Why.DAMAGED:
        spoil(store, name)
    else:
        store.refused[name] = False
    report = copied(source, store, dry_run=dry_run)
    assert [(one.capture_id, one.why, one.in_copy) for one in report.left] == [(TWO, why, True)]
    assert (report.whole, report.there) == (False, [ONE, THREE])
    assert ("forget" in report.left[0].advice) is (why is Why.DAMAGED)
    assert "Its manifest in the copy" in report.left[0].reason
    only = copied(source, store, TWO, dry_run=dry_run)
    assert [one.capture_id for one in only.left] == [TWO]
    assert copied(source, store, ONE, dry_run=dry_run).whole


def test_a_damaged_manifest_of_the_copy_is_copied_again_once_it_is_forgotten_there(
    source: Repository, copy: Repository, store: Refusing
) -> None:
    spoil(store, copy.objects.protection.manifest_name(TWO))
    copy.forget_all([TWO])
    assert copied(source, store, TWO).copied == [TWO]
    check_copy(copy, {1, 2, 3})


def test_nobody_is_told_to_forget_in_the_copy_what_the_source_cannot_read_either(
    source: Repository, copy: Repository, store: Refusing
) -> None:
    name = copy.objects.protection.manifest_name(TWO)
    for side in (store, of(source)):
        spoil(side, name)
    (left,) = copied(source, store).left
    assert (left.capture_id, "forget" in left.advice) == (TWO, False)


def test_a_manifest_of_a_newer_version_in_the_copy_is_there(source: Repository, store: Refusing) -> None:
    protection = source.objects.protection
    name = protection.manifest_name(THREE)
    of(source).put(name, BytesIO(protection.protect(name, newer(source.objects.manifest(THREE)))))
    copied(source, store)
    store.put(name, BytesIO(of(source).get(name)))  # a newer version has copied it
    report = copied(source, store)
    assert (report.whole, report.there) == (True, [ONE, TWO, THREE])


@pytest.mark.parametrize("what", ["manifest", "index"])
def test_a_parent_that_the_copy_s_storage_refuses_costs_no_capture(
    source: Repository, copy: Repository, store: Refusing, what: str
) -> None:
    parent = source.manifest(THREE)
    seal_capture(source, 4, NEW, parent)
    protection = copy.objects.protection
    store.refused[protection.manifest_name(THREE) if what == "manifest" else index_name(copy, parent)] = False
    report = copied(source, store)
    assert report.copied == [FOUR]
    store.refused.clear()
    check_copy(copy, {1, 2, 3, 4}, {**DISKS, 4: NEW})


class Mending(Refusing):
    """Gives what was refused once it has been put anew."""

    def put(self, name: str, source: BinaryIO) -> None:
        super().put(name, source)
        self.refused.pop(name, None)


@pytest.mark.parametrize("mends", [True, False])
def test_an_index_that_is_there_and_is_refused_is_put_anew_and_costs_no_other_capture(
    source: Repository, *, mends: bool
) -> None:
    store = Mending() if mends else Refusing()
    copied(source, store, ONE)
    copy = open_copy(store, source)
    name = index_name(copy, source.manifest(TWO))
    store.put(name, BytesIO(of(source).get(name)))
    store.refused[name] = False
    report = copied(source, store)
    assert [(one.capture_id, one.why) for one in report.left] == ([] if mends else [(TWO, Why.UNREADABLE)])
    assert report.copied == ([TWO, THREE] if mends else [THREE])
    store.refused.clear()
    copied(source, store)
    check_copy(copy, {1, 2, 3})


@pytest.mark.parametrize("is_there", [True, False])
def test_an_index_in_the_copy_that_is_damaged_at_its_end_is_put_anew(
    source: Repository, store: Refusing, *, is_there: bool
) -> None:
    copied(source, store, *([] if is_there else [ONE]))
    copy = open_copy(store, source)
    name = index_name(copy, source.manifest(TWO))
    store.put(name, BytesIO(of(source).get(name)))
    spoil(store, name)
    assert copied(source, store, TWO).whole
    check_copy(copy, {1, 2, 3} if is_there else {1, 2})


def test_an_index_of_a_newer_form_in_the_copy_stays_and_costs_its_capture(keyed: Repository, store: Refusing) -> None:
    copied(keyed, store, ONE)
    copy = open_copy(store, keyed)
    name = index_name(copy, keyed.manifest(TWO))
    data = bytearray(of(keyed).get(name))
    data[4] = 9  # the version of the sealed object
    store.put(name, BytesIO(data))
    report = copied(keyed, store)
    assert [(one.capture_id, one.why) for one in report.left] == [(TWO, Why.NEWER)]
    assert report.copied == [THREE]
    assert store.get(name) == data


def test_a_copy_that_is_away_ends_the_run_and_blames_no_capture(
    source: Repository, copy: Repository, store: Refusing
) -> None:
    seal_capture(source, 4, NEW, source.manifest(THREE))

    def away(_: object) -> None:
        store.away = True

    with pytest.raises(RepositoryNotReadable):
        copied(source, store, on_progress=away)
    store.away = False
    assert copied(source, store).copied == [FOUR]


@pytest.mark.parametrize("lost", ["chunk", "index"])
def test_what_the_copy_has_lost_of_a_capture_that_is_named_is_copied_again(
    source: Repository, copy: Repository, store: Refusing, lost: str
) -> None:
    store.delete(chunk_name(copy, b"b") if lost == "chunk" else index_name(copy, source.manifest(ONE)))
    assert not verify(copy, copy.manifests(), Tier.PRESENT).sound
    report = copied(source, store, ONE)
    assert (report.copied, report.there, report.whole) == ([], [ONE], True)
    assert verify(copy, copy.manifests(), Tier.REHASHED).sound
    check_copy(copy, {1, 2, 3})


def test_what_the_copy_has_lost_and_the_source_too_is_told(
    source: Repository, copy: Repository, store: Refusing
) -> None:
    for side, one in ((store, copy), (of(source), source)):
        side.delete(chunk_name(one, b"b"))
    (left,) = copied(source, store, ONE).left
    assert (left.capture_id, left.why, left.in_copy) == (ONE, Why.DAMAGED, True)


def test_a_tombstone_that_the_source_s_storage_refuses_leaves_no_hole_in_the_copy(
    source: Repository, store: Refusing
) -> None:
    source.forget(TWO)
    (tombstone,) = objects_in(of(source), LINEAGE)
    of(source).refused[tombstone] = False
    report = copied(source, store)
    assert (report.copied, len(report.notes)) == ([ONE, THREE], 1)
    check_copy(open_copy(store, source), {1, 3})  # and no hole
    of(source).refused.clear()
    assert copied(source, store).whole
    check_copy(open_copy(store, source), {1, 3})
    assert objects_in(store, LINEAGE).keys() == {tombstone}  # what was told in its place is gone


def slot_of(repository: Repository, label: str) -> str:
    slots, keys = repository.encryption
    return key_slot_name(slots.find(keys, label).slot_id)


def test_a_key_slot_that_is_refused_is_told_and_the_others_open_the_copy(keyed: Repository, store: Refusing) -> None:
    name = slot_of(keyed, "first")
    of(keyed).refused[name] = False
    report = copied(keyed, store)
    assert (report.copied, report.whole, len(report.notes)) == ([ONE, TWO, THREE], False, 1)
    assert name in report.notes[0]
    check_copy(Repository.open_in(store, Key(KEY_FILE)), {1, 2, 3})
    of(keyed).refused[slot_of(keyed, "second")] = False
    other = Refusing()
    with pytest.raises(RepositoryNotReadable):  # it could never be opened
        copied(keyed, other)
    assert not other._objects


def test_a_source_that_is_away_while_key_slots_are_copied_makes_no_copy(keyed: Repository, store: Refusing) -> None:
    name = slot_of(keyed, "first")

    def away(one: str) -> Exception | None:
        of(keyed).away = one == name
        return RepositoryNotReadable(f"Reading {one} failed.") if one == name else None

    of(keyed).refusal = away
    with pytest.raises(RepositoryNotReadable):
        copied(keyed, store)
    assert not store.exists(CONFIG)


def test_a_key_slot_of_another_repository_stays_where_a_copy_is_made(keyed: Repository, store: Refusing) -> None:
    other = protected("encrypted", Refusing())
    (foreign,) = objects_in(of(other), KEYS)
    store.put(foreign, BytesIO(of(other).get(foreign)))
    assert copied(keyed, store).whole
    assert store.get(foreign) == of(other).get(foreign)


def test_a_key_slot_that_is_removed_before_the_copy_is_made_opens_it_no_more(
    keyed: Repository, store: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCutError(Exception):
        pass

    def died(*_: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(Refusing, "put_if_absent", died)
        with pytest.raises(PowerCutError):
            create_copy(store, keyed)
    assert objects_in(store, KEYS).keys() == objects_in(of(keyed), KEYS).keys()
    slots, keys = keyed.encryption
    slots.remove(keys, slots.find(keys, "second").slot_id)
    assert copied(keyed, store).whole
    assert objects_in(store, KEYS) == objects_in(of(keyed), KEYS)
    with pytest.raises(WrongKey):
        Repository.open_in(store, Key(KEY_FILE))
