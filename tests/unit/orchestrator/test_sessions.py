"""The sessions that are left: only those of one's own installation are ended, and none is read twice."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest

from freezeframe.contract import names
from freezeframe.repository import Repository, Session
from freezeframe.repository.errors import RepositoryNotReadable
from freezeframe.repository.session import Sessions, SessionState
from freezeframe.repository.store import MemoryStore
from orchestrator import sessions
from orchestrator.look import Orchestrator
from orchestrator.run import Runs

OURS, OTHERS = "0" * 32, "1" * 32


def capture_id(number: int) -> str:
    return f"01HZ{number:022d}"


@pytest.fixture
def store_time() -> list[datetime]:
    return [datetime.now(UTC) - timedelta(hours=3)]


@pytest.fixture
def repository(store_time: list[datetime]) -> Repository:
    """In which everything was begun three hours ago."""
    made = Repository.init_in(MemoryStore(lambda: store_time[0]))
    return Repository(made.store, made.config, clock=lambda: store_time[0])


@pytest.fixture
def runs(orchestrator: Orchestrator) -> Runs:
    """None of whose runs are known, with an id of its own."""
    orchestrator.redis.set(names.REDIS_ID_KEY, OURS)
    return orchestrator.runs


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sessions that were read."""
    found: list[str] = []
    load = Sessions.load

    def noted(self: Sessions, session_id: str) -> Session:
        found.append(session_id)
        return load(self, session_id)

    monkeypatch.setattr(Sessions, "load", noted)
    return found


def begin(repository: Repository, number: int, installation: str | None, program: str = sessions.PROGRAM) -> None:
    repository.sessions.begin(capture_id(number), program, installation)


def test_another_installations_session_is_left_open_though_its_host_has_our_name(
    repository: Repository, runs: Runs
) -> None:
    """Containers have the same name, and share a repository, each with its own Redis."""
    begin(repository, 1, OTHERS)
    begin(repository, 2, OURS)
    begin(repository, 3, None)  # of an older version: by the host's name
    begin(repository, 4, OURS, "restore")
    sessions.end_left(repository, runs)
    states = [repository.sessions.load(capture_id(number)).state for number in (1, 2, 3, 4)]
    assert states == [SessionState.OPEN, SessionState.FAILED, SessionState.FAILED, SessionState.OPEN]


def test_a_session_is_read_again_only_if_it_has_changed(
    repository: Repository, runs: Runs, loaded: list[str], store_time: list[datetime]
) -> None:
    for number in range(5):
        begin(repository, number, OTHERS)
    seen = sessions.Seen()
    sessions.end_left(repository, runs, seen)
    assert sorted(loaded) == [capture_id(number) for number in range(5)]
    loaded.clear()
    sessions.end_left(repository, runs, seen)
    assert loaded == []
    store_time[0] += timedelta(seconds=5)
    repository.sessions.end(capture_id(2), sealed=True)
    repository.sessions.delete(capture_id(3))
    loaded.clear()
    assert sorted(one.session_id for one in seen.open(repository)) == [capture_id(number) for number in (0, 1, 4)]
    assert loaded == [capture_id(2)]


def test_a_look_reads_so_many_at_most_the_newest_first(
    repository: Repository, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "READ_AT_ONCE", 2)
    for number in range(3):
        begin(repository, number, OURS)
    seen = sessions.Seen()
    loaded.clear()
    assert len(seen.open(repository)) == 2
    assert loaded == [capture_id(2), capture_id(1)]
    assert len(seen.open(repository)) == 3


def test_a_session_that_cannot_be_read_keeps_no_other_open(repository: Repository, runs: Runs) -> None:
    begin(repository, 1, OURS)
    repository.store.put_many([(f"sessions/{capture_id(2)}.json", b"half")])
    sessions.end_left(repository, runs)
    assert repository.sessions.load(capture_id(1)).state is SessionState.FAILED


@pytest.mark.parametrize("transient", [False, True])
def test_a_session_that_the_storage_refuses_keeps_no_other_open_and_a_store_that_is_away_ends_none(
    repository: Repository, runs: Runs, monkeypatch: pytest.MonkeyPatch, *, transient: bool
) -> None:
    for number in (1, 2):
        begin(repository, number, OURS)
    get = repository.store.get

    def refuse(name: str) -> bytes:
        if capture_id(2) in name:
            raise RepositoryNotReadable(f"Reading {name} failed.", transient=transient)
        return get(name)

    with monkeypatch.context() as patch:
        patch.setattr(repository.store, "get", refuse)
        with pytest.raises(RepositoryNotReadable) if transient else nullcontext():
            sessions.end_left(repository, runs)
    states = [repository.sessions.load(capture_id(number)).state for number in (1, 2)]
    assert states == [SessionState.OPEN if transient else SessionState.FAILED, SessionState.OPEN]
