"""The pure parts of garbage collection: what is to become of each object, which run is ripe, and what is marked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from freezeframe.repository.garbage.decision import FolderPlan, Situation, plan_folder
from freezeframe.repository.garbage.record import RunRecord
from freezeframe.repository.layout import condemned_name, locate
from freezeframe.repository.session import TERM, Session, SessionState
from freezeframe.repository.store import Entry

from .samples import capture_id

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GRACE = timedelta(hours=24)
HOUR = timedelta(hours=1)


def session(begun: timedelta, ended: timedelta | None = None) -> Session:
    """Begun and ended so long ago."""
    return Session(
        session_id=capture_id(1),
        begun_at=NOW - begun,
        expires_at=NOW - begun + TERM,
        host="host-a",
        pid=1,
        program="test",
        state=SessionState.OPEN if ended is None else SessionState.SEALED,
        ended_at=None if ended is None else NOW - ended,
    )


def record(number: int, finished: timedelta | None) -> RunRecord:
    """Finished so long ago, or not."""
    finished_at = None if finished is None else NOW - finished
    return RunRecord(run_id=capture_id(number), begun_at=NOW - timedelta(days=30), finished_at=finished_at)


def situation(*sessions: Session) -> Situation:
    return Situation(NOW, GRACE, sessions)


@pytest.mark.parametrize(
    ("one", "live"),
    [
        (session(HOUR), True),
        (session(TERM + GRACE), True),  # expired, and grace is just not over
        (session(TERM + GRACE + HOUR), False),
        (session(50 * HOUR, ended=GRACE), True),
        (session(50 * HOUR, ended=GRACE + HOUR), False),
    ],
)
def test_a_session_is_live_until_grace_is_over(one: Session, *, live: bool) -> None:
    assert (one in situation(one).live) is live


@pytest.mark.parametrize(
    ("finished", "sessions", "ripe"),
    [
        (None, [], False),  # at work, or died
        (23 * HOUR, [], False),
        (24 * HOUR, [], False),
        (25 * HOUR, [], True),
        (50 * HOUR, [session(51 * HOUR)], False),  # it may have seen what was condemned
        (50 * HOUR, [session(27 * HOUR)], False),  # by the clock of another machine, perhaps
        (50 * HOUR, [session(25 * HOUR)], True),
        (50 * HOUR, [session(51 * HOUR, ended=23 * HOUR)], False),  # its manifest may not show yet
        (50 * HOUR, [session(51 * HOUR, ended=25 * HOUR)], True),
        (50 * HOUR, [session(25 * HOUR), session(51 * HOUR)], False),
    ],
)
def test_a_run_is_ripe_when_nobody_at_work_can_have_seen_what_it_condemned(
    finished: timedelta | None, sessions: list[Session], *, ripe: bool
) -> None:
    assert situation(*sessions).is_ripe(record(1, finished)) is ripe


def test_what_is_old_is_older_than_grace_and_than_every_live_session() -> None:
    assert situation().is_old(NOW - 25 * HOUR)
    assert not situation().is_old(NOW - 24 * HOUR)
    assert not situation(session(30 * HOUR)).is_old(NOW - 29 * HOUR)
    assert situation(session(30 * HOUR)).is_old(NOW - 31 * HOUR)
    assert situation(session(30 * HOUR, ended=25 * HOUR)).is_old(NOW - 29 * HOUR)


KEYS = [bytes([0, n]) + bytes(30) for n in range(8)]
UNFINISHED, FRESH, RIPE = record(1, None), record(2, HOUR), record(3, 50 * HOUR)


def entry(name: str, age: timedelta = 100 * HOUR) -> Entry:
    return Entry(name, 1, NOW - age)


@pytest.mark.parametrize(
    ("run", "marked", "own", "fate"),
    [
        (UNFINISHED, False, False, "take_over"),
        (UNFINISHED, True, False, "take_over"),
        (UNFINISHED, True, True, "take_over"),
        (FRESH, False, False, "waits"),
        (FRESH, True, False, "restore"),
        (FRESH, True, True, "waits"),
        (RIPE, False, False, "delete"),
        (RIPE, False, True, "delete"),
        (RIPE, True, False, "restore"),
        (RIPE, True, True, "delete"),
    ],
)
def test_the_fate_of_what_is_condemned(run: RunRecord, fate: str, *, marked: bool, own: bool) -> None:
    name = locate(KEYS[1])
    condemned = entry(condemned_name(run.run_id, name))
    keys = {KEYS[1]} if marked else set()
    plan = plan_folder([entry(name)] if own else [], {run: [condemned]}, keys, set(), situation())
    assert getattr(plan, fate) == [(run, condemned)]
    assert plan.condemn == ([] if marked or not own else [entry(name)])


def test_what_two_runs_have_is_moved_back_once() -> None:
    name = locate(KEYS[1])
    entries = {run: [entry(condemned_name(run.run_id, name))] for run in (FRESH, RIPE)}
    plan = plan_folder([], entries, {KEYS[1]}, set(), situation())
    assert (len(plan.restore), len(plan.delete)) == (1, 1)


@pytest.mark.parametrize(("own", "fate"), [(False, "waits"), (True, "delete")])
def test_what_lingers_is_not_deleted_unless_it_is_there_twice(fate: str, *, own: bool) -> None:
    name = locate(KEYS[1])
    condemned = {RIPE: [entry(condemned_name(RIPE.run_id, name))]}
    plan = plan_folder([entry(name)] if own else [], condemned, set(), {KEYS[1]}, situation())
    assert len(getattr(plan, fate)) == 1
    assert len(plan.condemn) == int(own)  # to condemn it is safe


def test_under_own_names_only_what_is_old_and_not_marked_is_condemned() -> None:
    own = [entry(locate(KEYS[0])), entry(locate(KEYS[1])), entry(locate(KEYS[2]), HOUR), entry("chunks/00/lost+found")]
    plan = plan_folder(own, {}, {KEYS[0]}, set(), situation())
    assert plan == FolderPlan(condemn=[own[1]], young=[own[2]])
