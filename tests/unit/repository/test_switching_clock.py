"""A feature waits for older sessions and runs by the store's clock, and not by the hosts' (R2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.errors import RepositoryNotWritable
from freezeframe.repository.features import FEATURES, Feature
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import session_name
from freezeframe.repository.session import TERM
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.switching import State, Switch, enable, feature_in_use, switch_of

from .samples import CHUNK, capture_id, disk_of, seal

PACKS = "packs"

pytestmark = [pytest.mark.case("R2"), pytest.mark.usefixtures("tomorrow")]


class Clocks:
    """The store's clock, and that of a host, which the test sets apart from it."""

    def __init__(self) -> None:
        self.store = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        self.ahead = timedelta(0)

    def theirs(self) -> datetime:
        self.store += timedelta(microseconds=1)
        return self.store

    def ours(self) -> datetime:
        return self.theirs() + self.ahead


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs know one more feature."""
    monkeypatch.setitem(FEATURES, PACKS, Feature("Chunks lie in packs."))


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def apart(clocks: Clocks) -> Repository:
    made = Repository.init_in(MemoryStore(clocks.theirs), chunk_bytes=CHUNK)
    return Repository(made.store, made.config, clock=clocks.ours)


APART = pytest.mark.parametrize("ahead", [timedelta(days=8), timedelta(days=-8), timedelta(days=4000)], ids=str)


@APART
def test_whether_an_older_session_is_open_is_told_by_the_stores_clock(
    apart: Repository, clocks: Clocks, ahead: timedelta
) -> None:
    apart.sessions.begin(capture_id(1), "old")
    clocks.ahead = ahead
    assert enable(apart, PACKS) == Switch(PACKS, State.PENDING, 1)
    clocks.store += timedelta(days=7, seconds=1)
    assert feature_in_use(apart, PACKS)


@APART
def test_a_session_that_a_clock_far_off_has_begun_is_waited_for_as_long_as_any(
    apart: Repository, clocks: Clocks, ahead: timedelta
) -> None:
    """Its host died before it could end the session that it was refused, and its own times say nothing."""
    begun_at = clocks.theirs() + ahead
    session = apart.sessions.begin(capture_id(1), "old").changed({"begun_at": begun_at, "expires_at": begun_at + TERM})
    name = session_name(capture_id(1))
    apart.store.put_many([(name, bytes(session.stored(apart.objects, name)))])
    late = ahead > timedelta(0)
    assert enable(apart, PACKS).older == late  # one that is behind can seal nothing any more
    clocks.store += timedelta(days=7)
    assert feature_in_use(apart, PACKS) != late
    clocks.store += timedelta(minutes=21)
    assert feature_in_use(apart, PACKS)


@APART
def test_whether_an_older_run_is_at_work_is_told_by_the_stores_clock(
    apart: Repository, clocks: Clocks, ahead: timedelta
) -> None:
    """Both of the run's host, which has written when it began, and of the one that looks."""
    Records(apart.objects).put(RunRecord(run_id=capture_id(5), begun_at=clocks.theirs() + ahead))
    for clocks.ahead in (ahead, -ahead):
        assert enable(apart, PACKS) == Switch(PACKS, State.PENDING, 1)
    clocks.store += timedelta(days=7, seconds=1)
    assert feature_in_use(apart, PACKS)


def test_who_can_put_nothing_believes_the_newest_object(
    apart: Repository, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart.sessions.begin(capture_id(1), "old")
    enable(apart, PACKS)

    def refused(*_: object) -> None:
        raise RepositoryNotWritable("It is mounted read-only.")

    clocks.store += timedelta(days=8)
    seal(apart, 3, disk_of(b"a"))
    with monkeypatch.context() as patch:
        patch.setattr(apart.store, "put", refused)
        assert feature_in_use(apart, PACKS)
        apart.store.delete(apart.objects.protection.manifest_name(capture_id(3)))
        assert switch_of(apart, PACKS) == Switch(PACKS, State.PENDING, 1)
    assert feature_in_use(apart, PACKS)


def test_a_look_at_a_feature_that_nobody_holds_up_puts_nothing(
    apart: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    enable(apart, PACKS)
    monkeypatch.setattr(apart.store, "put", None)
    assert feature_in_use(apart, PACKS)
