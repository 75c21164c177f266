"""Clearing: what somebody may need stays in `damaged/`, and its age is by the store's clock (R2, R10)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from freezeframe.repository import Manifest, Repository, aside, verify
from freezeframe.repository.age import CLOCKS_APART
from freezeframe.repository.aside import Kind, set_aside
from freezeframe.repository.errors import ClockDrift, RepositoryFull
from freezeframe.repository.garbage import collect
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import DAMAGED, FORGOTTEN, MANIFESTS, condemned_name, run_name
from freezeframe.repository.session import TERM
from freezeframe.repository.verify.review import KEPT

from .locked import PROTECTIONS, protected
from .refusing import refused_with
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, read_disk, seal
from .test_aside import Flaky, flaky, pass_
from .test_clearing import flip, object_of, objects_aside
from .test_restraint import chunks_of


@pytest.fixture(params=PROTECTIONS)
def held(request: pytest.FixtureRequest) -> Repository:
    store = Flaky()
    return protected(request.param, store)


def damaged_and_forgotten(repository: Repository) -> tuple[bytes, str]:
    """Have a capture's only chunk set aside, rotten, and the capture forgotten; return the chunk's digest and name."""
    digest, name = object_of(repository, Kind.CHUNK)
    flip(repository, name)
    verify(repository, repository.manifests(), set_aside=True)
    assert len(objects_aside(repository)) == 1
    repository.forget(capture_id(1))
    return digest, name


def forgotten_manifests(repository: Repository) -> list[str]:
    runs = repository.objects.condemned.runs()
    folders = [FORGOTTEN, *(condemned_name(run, MANIFESTS) for run in runs)]
    return [name for folder in folders for name in repository.store.names(folder)]


def collected(repository: Repository) -> None:
    collect(repository, clock=repository.sessions.clock, threads=0)


def cleared(repository: Repository) -> bool:
    verify(repository, repository.manifests(), set_aside=True)
    return list(repository.store.names(DAMAGED)) == []


def test_what_no_capture_refers_to_is_deleted_once_no_session_of_before_can_be_live(held: Repository) -> None:
    damaged_and_forgotten(held)
    for name in forgotten_manifests(held):
        held.store.delete(name)
    assert not cleared(held)
    pass_(held, days=7.9)
    assert not cleared(held)
    pass_(held, days=0.2)
    assert cleared(held)
    assert KEPT > TERM + CLOCKS_APART  # a session may expire that much later than a term after it began


def test_what_a_forgotten_capture_refers_to_is_kept_as_long_as_garbage_collection_keeps_that(held: Repository) -> None:
    """A session that began before it was forgotten may have chosen it as a parent, at any age of what is set aside."""
    _, name = object_of(held, Kind.CHUNK)
    flip(held, name)
    verify(held, held.manifests(), set_aside=True)
    pass_(held, days=30)
    held.sessions.begin(capture_id(2), "an incremental is under way")
    held.forget(capture_id(1))
    assert not cleared(held)
    collected(held)
    assert [name.startswith("condemned/") for name in forgotten_manifests(held)] == [True]
    pass_(held, days=3)
    collected(held)
    assert not cleared(held)
    held.sessions.end(capture_id(2), sealed=False)
    pass_(held, days=3)
    collected(held)
    assert forgotten_manifests(held) == []
    assert cleared(held)


@pytest.mark.parametrize("bounded", [False, True], ids=["all looked for", "not its turn"])
def test_an_incremental_that_inherits_what_is_set_aside_reads_it_again_though_its_parent_is_forgotten(
    held: Repository, monkeypatch: pytest.MonkeyPatch, *, bounded: bool
) -> None:
    """Its writer cannot look for all chunks of a large disk, so `damaged/` must tell it."""
    manifest = seal(held, 1, disk_of(b"a", b"b"))
    index = manifest.guests[0].disks[0].index
    digest = chunks_of(held, manifest)[0]
    flip(held, held.objects.protection.locate(digest))
    verify(held, held.manifests(), set_aside=True)
    pass_(held, days=30)
    held.sessions.begin(capture_id(2), "test")
    with held.disk_writer(2 * CHUNK, CHUNK, parent_index_digest=index) as writer:
        writer.write_chunk(1, disk_of(b"n"))
        if bounded:
            monkeypatch.setattr("freezeframe.repository.writer.missing_chunks", lambda *_, **__: frozenset())
        writer.look_for_inherited()
        held.forget(capture_id(1))
        pass_(held, minutes=1)
        verify(held, held.manifests(), set_aside=True)
        for slot in writer.slots_to_read_again():
            writer.write_chunk(slot, disk_of(b"a", b"b")[slot * CHUNK : (slot + 1) * CHUNK])
        made = writer.finish().digest
    held.seal(manifest_of(2, disk_capture(made, 2 * CHUNK)))
    assert read_disk(held, made) == disk_of(b"a", b"n")


Spoiler = Callable[[Repository], None]


def forgotten_manifest_is_cut(repository: Repository) -> None:
    (name,) = forgotten_manifests(repository)
    repository.store.put_many([(name, repository.store.get(name)[:-9])])


def forgotten_index_is_gone(repository: Repository) -> None:
    for name in list(flaky(repository)._objects):
        if name.startswith("indexes/"):
            repository.store.delete(name)


def record_of_a_run_is_damaged(repository: Repository) -> None:
    repository.store.put_many([(f"condemned/{capture_id(9)}.json", b"{}")])


def visible_manifest_is_cut(repository: Repository) -> None:
    name = repository.objects.protection.manifest_name(capture_id(2))
    repository.store.put_many([(name, repository.store.get(name)[:-9])])


@pytest.mark.parametrize(
    "spoil",
    [forgotten_manifest_is_cut, forgotten_index_is_gone, record_of_a_run_is_damaged, visible_manifest_is_cut],
    ids=lambda spoil: spoil.__name__,
)
def test_while_it_cannot_be_known_what_a_capture_refers_to_nothing_is_deleted(held: Repository, spoil: Spoiler) -> None:
    """The forgotten capture is of another disk: what is set aside is not its."""
    damaged_and_forgotten(held)
    for name in forgotten_manifests(held):
        held.store.delete(name)
    for number in (2, 3):
        seal(held, number, disk_of(b"b", bytes([64 + number])))
    held.forget(capture_id(3))
    pass_(held, days=30)
    before = dict(flaky(held)._objects)
    spoil(held)
    verify(held, [], set_aside=True)
    assert len(objects_aside(held)) == 1
    flaky(held)._objects.clear()
    flaky(held)._objects.update(before)
    assert cleared(held)  # that test can fail


@pytest.mark.parametrize("what", ["manifest", "record of its run"])
def test_a_forgotten_manifest_that_this_host_may_not_read_may_refer_to_anything(
    held: Repository, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    damaged_and_forgotten(held)
    pass_(held, days=30)
    if what == "manifest":
        (refused,) = forgotten_manifests(held)
    else:
        collected(held)
        (refused,) = (run_name(run) for run in held.objects.condemned.runs())
    get = held.store.get

    def refuse(name: str) -> bytes:
        if name == refused:
            raise refused_with(errno.EACCES, name)
        return get(name)

    monkeypatch.setattr(held.store, "get", refuse)
    assert not cleared(held)


@pytest.mark.parametrize("times", [1, 2])
def test_a_manifest_that_moves_while_it_is_looked_for_is_found(
    held: Repository, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A run of garbage collection condemns it between its listing and its reading; then another run takes it over."""
    damaged_and_forgotten(held)
    pass_(held, days=30)
    get, last = held.store.get, forgotten_manifests(held)[0].rpartition("/")[2]
    runs = [capture_id(7 + number) for number in range(times)]

    def moving(wanted: str) -> bytes:
        if wanted.endswith(last) and runs:
            run = RunRecord(run_id=runs.pop(), begun_at=held.sessions.clock())
            Records(held.objects).put(run)
            to = condemned_name(run.run_id, f"{MANIFESTS}/{last}")
            for kept in (flaky(held)._objects, flaky(held)._modified):
                kept[to] = kept.pop(wanted)  # type: ignore[assignment]
        return get(wanted)

    monkeypatch.setattr(held.store, "get", moving)
    assert not cleared(held)
    assert runs == []


