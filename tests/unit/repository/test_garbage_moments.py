"""The moments that decide what garbage collection may do: at a boundary it lets things be. And what it foresees."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from freezeframe.repository.garbage.decision import Situation, plan_folder
from freezeframe.repository.garbage.record import RunRecord
from freezeframe.repository.garbage.report import CollectReport, Tally, foresee
from freezeframe.repository.layout import CHUNKS
from freezeframe.repository.session import TERM, Session
from freezeframe.repository.store.backend import Entry

from .samples import capture_id

GRACE = timedelta(hours=1)
NOW = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
TICK = timedelta(microseconds=1)


def session(number: int, begun_at: datetime, ended_at: datetime | None = None) -> Session:
    return Session(
        session_id=capture_id(number),
        begun_at=begun_at,
        expires_at=NOW + TERM,
        host="host-a",
        pid=1,
        program="test",
        ended_at=ended_at,
    )


def situation(now: datetime, begun_at: datetime | None = None) -> Situation:
    return Situation(now, GRACE, () if begun_at is None else (session(1, begun_at),))


def test_what_was_written_a_grace_ago_to_the_moment_is_young() -> None:
    assert not situation(NOW).is_old(NOW - GRACE)
    assert situation(NOW).is_old(NOW - GRACE - TICK)
    begun = NOW - 3 * GRACE
    assert not situation(NOW, begun).is_old(begun)
    assert situation(NOW, begun).is_old(begun - TICK)


def test_a_session_that_began_a_grace_after_a_run_to_the_moment_may_rely_on_it() -> None:
    finished = NOW - 5 * GRACE
    record = RunRecord(run_id=capture_id(2), begun_at=finished - GRACE, finished_at=finished)
    assert not situation(NOW, finished + GRACE).is_ripe(record)
    assert situation(NOW, finished + GRACE + TICK).is_ripe(record)
    assert not situation(finished + GRACE).is_ripe(record)
    assert situation(finished + GRACE + TICK).is_ripe(record)


def test_a_run_that_never_finished_is_over_a_grace_after_its_term() -> None:
    record = RunRecord(run_id=capture_id(2), begun_at=NOW)
    assert not situation(NOW + TERM).is_over(record)
    assert not situation(NOW + TERM + GRACE).is_over(record)
    assert situation(NOW + TERM + GRACE + TICK).is_over(record)


@pytest.fixture
def strange() -> list[Entry]:
    return [Entry(f"{CHUNKS}/ab/{last}", 1, NOW - 9 * GRACE) for last in ("ab" * 31, "ab" * 33, "z" * 64, "README")]


def test_what_is_no_chunks_name_is_nobodys_business(strange: list[Entry]) -> None:
    chunk = Entry(f"{CHUNKS}/ab/{'ab' * 32}", 1, NOW - 9 * GRACE)
    plan = plan_folder([*strange, chunk], {}, set(), set(), situation(NOW))
    assert (plan.condemn, plan.young) == ([chunk], [])


def test_what_is_to_be_freed_is_all_that_is_condemned_now_or_was_before() -> None:
    report = CollectReport(dry_run=False, grace_s=3600)
    report.condemned, report.taken_over, report.waiting = Tally(1, 10), Tally(2, 200), Tally(4, 4000)
    report.deleted = Tally(8, 80_000)
    foresee(report, [], situation(NOW))
    assert report.to_be_freed == Tally(7, 4210)
    assert (report.free_at, report.hindering) == (None, ())


def test_it_is_foreseen_when_the_last_of_it_may_go_and_who_holds_it_up() -> None:
    """An open session that may rely on it holds it up for nobody knows how long; one that has ended, until then."""
    first, last = NOW - 9 * GRACE, NOW - 3 * GRACE
    report = CollectReport(dry_run=False, grace_s=3600)
    sessions = (
        session(1, first - GRACE),
        session(2, last + 2 * GRACE),  # began when all was condemned for long
        session(3, first, ended_at=NOW - GRACE / 2),
        session(4, first, ended_at=NOW - 2 * GRACE),  # not live any more
    )
    foresee(report, [first, last], Situation(NOW, GRACE, sessions))
    assert report.hindering == (capture_id(1),)
    assert report.free_at == NOW - GRACE / 2 + GRACE
    foresee(report, [last, first], Situation(NOW, GRACE, ()))
    assert report.free_at == last + GRACE


def test_a_session_that_may_rely_on_one_run_of_several_holds_it_up() -> None:
    first, last = NOW - 9 * GRACE, NOW - 3 * GRACE
    report = CollectReport(dry_run=False, grace_s=3600)
    foresee(report, [first, last], Situation(NOW, GRACE, (session(1, last - GRACE),)))
    assert report.hindering == (capture_id(1),)
