"""A forgotten manifest, or its index, becomes unreadable while an incremental upon it is at work: nothing is deleted (R1).

x condemned by R0 ─▶ P, which counts on x, sealed ─▶ I begins upon P ─▶ P forgotten ─▶ a bit flips ─▶ gc, R0 is ripe ─▶ I sealed
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.document import checked
from freezeframe.repository.errors import CollectionStopped, NewerFormat, RepositoryNotReadable
from freezeframe.repository.garbage import CollectReport
from freezeframe.repository.layout import FORGOTTEN, SESSIONS, condemned_name, forgotten_name
from freezeframe.repository.session import TERM

from .locked import PROTECTIONS, protected
from .meanwhile import Meanwhile, run
from .refusing import Refusing, refused_with
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, read_disk, seal, store_disk
from .times import Time

pytestmark = pytest.mark.case("R1")

OLD, PARENT, INCREMENTAL = 1, 2, 3
BEFORE, AFTER = disk_of(b"x", b"p"), disk_of(b"x", b"i")

Change = Callable[[Repository, str, str], None]


class Store(Refusing, Meanwhile):
    """Stamped by the test's clock; objects may be refused."""


def refuse(repository: Repository, name: str, number: int) -> None:
    """Refuse what has the last part of that name, wherever it is moved; sessions have it too."""
    last = name.rpartition("/")[2]
    assert isinstance(repository.store, Store)
    repository.store.refusal = lambda asked: (
        refused_with(number, asked) if asked.endswith(last) and not asked.startswith(SESSIONS) else None
    )


@pytest.fixture
def store(time: Time) -> Store:
    return Store(time)


@pytest.fixture(params=PROTECTIONS)
def held(request: pytest.FixtureRequest, store: Store, time: Time) -> Repository:
    """A repository stamped by the test's clock."""
    made = protected(request.param, store)
    return Repository(made.store, made.config, made.keys, clock=time)


def rewrite(repository: Repository, name: str, change: Callable[[bytes], bytes]) -> None:
    repository.store.put_many([(name, change(repository.store.get(name)))])


