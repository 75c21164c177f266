"""Captures are copied into a copy of their repository: whole, once, and as if they had been sealed there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest

from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.chain import read_chain
from freezeframe.repository.copying import (
    CopyDiverged,
    NotACopy,
    SameRepository,
    Why,
    create_copy,
    open_copy,
)
from freezeframe.repository.copying.chunks import ChunkCopier
from freezeframe.repository.copying.twin import check_elsewhere
from freezeframe.repository.document import checked
from freezeframe.repository.errors import (
    ConfigChanged,
    NewerFormat,
    RepositoryExists,
    RepositoryFull,
    RepositoryNotReadable,
)
from freezeframe.repository.freshness import Pin, against_pin, holes, pin_of
from freezeframe.repository.garbage import collect
from freezeframe.repository.layout import CHUNKS, DAMAGED, LINEAGE, SESSIONS
from freezeframe.repository.lineage import tombstone_of
from freezeframe.repository.session import Sessions
from freezeframe.repository.suspects import Suspect

from .copies import DISKS, check_copy, chunk_name, copied, filled, index_name, objects_in, spoil
from .copies import capture as seal_capture
from .locked import KEY, PROTECTIONS, locked, protected
from .refusing import Refusing
from .samples import CHUNK, NOW, capture_id, disk_of
from .times import Time

ONE, TWO, THREE = map(capture_id, (1, 2, 3))


@pytest.fixture(params=PROTECTIONS)
def source(request: pytest.FixtureRequest) -> Repository:
    """Three captures."""
    made = protected(request.param, Refusing())
    filled(made)
    return made


@pytest.fixture
def store() -> Refusing:
    """An empty store for the copy."""
    return Refusing()


def of(repository: Repository) -> Refusing:
    assert isinstance(repository.store, Refusing)
    return repository.store


def test_all_of_it_is_there_and_a_second_run_sends_nothing(source: Repository, store: Refusing) -> None:
    before = {name: data for name, data in of(source)._objects.items() if not name.startswith(SESSIONS)}
    report = copied(source, store)
    assert (report.created, report.copied, report.there, report.whole) == (True, [ONE, TWO, THREE], [], True)
    assert report.chunks_copied == 6
    copy = Repository.open_in(store, KEY if source.keys else KEY.__class__(None))
    check_copy(copy, {1, 2, 3})
    assert objects_in(store, CHUNKS) == objects_in(of(source), CHUNKS)  # byte for byte
    assert not objects_in(store, LINEAGE)  # nothing is lacking
    assert pin_of(read_chain(copy)) == pin_of(read_chain(source))
    assert verify(copy, copy.manifests(), Tier.REHASHED).sound
    again = copied(source, store)
    assert (again.created, again.copied, again.there) == (False, [], [ONE, TWO, THREE])
    assert (again.chunks_copied, again.chunks_known) == (0, 0)
    after = {name: data for name, data in of(source)._objects.items() if not name.startswith(SESSIONS)}
    assert after == before
    assert all(one.ended_at is not None for side in (source, copy) for one in side.sessions.all())


def test_of_a_later_capture_only_what_is_new_is_asked_for(source: Repository, store: Refusing) -> None:
    copied(source, store)
    disk = disk_of(b"e", b"c", b"new")
    seal_capture(source, 4, disk, source.manifest(THREE))
    report = copied(source, store)
    assert (report.copied, report.chunks_copied, report.chunks_known) == ([capture_id(4)], 1, 0)
    check_copy(open_copy(store, source), {1, 2, 3, 4}, {**DISKS, 4: disk})


def test_what_is_forgotten_at_the_source_stays_and_is_told(source: Repository, store: Refusing) -> None:
    copied(source, store)
    source.forget(TWO)
    report = copied(source, store)
    assert report.only_there == [TWO]
    check_copy(open_copy(store, source), {1, 2, 3})
    other = Refusing()
    assert copied(source, other).copied == [ONE, THREE]
    check_copy(open_copy(other, source), {1, 3})  # the tombstone is there too, so that nothing is missed


def test_what_the_copy_has_forgotten_is_not_copied_again_unless_it_is_named(
    source: Repository, store: Refusing
) -> None:
    copied(source, store)
    open_copy(store, source).forget(TWO)
    report = copied(source, store)
    assert (report.copied, report.there, report.forgotten_there) == ([], [ONE, THREE], [TWO])
    assert copied(source, store, TWO).copied == [TWO]
    check_copy(open_copy(store, source), {1, 2, 3})


def test_a_part_of_the_captures_has_no_holes_and_says_what_it_lacks(source: Repository, store: Refusing) -> None:
    assert copied(source, store, THREE).copied == [THREE]
    copy = open_copy(store, source)
    check_copy(copy, {3})
    chain = read_chain(copy)
    assert chain.elsewhere.keys() == {ONE, TWO}
    link = read_chain(source).there[TWO]
    (said,) = against_pin(chain, Pin(counter=2, capture_id=TWO, digest=link.digest or ""))
    assert "not in this copy" in said
    assert copied(source, store).copied == [ONE, TWO]
    check_copy(copy, {1, 2, 3})
    assert not objects_in(store, LINEAGE)
    # so that one which is taken away now is missed
    store.delete(copy.objects.protection.manifest_name(TWO))
    assert [one.about.name for one in holes(read_chain(copy))] == [TWO]


def test_a_dry_run_changes_nothing(source: Repository, store: Refusing) -> None:
    before = dict(of(source)._objects)
    report = copied(source, store, dry_run=True)
    assert (report.dry_run, report.copied) == (True, [ONE, TWO, THREE])
    assert not store._objects
    assert of(source)._objects == before


@pytest.mark.parametrize("what", ["chunk", "index"])
def test_damage_costs_that_capture_only(source: Repository, store: Refusing, what: str) -> None:
    name = chunk_name(source, b"b") if what == "chunk" else index_name(source, source.manifest(ONE))
    whole = of(source)._objects[name]
    spoil(of(source), name)
    report = copied(source, store)
    assert [(one.capture_id, one.why) for one in report.left] == [(ONE, Why.DAMAGED)]
    assert report.copied == [TWO, THREE]
    check_copy(open_copy(store, source), {2, 3})
    of(source)._objects[name] = whole  # another capture has written it anew
    assert copied(source, store).copied == [ONE]
    check_copy(open_copy(store, source), {1, 2, 3})


def test_a_sound_chunk_is_found_wherever_it_is(source: Repository, store: Refusing) -> None:
    name = chunk_name(source, b"b")
    of(source).move(name, f"{DAMAGED}/{name.rpartition('/')[2]}")
    assert copied(source, store).whole
    check_copy(open_copy(store, source), {1, 2, 3})


def test_a_chunk_of_a_newer_version_costs_its_capture_and_is_no_damage(store: Refusing) -> None:
    source = Repository.init_in(Refusing(), chunk_bytes=CHUNK)
    filled(source)
    data = bytearray(of(source)._objects[chunk_name(source, b"b")])
    data[4] = 9
    of(source)._objects[chunk_name(source, b"b")] = bytes(data)
    report = copied(source, store)
    assert [(one.capture_id, one.why) for one in report.left] == [(ONE, Why.NEWER)]
    assert not report.damaged


def newer(data: bytes) -> bytes:
    content = json.loads(data)
    return checked({**content, "more": 1, "critical": ["more"]})


@pytest.mark.parametrize("why", list(Why))
def test_a_manifest_that_cannot_be_read_is_told_and_others_are_copied(
    source: Repository, store: Refusing, why: Why
) -> None:
    protection = source.objects.protection
    name = protection.manifest_name(TWO)
    if why is Why.DAMAGED:
        spoil(of(source), name)
    elif why is Why.NEWER:
        data = newer(source.objects.manifest(TWO))
        of(source).put(name, BytesIO(protection.protect(name, data)))
    else:
        of(source).refused[name] = False
    report = copied(source, store)
    assert [(one.capture_id, one.why) for one in report.left] == [(TWO, why)]
    assert (report.copied, report.damaged) == ([ONE, THREE], why is Why.DAMAGED)
    copy = open_copy(store, source)
    assert set(copy.capture_ids()) == {ONE, THREE}
    if why is not Why.NEWER:  # the successor names another than that
        assert holes(read_chain(copy)) == []  # it is not taken for absent, here or there
    of(source).refused.clear()


def test_a_store_that_is_away_ends_the_copy_and_blames_no_capture(source: Repository, store: Refusing) -> None:
    of(source).refusal = lambda name: None
    begun: list[str] = []

    def away(now: object) -> None:
        begun.append("")
        of(source).away = True

    with pytest.raises(RepositoryNotReadable):
        copied(source, store, on_progress=away)
    of(source).away = False
    assert begun
    assert copied(source, store).whole


def test_another_repository_is_refused_before_anything_is_written(source: Repository) -> None:
    other = Refusing()
    Repository.init_in(other, chunk_bytes=CHUNK)
    before = dict(other._objects)
    with pytest.raises(NotACopy, match="no copy of it"):
        copied(source, other)
    with pytest.raises(RepositoryExists):
        create_copy(other, source)
    assert {name: other._objects[name] for name in before} == before


def test_a_copy_that_was_captured_into_is_refused_before_anything_is_written(
    source: Repository, store: Refusing
) -> None:
    copied(source, store)
    copy = open_copy(store, source)
    seal_capture(copy, 9, disk_of(b"z"))
    before = dict(store._objects)
    with pytest.raises(CopyDiverged, match=capture_id(9)):
        copied(source, store)
    assert store._objects == before
    copy.forget(capture_id(9))
    assert copied(source, store).whole


def test_an_older_state_of_the_source_is_refused_too(source: Repository, store: Refusing) -> None:
    older = dict(of(source)._objects)
    seal_capture(source, 4, disk_of(b"z"))
    copied(source, store)
    of(source)._objects = older
    with pytest.raises(CopyDiverged, match=capture_id(4)):
        copied(source, store)


def test_a_tombstone_that_cannot_be_read_leaves_it_open(source: Repository, store: Refusing) -> None:
    copied(source, store)
    source.forget(TWO)
    (name,) = objects_in(of(source), LINEAGE)
    of(source).refused[name] = False
    with pytest.raises(RepositoryNotReadable, match="cannot be told"):
        copied(source, store)
    of(source).refused.clear()
    data = newer(tombstone_of(()).to_json())
    of(source).put(name, BytesIO(source.objects.protection.protect(name, data)))
    with pytest.raises(NewerFormat, match="cannot be told"):
        copied(source, store)


def test_a_tombstone_of_a_newer_version_is_copied_as_it_is(source: Repository, store: Refusing) -> None:
    source.forget(TWO)
    (name,) = objects_in(of(source), LINEAGE)
    data = source.objects.protection.protect(name, newer(tombstone_of(()).to_json()))
    of(source).put(name, BytesIO(data))
    copied(source, store)
    assert store._objects[name] == data


class Alias(Refusing):
    """Another address of the same objects."""

    def __init__(self, other: Refusing) -> None:
        super().__init__()
        self._objects, self._modified = other._objects, other._modified
        self.address_of_its_own = "elsewhere:"

    @property
    def address(self) -> str:
        return self.address_of_its_own


def test_the_source_under_another_address_is_refused(source: Repository) -> None:
    before = {name for name in of(source)._objects if not name.startswith(SESSIONS)}
    with pytest.raises(SameRepository):
        copied(source, Alias(of(source)))
    assert {name for name in of(source)._objects if not name.startswith(SESSIONS)} == before


@pytest.mark.parametrize("spelling", ["{}", "{}/", "file://{}", "{}/../r", "{}-link", "{}/inner", "{}/.."])
def test_an_address_of_the_source_is_refused(tmp_path: Any, spelling: str) -> None:
    root = tmp_path / "r"
    root.mkdir()
    (tmp_path / "r-link").symlink_to(root)
    with pytest.raises(SameRepository):
        check_elsewhere(str(root), spelling.format(root))


@pytest.mark.parametrize("spelling", ["s3://b/p/", "s3://b//p", "s3://b/p/inner", "s3://b"])
def test_an_address_of_the_source_in_a_bucket_is_refused(spelling: str) -> None:
    with pytest.raises(SameRepository):
        check_elsewhere("s3://b/p", spelling)


@pytest.mark.parametrize("other", ["s3://b/q", "s3://b/pq", "s3://c/p", "/b/p"])
def test_another_place_is_not(other: str) -> None:
    check_elsewhere("s3://b/p", other)
    check_elsewhere(other, "s3://b/p")


def test_a_config_that_was_changed_is_refused(store: Refusing) -> None:
    source = locked(Refusing())
    copied(source, store)
    content = json.loads(store._objects["config"])
    for changed in ({**content, "chunk_bytes": 8192}, {**content, "mac": "ab" * 32}):
        store._objects["config"] = checked({key: value for key, value in changed.items() if key != "checksum"})
        with pytest.raises((NotACopy, ConfigChanged)):
            open_copy(store, source)


def test_what_is_set_aside_in_the_copy_is_copied_again(source: Repository, store: Refusing) -> None:
    copied(source, store)
    copy = open_copy(store, source)
    for name in (chunk_name(copy, b"c"), index_name(copy, copy.manifest(TWO))):
        spoil(store, name)
    assert not verify(copy, copy.manifests(), set_aside=True).sound
    report = copied(source, store)
    assert (report.copied, report.chunks_copied) == ([], 1)
    check_copy(copy, {1, 2, 3})
    assert verify(copy, copy.manifests(), set_aside=True).sound
    assert not objects_in(store, DAMAGED)


def test_a_chunk_that_the_copy_has_lost_is_copied_with_the_next_capture(source: Repository, store: Refusing) -> None:
    copied(source, store)
    seal_capture(source, 4, disk_of(b"e", b"c", b"g"), source.manifest(THREE))
    store.delete(chunk_name(source, b"e"))
    assert copied(source, store).chunks_copied == 2
    check_copy(open_copy(store, source), {1, 2, 3, 4}, {**DISKS, 4: disk_of(b"e", b"c", b"g")})


def test_a_chunk_that_is_set_aside_while_it_is_counted_on_is_copied_again(
    source: Repository, store: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(source, store, ONE)
    send, name = ChunkCopier.send, chunk_name(source, b"a")

    def sent(self: ChunkCopier, *arguments: Any) -> None:
        send(self, *arguments)
        if name in store._objects:
            store.move(name, f"{DAMAGED}/{name.rpartition('/')[2]}")
            monkeypatch.setattr(ChunkCopier, "send", send)

    monkeypatch.setattr(ChunkCopier, "send", sent)
    copied(source, store)
    check_copy(open_copy(store, source), {1, 2, 3})


def test_a_mark_of_a_suspect_is_copied_with_its_capture(source: Repository, store: Refusing) -> None:
    def mark(number: int) -> None:
        index = source.manifest(capture_id(number)).guests[0].disks[0].index
        of_disk = {"capture_id": capture_id(number), "index": index, "guest": "web", "target": "vda"}
        of_audit = {"found_by": THREE, "found_at": NOW, "reason": "other data"}
        source.suspects.mark(Suspect.model_validate({**of_disk, **of_audit}))

    mark(1)
    mark(2)
    copied(source, store, TWO)
    copy = open_copy(store, source)
    assert [one.capture_id for one in copy.suspects.all()] == [TWO]
    copied(source, store)
    mark(3)
    copied(source, store)
    assert {one.capture_id for one in copy.suspects.all()} == {ONE, TWO, THREE}


class Full(Refusing):
    """Has no room for chunks after so many."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def put_many(self, objects: Any) -> None:
        for one in objects:
            if not self.room:
                raise RepositoryFull("The copy is full.")
            self.room -= 1
            super().put_many([one])


