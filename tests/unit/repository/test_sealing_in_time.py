"""Sealing and forgetting: in time or not at all, durable in the right order, and never a word about another's capture."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import pytest

from freezeframe.repository import Repository, catalog
from freezeframe.repository.errors import (
    AlreadyExists,
    CaptureNotFound,
    IndexDamaged,
    ObjectNotFound,
    RepositoryFull,
    RepositoryNotWritable,
    SealedTooLate,
    SessionDamaged,
    SessionLost,
)
from freezeframe.repository.layout import FORGOTTEN, MANIFESTS, SESSIONS, folder_of, forgotten_name, session_name
from freezeframe.repository.lineage import Lineage
from freezeframe.repository.session import MARGIN, TERM, SessionState
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import always

from .locked import PROTECTIONS, protected
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, seal, store_disk

TICK = timedelta(microseconds=1)
NOW = datetime.fromisoformat("2026-03-01T12:00:00+00:00")


class Ordered(MemoryStore):
    """Knows in which order names were given and folders settled; lets something happen before one name is read."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock)
        self.done: list[str] = []
        self.free: int | None = None
        self.before: dict[str, Callable[[], None]] = {}

    def put_if_absent(self, name: str, data: object) -> None:
        super().put_if_absent(name, data)  # type: ignore[arg-type]
        self.done.append(name)

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        super().move(name, to, allowed)
        self.done.append(to)

    def settle(self, folders: Iterable[str]) -> None:
        self.done += [f"settled {folder}" for folder in sorted(folders)]

    def get(self, name: str) -> bytes:
        self.before.pop(name, lambda: None)()
        return super().get(name)

    def free_bytes(self) -> int | None:
        return self.free


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def store(clock: Clock) -> Ordered:
    return Ordered(clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(store: Ordered, clock: Clock) -> Repository:
    made = Repository.init_in(store, chunk_bytes=CHUNK)
    store.done.clear()
    return Repository(store, made.config, clock=clock)


# sessions


def test_a_session_has_time_left_until_the_margin_before_its_end(repository: Repository, clock: Clock) -> None:
    session = repository.sessions.begin(capture_id(1), "test")
    assert (session.begun_at, session.expires_at, session.program) == (NOW, NOW + TERM, "test")
    clock.now = NOW + TERM - MARGIN - TICK
    assert repository.sessions.check(capture_id(1), MARGIN) == session
    clock.now += TICK
    with pytest.raises(SessionLost, match="expires at 2026-03-08 12:00:00"):
        repository.sessions.check(capture_id(1), MARGIN)
    assert repository.sessions.check(capture_id(1)) == session


def test_a_manifest_that_is_visible_as_its_session_expires_is_too_late(repository: Repository) -> None:
    session = repository.sessions.begin(capture_id(1), "test")
    repository.sessions.check_sealed(session, NOW, session.expires_at - TICK)
    with pytest.raises(SealedTooLate, match="after its session had expired"):
        repository.sessions.check_sealed(session, NOW, session.expires_at)


def test_a_session_that_is_gone_says_who_was_slow(repository: Repository) -> None:
    """Within the margin another has sealed the same and ended it; after that nobody knows what was collected."""
    session = repository.sessions.begin(capture_id(1), "test")
    repository.sessions.delete(capture_id(1))
    with pytest.raises(SessionLost, match="is gone") as caught:
        repository.sessions.check_sealed(session, NOW, NOW + MARGIN)
    assert not isinstance(caught.value, SealedTooLate)  # for which the manifest would be taken back
    with pytest.raises(SealedTooLate, match="is gone"):
        repository.sessions.check_sealed(session, NOW, NOW + MARGIN + TICK)


def test_a_session_that_was_ended_as_failed_seals_nothing(repository: Repository) -> None:
    for number, sealed in ((1, True), (2, False)):
        session = repository.sessions.begin(capture_id(number), "test")
        repository.sessions.end(capture_id(number), sealed=sealed)
        if sealed:
            repository.sessions.check_sealed(session, NOW, NOW)
        else:
            with pytest.raises(SealedTooLate, match="was ended while it was sealed"):
                repository.sessions.check_sealed(session, NOW, NOW)


def test_a_session_under_the_name_of_another_capture_is_damage(repository: Repository, store: Ordered) -> None:
    repository.sessions.begin(capture_id(1), "test")
    store.put_many([(session_name(capture_id(2)), store.get(session_name(capture_id(1))))])
    with pytest.raises(SessionDamaged, match=f"is of another capture, {capture_id(1)}"):
        repository.sessions.load(capture_id(2))


def test_who_finds_a_session_begun_makes_it_last(repository: Repository, store: Ordered) -> None:
    """Whoever has begun it may have died before it was durable."""
    first = repository.sessions.begin(capture_id(1), "test")
    assert store.done == [session_name(capture_id(1))]
    assert repository.sessions.begin(capture_id(1), "another") == first
    assert store.done[1:] == [f"settled {SESSIONS}"]


def test_sessions_are_told_in_the_order_in_which_they_began(
    repository: Repository, store: Ordered, clock: Clock
) -> None:
    for number in (3, 1, 2):
        clock.now += TICK
        repository.sessions.begin(capture_id(number), "test")
    store.put_many([(f"{SESSIONS}/README", b"nobody's")])
    assert [one.session_id for one in repository.sessions.all()] == [capture_id(number) for number in (3, 1, 2)]
    gone = session_name(capture_id(1))
    store.before[gone] = lambda: store.delete(gone)
    assert [one.session_id for one in repository.sessions.all()] == [capture_id(number) for number in (3, 2)]


@pytest.mark.parametrize("sealed", [False, True])
def test_a_session_ends_with_its_block_and_says_whether_it_sealed(repository: Repository, sealed: bool) -> None:  # noqa: FBT001
    disk = disk_capture(store_disk(repository, disk_of(b"a")), CHUNK)
    with repository.session("test", capture_id(4)) as begun:
        assert begun == capture_id(4)
        if sealed:
            repository.seal(manifest_of(4, disk))
    assert repository.sessions.load(begun).state is (SessionState.SEALED if sealed else SessionState.FAILED)


# the catalogue


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_a_manifest_is_visible_after_its_indexes_are_durable(store: Ordered, protection: str) -> None:
    repository = protected(protection, store)
    manifest = manifest_of(1, disk_capture(store_disk(repository, disk_of(b"a")), CHUNK))
    store.done.clear()
    repository.write_manifest(manifest)
    names = repository.objects.protection
    index = names.index_name(bytes.fromhex(manifest.guests[0].disks[0].index))
    assert store.done == [f"settled {folder_of(index)}", names.manifest_name(capture_id(1))]


def test_who_finds_the_same_manifest_makes_it_last(repository: Repository, store: Ordered) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    store.done.clear()
    repository.write_manifest(manifest)
    assert store.done[-1] == f"settled {MANIFESTS}"
    with pytest.raises(AlreadyExists):
        repository.write_manifest(manifest.model_copy(update={"group": "another"}))


def test_a_manifest_that_was_taken_back_while_another_looked_is_no_error(
    repository: Repository, store: Ordered
) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    name = repository.objects.protection.manifest_name(capture_id(1))
    store.before[name] = lambda: store.delete(name)
    repository.write_manifest(manifest)
    assert repository.manifests() == []


@pytest.mark.parametrize("update", [{"size_bytes": 2 * CHUNK}, {"chunk_bytes": 2 * CHUNK}])
def test_a_manifest_of_another_disk_than_its_index_is_not_sealed(
    repository: Repository, update: dict[str, int]
) -> None:
    disk = disk_capture(store_disk(repository, disk_of(b"a")), CHUNK).model_copy(update=update)
    with pytest.raises(IndexDamaged, match="is of another disk than vda"):
        repository.write_manifest(manifest_of(1, disk))
    assert repository.manifests() == []


def test_a_manifest_that_nobody_could_read_again_is_not_sealed(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of(1, disk_capture(store_disk(repository, disk_of(b"a")), CHUNK))
    length = len(manifest.changed({"lineage": Lineage(counter=1)}).to_json())
    monkeypatch.setattr(catalog, "OBJECT_BYTES_MAX", length - 1)
    with pytest.raises(RepositoryNotWritable, match="would have"):
        repository.write_manifest(manifest)
    assert repository.manifests() == []
    monkeypatch.setattr(catalog, "OBJECT_BYTES_MAX", length)
    repository.write_manifest(manifest)


def test_captures_are_forgotten_oldest_first_and_for_good(repository: Repository, store: Ordered) -> None:
    """An incremental goes after its parent: nobody finds it alone."""
    names = [repository.objects.protection.manifest_name(seal(repository, n, disk_of(b"a")).capture_id) for n in (1, 2)]
    store.done.clear()
    repository.forget_all([capture_id(2), capture_id(9), capture_id(1)])
    assert store.done[:4] == [*map(forgotten_name, names), f"settled {FORGOTTEN}", f"settled {MANIFESTS}"]
    assert all(store.exists(forgotten_name(name)) for name in names)


def test_who_forgets_what_is_not_there_is_told(repository: Repository) -> None:
    seal(repository, 1, disk_of(b"a"))
    with pytest.raises(CaptureNotFound, match=capture_id(2)):
        repository.forget(capture_id(2))
    repository.forget(capture_id(1))
    assert not repository.is_sealed(capture_id(1))


@pytest.mark.parametrize("wanted", ["", "02", "01HZ00000000000000000000019", "LATEST"])
def test_what_no_capture_begins_with_is_not_found(repository: Repository, wanted: str) -> None:
    seal(repository, 1, disk_of(b"a"))
    with pytest.raises(CaptureNotFound, match="There is no capture"):
        repository.capture_id(wanted)


def test_a_capture_is_found_by_the_beginning_that_only_it_has(repository: Repository) -> None:
    with pytest.raises(CaptureNotFound):
        repository.capture_id("latest")
    for number in (1, 2, 10):
        seal(repository, number, disk_of(b"a"))
    assert repository.capture_id("latest") == capture_id(10)
    assert repository.capture_id(capture_id(10)[:-1].lower()) == capture_id(10)
    with pytest.raises(CaptureNotFound, match=f"2 captures begin with .* {capture_id(2)} and {capture_id(1)}"):
        repository.capture_id(capture_id(1)[:-1])


def test_a_capture_that_is_forgotten_while_they_are_read_is_passed_over(repository: Repository, store: Ordered) -> None:
    for number in (1, 2, 3):
        seal(repository, number, disk_of(b"a"))
    name = repository.objects.protection.manifest_name(capture_id(2))
    store.before[name] = lambda: store.delete(name)
    assert [one.capture_id for one in repository.manifests()] == [capture_id(3), capture_id(1)]
    with pytest.raises(ObjectNotFound):
        store.get(name)


@pytest.mark.parametrize(("free", "fits"), [(None, True), (4095, False), (4096, True), (0, False)])
def test_room_is_enough_if_it_is_what_is_wanted(
    repository: Repository,
    store: Ordered,
    free: int | None,
    fits: bool,  # noqa: FBT001
) -> None:
    store.free = free
    if fits:
        repository.check_space(4096)
    else:
        with pytest.raises(RepositoryFull, match="0 MiB free"):
            repository.check_space(4096)