def flip(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def control(_: Repository, __: str, ___: str) -> None:
    """Change nothing."""


def flipped_manifest(repository: Repository, manifest: str, _: str) -> None:
    rewrite(repository, manifest, flip)


def empty_manifest(repository: Repository, manifest: str, _: str) -> None:
    rewrite(repository, manifest, lambda _: b"")


def flipped_index(repository: Repository, _: str, index: str) -> None:
    rewrite(repository, index, flip)


def missing_index(repository: Repository, _: str, index: str) -> None:
    repository.store.delete(index)


def manifest_on_a_bad_sector(repository: Repository, manifest: str, _: str) -> None:
    refuse(repository, manifest, errno.EIO)


def index_on_a_bad_sector(repository: Repository, _: str, index: str) -> None:
    refuse(repository, index, errno.EIO)


def content_of(repository: Repository, manifest: str) -> dict[str, Any]:
    protection = repository.objects.protection
    bound = protection.manifest_name(capture_id(PARENT))
    content: dict[str, Any] = json.loads(protection.reveal(bound, repository.store.get(manifest)))
    del content["checksum"]
    return content


def changed_manifest(repository: Repository, manifest: str, **keys: object) -> None:
    protection = repository.objects.protection
    bound, content = protection.manifest_name(capture_id(PARENT)), content_of(repository, manifest)
    repository.store.put_many([(manifest, bytes(protection.protect(bound, checked({**content, **keys}))))])


def additional_key(repository: Repository, manifest: str, _: str) -> None:
    changed_manifest(repository, manifest, memory="all of it")


def newer_manifest(repository: Repository, manifest: str, _: str) -> None:
    changed_manifest(repository, manifest, format=9)


def newer_index(repository: Repository, manifest: str, index: str) -> None:
    """Have the parent's manifest name an index that a newer version has written."""
    protection = repository.objects.protection
    data = protection.reveal(index, repository.store.get(index))
    data = data[:4] + b"\x09" + data[5:]
    digest = hashlib.sha256(data)
    place = protection.index_name(digest.digest())
    repository.store.put_many([(place, bytes(protection.protect(place, data)))])
    content = content_of(repository, manifest)
    content["guests"][0]["disks"][0]["index"] = digest.hexdigest()
    changed_manifest(repository, manifest, guests=content["guests"])


UNREADABLE = [
    flipped_manifest,
    empty_manifest,
    flipped_index,
    missing_index,
    manifest_on_a_bad_sector,
    index_on_a_bad_sector,
]
NEWER = [newer_manifest, newer_index]


def begun_upon_parent(repository: Repository, time: Time) -> tuple[str, str]:
    """Let time go by until R0 is ripe, an incremental is under way upon P, and P is forgotten.

    The names of P's forgotten manifest and of its index's object.
    """
    seal(repository, OLD, disk_of(b"x"))
    repository.forget(capture_id(OLD))
    time.pass_(hours=2)
    repository.sessions.begin(capture_id(PARENT), "test")
    index = store_disk(repository, BEFORE, checkpoint="cp")  # it finds x there
    assert run(repository, time).condemned.objects == 2  # R0: x, and the index of the old capture
    manifest = manifest_of(PARENT, disk_capture(index, len(BEFORE), checkpoint="cp"))
    repository.seal(manifest)
    repository.sessions.end(capture_id(PARENT), sealed=True)
    time.pass_(hours=3)
    repository.sessions.begin(capture_id(INCREMENTAL), "test")
    repository.forget(capture_id(PARENT))
    protection = repository.objects.protection
    name = protection.manifest_name(capture_id(PARENT))
    return forgotten_name(name), protection.index_name(bytes.fromhex(index))


def write_incremental(repository: Repository, parent: str) -> str:
    """Write the one dirty slot, without a look for what is inherited: a large disk's is looked at in turns."""
    with repository.disk_writer(len(AFTER), CHUNK, parent_index_digest=parent) as writer:
        writer.write_chunk(1, AFTER[CHUNK:])
        return writer.finish().digest


def collected_while_it_is_written(repository: Repository, time: Time, change: Change) -> CollectReport:
    """Collect between what the incremental writes and its seal, and restore it then."""
    places = begun_upon_parent(repository, time)
    parent = content_of(repository, places[0])["guests"][0]["disks"][0]["index"]
    index = write_incremental(repository, parent)
    change(repository, *places)
    try:
        report = run(repository, time)
    finally:
        repository.seal(manifest_of(INCREMENTAL, disk_capture(index, len(AFTER))))
        repository.sessions.end(capture_id(INCREMENTAL), sealed=True)
        assert read_disk(repository, index) == AFTER
    return report


@pytest.mark.parametrize("change", [control, additional_key, *UNREADABLE], ids=lambda one: one.__name__)
def test_an_incremental_restores_whatever_becomes_of_its_forgotten_parent(
    held: Repository, time: Time, change: Change
) -> None:
    try:
        report = collected_while_it_is_written(held, time, change)
    except NewerFormat:
        assert change is additional_key  # which this version does not know: nothing was collected
    else:
        assert report.deleted.objects == (change in {control, additional_key})  # the old capture's index alone


@pytest.mark.parametrize("change", NEWER, ids=lambda one: one.__name__)
def test_a_newer_parent_stops_a_run_whatever_its_age(held: Repository, time: Time, change: Change) -> None:
    with pytest.raises(NewerFormat, match="Nothing was collected"):
        collected_while_it_is_written(held, time, change)
    time.pass_(days=400)
    with pytest.raises(NewerFormat, match="Nothing was collected"):
        run(held, time)


def test_a_newer_manifest_that_another_version_has_condemned_stops_a_run_too(held: Repository, time: Time) -> None:
    """What a newer version waits for with it is not known."""
    seal(held, PARENT, BEFORE)
    held.forget(capture_id(PARENT))
    run(held, time)
    (record,) = held.objects.condemned.runs()
    place = condemned_name(record, held.objects.protection.manifest_name(capture_id(PARENT)))
    newer_manifest(held, place, "")
    time.pass_(days=400)
    with pytest.raises(NewerFormat, match="Nothing was collected"):
        run(held, time)
    assert held.store.exists(place)


@pytest.mark.parametrize("change", UNREADABLE, ids=lambda one: one.__name__)
def test_what_holds_up_deletion_is_named_and_is_passed_over_once_nobody_can_count_on_it(
    held: Repository, time: Time, change: Change
) -> None:
    """The incremental dies without a word: its session is live until its term and grace are over."""
    manifest, index = begun_upon_parent(held, time)
    begun = held.sessions.load(capture_id(INCREMENTAL)).begun_at
    change(held, manifest, index)
    report = run(held, time)
    (held_up,) = report.held
    named = index if "index" in change.__name__ else manifest
    assert (held_up.name, held_up.until) == (named, begun + TERM + timedelta(hours=1))
    assert held_up.reason
    assert report.free_at is not None
    assert report.free_at >= held_up.until
    assert report.deleted.objects == 0
    assert not list(held.store.names(FORGOTTEN))  # it is condemned, so that its time begins
    time.now = held_up.until - timedelta(seconds=30)
    again = run(held, time)
    assert (again.deleted.objects, [one.until for one in again.held]) == (0, [held_up.until])
    time.now = held_up.until + timedelta(seconds=30)
    last = run(held, time)
    assert (last.held, last.deleted.objects > 0) == ((), True)


def test_a_damaged_capture_that_is_forgotten_keeps_garbage_no_longer_than_a_sound_one(
    held: Repository, time: Time
) -> None:
    sealed = seal(held, PARENT, BEFORE)
    index = held.objects.protection.index_name(bytes.fromhex(sealed.guests[0].disks[0].index))
    held.store.delete(index)
    with pytest.raises(CollectionStopped, match=capture_id(PARENT)):
        run(held, time)
    held.forget(capture_id(PARENT))
    time.pass_(hours=2)
    assert len(run(held, time).held) == 1
    time.pass_(hours=2)
    report = run(held, time)
    assert (report.held, report.waiting.objects, report.deleted.objects) == ((), 0, 2)


def test_an_index_that_a_capture_shares_with_a_forgotten_one_stops_a_run_as_ever(held: Repository, time: Time) -> None:
    for number in (PARENT, INCREMENTAL):
        sealed = seal(held, number, BEFORE)
    held.forget(capture_id(PARENT))
    held.store.delete(held.objects.protection.index_name(bytes.fromhex(sealed.guests[0].disks[0].index)))
    with pytest.raises(CollectionStopped, match=capture_id(INCREMENTAL)):
        run(held, time)


def test_a_store_that_refuses_to_be_read_stops_a_run_before_it_changes_anything(held: Repository, time: Time) -> None:
    """A permission says nothing of the object: it is neither damaged nor passed over."""
    manifest, _ = begun_upon_parent(held, time)
    refuse(held, manifest, errno.EACCES)
    with pytest.raises(RepositoryNotReadable, match="failed"):
        run(held, time)
    assert list(held.store.names(FORGOTTEN)) == [manifest]