def test_a_copy_that_is_full_keeps_what_it_has_and_goes_on(source: Repository) -> None:
    store = Full(4)
    with pytest.raises(RepositoryFull):
        copied(source, store, threads=0)
    copy = open_copy(store, source)
    check_copy(copy, {1, 2})
    assert [one.state for one in copy.sessions.all()] == ["failed"]
    store.room = 100
    report = copied(source, store)
    assert (report.copied, report.there) == ([THREE], [ONE, TWO])
    check_copy(copy, {1, 2, 3})


class Dies(BaseException):
    """The process is no more."""


class Dying(Refusing):
    """Dies at the `steps`-th thing that it is told to change."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Dies

    def _set(self, name: str, data: bytes) -> None:
        self.step()
        super()._set(name, data)

    def delete(self, name: str) -> None:
        self.step()
        super().delete(name)


def test_a_copy_that_dies_anywhere_is_whole_and_the_next_goes_on(source: Repository) -> None:
    source.forget(TWO)
    seal_capture(source, 4, disk_of(b"e", b"z", b""), source.manifest(ONE))
    disks = {**DISKS, 4: disk_of(b"e", b"z", b"")}
    for steps in range(1000):
        store = Dying(steps)
        try:
            copied(source, store, threads=0)
        except Dies:
            store.steps = 10**6
        else:
            assert steps > 20
            return
        if "config" in store._objects:
            copy = open_copy(store, source)
            there = {int(one[4:]) for one in copy.capture_ids()}
            assert there in ({*()}, {1}, {1, 3}, {1, 3, 4})
            check_copy(copy, there, disks)
        sent = len(objects_in(store, CHUNKS))
        report = copied(source, store, threads=0)
        assert report.whole
        assert report.chunks_copied == len(objects_in(store, CHUNKS)) - sent  # none is sent again
        check_copy(open_copy(store, source), {1, 3, 4}, disks)
        assert not any(told.not_copied for told in open_copy(store, source).lineages.tombstones().read.values())


class Together(Refusing):
    """Gives chunks only to so many who ask at once."""

    def __init__(self, parties: int) -> None:
        super().__init__()
        self.barrier = threading.Barrier(parties, timeout=60)
        self.waits = False

    def get(self, name: str) -> bytes:
        if self.waits and name.startswith(f"{CHUNKS}/"):
            self.barrier.wait()
        return super().get(name)


def test_several_chunks_are_read_at_once(store: Refusing) -> None:
    together = Together(4)
    source = Repository.init_in(together, chunk_bytes=CHUNK)
    seal_capture(source, 1, disk_of(b"a", b"b", b"c", b"d"))
    together.waits = True
    assert copied(source, store).whole


def meanwhile(time: Time) -> tuple[Repository, Callable[[object], None]]:
    """Return a repository, and what others do once the first capture is copied: forget the second, and collect, for days."""
    made = Repository.init_in(Refusing(time), chunk_bytes=CHUNK)
    source = Repository(made.store, made.config, clock=time)
    filled(source)
    time.pass_(days=40)
    done: list[object] = []

    def act(now: object) -> None:
        if not done:
            done.append(now)
            source.forget(ONE)
            for _ in range(4):
                collect(source, grace=timedelta(hours=1), clock=time, threads=0)
                time.pass_(hours=10)

    return source, act


def test_garbage_collection_waits_for_a_copy(time: Time) -> None:
    source, act = meanwhile(time)
    store = Refusing(time)
    report = copied(source, store, clock=time, on_progress=act)
    assert report.copied == [ONE, TWO, THREE]
    check_copy(Repository(store, source.config, clock=time), {1, 2, 3})


def test_without_a_session_it_would_not(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""
    source, act = meanwhile(time)
    monkeypatch.setattr(Sessions, "all", lambda self: [])
    report = copied(source, Refusing(time), clock=time, on_progress=act)
    assert (report.copied, report.gone) == ([TWO, THREE], [ONE])


def test_a_copy_of_many_days_renews_its_sessions(time: Time) -> None:
    source, _ = meanwhile(time)
    store = Refusing(time)
    report = copied(source, store, clock=time, on_progress=lambda _: time.pass_(days=0.6))
    assert report.whole
    copy = Repository(store, source.config, clock=time)
    for side in (source, copy):
        sessions = [one for one in side.sessions.all() if one.program == "freezeframe repo copy"]
        assert len(sessions) > 1
        assert all(one.ended_at is not None for one in sessions)
        assert all(one.ended_at - one.begun_at < timedelta(days=3) for one in sessions if one.ended_at)