def test_a_capture_that_is_sealed_while_references_are_read_counts(
    held: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sealed after the captures were listed, and refers to what is set aside."""
    digest, name = damaged_and_forgotten(held)
    for forgotten in forgotten_manifests(held):
        held.store.delete(forgotten)
    pass_(held, days=30)
    place, listing = objects_aside(held)[0], held.manifests

    def meanwhile(*args: object, **kwargs: Any) -> list[Manifest]:
        found = listing(**kwargs)
        monkeypatch.setattr(held, "manifests", listing)
        seal(held, 2, disk_of(b"a"))
        held.store.delete(name)  # as it was when that capture was captured
        return found

    monkeypatch.setattr(held, "manifests", meanwhile)
    verify(held, [], set_aside=True)
    assert objects_aside(held) == [place]
    assert [place.capture_id for place in verify(held, held.manifests()).chunks[0].places] == [capture_id(2)]
    assert verify(held, held.manifests()).chunks[0].digest == digest.hex()


@pytest.mark.parametrize("days", [8, -8, 0.01])
def test_a_host_whose_clock_is_off_sets_nothing_aside_and_clears_nothing(held: Repository, days: float) -> None:
    damaged_and_forgotten(held)
    manifest = seal(held, 2, disk_of(b"b"))
    flip(held, held.objects.protection.locate(chunks_of(held, manifest)[0]))
    before = dict(flaky(held)._objects)
    held.sessions.clock = lambda: datetime.now(UTC) + timedelta(days=days)
    with pytest.raises(ClockDrift) as told:
        verify(held, [manifest], set_aside=True)
    assert "--no-set-aside" in told.value.hint
    assert flaky(held)._objects == before
    assert len(verify(held, [manifest]).chunks) == 1  # only looking needs no clock
    assert flaky(held)._objects == before


def test_an_age_is_told_by_the_stores_clock_and_not_by_what_a_document_says(held: Repository) -> None:
    """A host eight days behind has written it, before such hosts were refused."""
    with pytest.MonkeyPatch.context() as patch:
        behind = aside.now() - timedelta(days=9)
        patch.setattr(aside, "now", lambda: behind)
        damaged_and_forgotten(held)
    for name in forgotten_manifests(held):
        held.store.delete(name)
    assert not cleared(held)


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_claim_is_as_old_as_the_store_says(held: Repository, hours: float) -> None:
    """One who claims by a clock of his own, or looks by one, takes nothing over that another is at."""
    digest, name = object_of(held, Kind.CHUNK)
    flip(held, name)
    sound = held.store.get(name)
    with pytest.MonkeyPatch.context() as patch:
        other = aside.now() + timedelta(hours=hours)
        held.store.delete(name)
        assert not set_aside(held.objects, Kind.CHUNK, digest, "another, who is at it")
        held.store.put_many([(name, sound)])
        patch.setattr(aside, "now", lambda: other)
        assert not set_aside(held.objects, Kind.CHUNK, digest, "mine")
        assert held.store.exists(name)
        pass_(held, hours=1.1)
        assert set_aside(held.objects, Kind.CHUNK, digest, "mine")


def test_who_cannot_look_at_the_stores_clock_clears_nothing_by_age(
    held: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged_and_forgotten(held)
    for name in forgotten_manifests(held):
        held.store.delete(name)
    pass_(held, days=30)

    def full(*_: object) -> None:
        raise RepositoryFull("not even a name")

    with monkeypatch.context() as patch:
        patch.setattr(held.store, "put", full)
        assert not cleared(held)
    assert cleared(held)
