"""Planning knows which captures have none of its guests, also when the orchestrator was started anew; it reads the others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import redis

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.repository import Repository
from freezeframe.repository.config import Config
from freezeframe.repository.store.backend import Entry
from freezeframe.settings import BusSettings
from ops.fleet.counts import Counts
from orchestrator.contents import AT_ONCE, KEPT_S, Contents
from orchestrator.oldest import SPARE, Oldest
from orchestrator.parents import Briefs, Parents
from tests.unit.repository.samples import GUEST, OTHER_GUEST, capture_id, disk_capture, manifest_of
from tests.unit.repository.slow import FarStore

CAPTURES = 2 * AT_ONCE + 1
DISK = disk_capture("ab" * 32, 4096, checkpoint="cp")
ENTRY = Entry("manifests/x.json", 10, datetime(2026, 1, 1, tzinfo=UTC))
REPOSITORY = "6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e"
NEW = "22222222-2222-3333-4444-555555555555"


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with bus.connect(bus_settings) as made:
        yield made


@pytest.fixture
def far() -> Iterator[Repository]:
    """Many captures of one guest, and one of another, the oldest."""
    store = FarStore()
    store.put_away([manifest_of(number, DISK, guest=OTHER_GUEST if number else GUEST) for number in range(CAPTURES)])
    yield Repository(store, Config.model_validate({"id": REPOSITORY, "chunk_bytes": 4096}))
    store.end()


def found(far: Repository, client: redis.Redis, guest: str, briefs: Briefs | None = None) -> tuple[list[str], int]:
    """Return the captures with parents of a guest, and how many manifests an orchestrator read that was just started."""
    store = far.store
    assert isinstance(store, FarStore)
    store.gets = 0
    with Parents(far, client, briefs or Briefs(), {guest}, full=False) as parents:
        return [one.parent.capture_id for one in parents.of(guest)], store.gets


def known(client: redis.Redis) -> int:
    return client.hlen(names.contents_key(REPOSITORY))


def test_an_orchestrator_that_is_started_anew_reads_what_concerns_its_guests(
    far: Repository, client: redis.Redis
) -> None:
    assert found(far, client, NEW) == ([], CAPTURES)
    assert known(client) == CAPTURES
    store = far.store
    assert isinstance(store, FarStore)
    store.expect(0)
    assert found(far, client, NEW) == ([], 0)
    store.expect(1)
    assert found(far, client, GUEST) == ([capture_id(0)], 1)


def test_what_redis_has_lost_is_read_again(far: Repository, client: redis.Redis) -> None:
    found(far, client, NEW)
    client.delete(names.contents_key(REPOSITORY))
    store = far.store
    assert isinstance(store, FarStore)
    store.expect(CAPTURES)
    assert found(far, client, GUEST)[0] == [capture_id(0)]


def test_a_capture_that_is_gone_is_forgotten(far: Repository, client: redis.Redis) -> None:
    found(far, client, NEW)
    far.store.delete(f"manifests/{capture_id(1)}.json")
    found(far, client, NEW)
    assert known(client) == CAPTURES - 1


def test_a_manifest_of_another_size_or_time_is_not_known() -> None:
    contents = Contents()
    contents.note(ENTRY, manifest_of(0, DISK, guest=GUEST))
    one = capture_id(0)
    assert contents.has_none(one, ENTRY, {OTHER_GUEST})
    assert not contents.has_none(one, ENTRY, {GUEST, OTHER_GUEST})
    assert not contents.has_none(one, ENTRY._replace(size=11), {OTHER_GUEST})
    assert not contents.has_none(one, ENTRY._replace(modified=datetime(2026, 1, 2, tzinfo=UTC)), {OTHER_GUEST})
    assert not contents.has_none(capture_id(1), ENTRY, {OTHER_GUEST})


def test_of_too_many_the_oldest_are_forgotten() -> None:
    contents = Contents(most_guests=2)
    for number in (3, 1, 2):
        contents.note(ENTRY, manifest_of(number, DISK, guest=GUEST))
    assert [contents.has_none(capture_id(number), ENTRY, {NEW}) for number in (1, 2, 3)] == [False, True, True]


def test_a_redis_that_is_away_or_has_what_cannot_be_read_costs_readings_alone(
    far: Repository, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    client.hset(names.contents_key(REPOSITORY), capture_id(0), "what is this")
    with monkeypatch.context() as patch:
        patch.setattr(client, "hscan_iter", away)
        patch.setattr(client, "hset", away)
        assert found(far, client, GUEST)[0] == [capture_id(0)]
    store = far.store
    assert isinstance(store, FarStore)
    store.expect(CAPTURES)
    assert found(far, client, GUEST)[0] == [capture_id(0)]


def test_what_was_forgotten_takes_no_room() -> None:
    """Captures that are made and forgotten, and manifests that are read again: each left its id for ever."""
    contents, briefs = Contents(), Briefs()
    for number in range(1000):
        guest = f"00000000-0000-4000-8000-{number:012x}"
        contents.note(ENTRY, manifest_of(number, DISK, guest=guest))
        briefs.keep(ENTRY, manifest_of(number % 3, DISK, guest=GUEST))
        for one in [one for one in contents._known if one != capture_id(number)]:
            contents._forget(one)
    assert len(contents._oldest) < 2 + 2 * SPARE
    assert len(contents._uuids) < 2 + 2 * SPARE
    assert len(briefs._oldest) < 6 + 2 * SPARE
    assert not contents.has_none(capture_id(998), ENTRY, {NEW})
    assert contents.has_none(capture_id(999), ENTRY, {NEW})


def test_the_oldest_goes_first_after_ids_were_thrown_out() -> None:
    oldest, known = Oldest(), {"b", "c"}
    for _ in range(SPARE + 5):
        oldest.add("c", known)
    assert oldest.add("b", known)
    assert [oldest.pop() for _ in range(len(oldest))] == ["b", "c"]


def test_a_plan_that_finds_nothing_new_asks_and_tells_redis_nothing(far: Repository, client: redis.Redis) -> None:
    """Of 15,000 captures: reading what Redis has takes half a second, and each plan would write it all again."""
    briefs = Briefs()
    found(far, client, NEW, briefs)
    assert 0 < client.ttl(names.contents_key(REPOSITORY)) <= KEPT_S
    far.store.delete(f"manifests/{capture_id(1)}.json")
    found(far, client, NEW, briefs)
    before = Counts.of(client)
    found(far, client, NEW, briefs)
    assert (Counts.of(client) - before).commands == {}
    assert known(client) == CAPTURES - 1


def test_what_this_process_has_read_is_not_replaced_by_what_redis_has(client: redis.Redis) -> None:
    """Another orchestrator may have told it before the manifest was written again."""
    contents, later = Contents(), ENTRY._replace(size=11)
    contents.note(later, manifest_of(0, DISK, guest=GUEST))
    client.hset(names.contents_key(REPOSITORY), capture_id(0), f"1767225600.000000/10 {NEW}")
    contents.load(client, REPOSITORY)
    assert contents.has_none(capture_id(0), later, {NEW})
