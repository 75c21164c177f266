"""A clock that is set back while a run goes on: a host that is dead is waited for no longer than its state may last (S7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from freezeframe.contract.words import RunState, Step
from freezeframe.repository import Repository
from freezeframe.repository.errors import RepositoryFull
from orchestrator import clocks, look, reconcile, seal_wait
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run, Search
from tests.unit.orchestrator.one_run import CAPTURE, Sent, hold, prepare, release, transfer

pytestmark = pytest.mark.case("S7")
DAY = timedelta(days=1)


class Clock(datetime):
    """This machine's clock, which may be set."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        assert tz is UTC
        return datetime.now(UTC) + cls.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(Clock, "ahead", timedelta())
    monkeypatch.setattr(look, "datetime", Clock)
    monkeypatch.setattr(reconcile, "datetime", Clock)
    return Clock


def seconds_left(run: Run, clock: type[Clock]) -> float:
    return (run.due_at - clock.now(UTC)).total_seconds()


def looked(orchestrator: Orchestrator) -> Run:
    return orchestrator.look(CAPTURE) or pytest.fail("no run")


def full(*_: object) -> None:
    raise RepositoryFull("The repository is full: the seal waits.")


REACHED = [RunState.PREPARING, RunState.HOLDING, RunState.TRANSFERRING, RunState.SEALING, RunState.RELEASING]


@pytest.fixture(params=REACHED)
def run(request: pytest.FixtureRequest, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that waits in each of the states that a run can wait in."""
    steps = [prepare, hold, transfer]
    at = REACHED.index(request.param)
    for step in steps[: min(at, 2)]:
        step(orchestrator)
    if at < 3:
        return looked(orchestrator)
    if at == 3:
        monkeypatch.setattr(Repository, "seal", full)
    transfer(orchestrator)
    found = looked(orchestrator)
    assert found.state is request.param
    return found


def test_a_host_that_is_dead_is_waited_for_as_long_as_its_state_may_last(
    orchestrator: Orchestrator, clock: type[Clock], run: Run
) -> None:
    lasts_s = (run.due_at - run.entered_at).total_seconds()
    clock.ahead = -DAY
    again = looked(orchestrator)
    assert again.state is run.state
    assert lasts_s - 30 < seconds_left(again, clock) <= lasts_s
    assert looked(orchestrator).due_at == again.due_at  # once
    clock.ahead += again.due_at - again.entered_at
    Reconciler(orchestrator).reconcile()  # which ends late transfers
    assert looked(orchestrator).state is not run.state


def test_the_orders_of_the_state_are_not_sent_again(orchestrator: Orchestrator, clock: type[Clock], sent: Sent) -> None:
    prepare(orchestrator)
    before = list(sent.steps)
    clock.ahead = -DAY
    assert looked(orchestrator).dispatched
    assert sent.steps == before


def test_a_capture_goes_on_to_its_end(orchestrator: Orchestrator, clock: type[Clock], sent: Sent) -> None:
    prepare(orchestrator)
    clock.ahead = -DAY
    hold(orchestrator)
    assert transfer(orchestrator).sealed
    assert sent.steps[-1] is Step.RELEASE
    assert release(orchestrator).state is RunState.DONE


@pytest.mark.parametrize("seconds", [0, 15, 30, 59])
def test_clocks_that_are_as_far_apart_as_they_may_be_change_nothing(orchestrator: Orchestrator, seconds: float) -> None:
    run = looked(orchestrator)
    assert clocks.dated_anew(run, run.entered_at - timedelta(seconds=seconds)) is None
    assert clocks.dated_anew(run, run.entered_at + DAY) is None


def test_a_run_that_has_ended_stays_as_it_is(orchestrator: Orchestrator) -> None:
    run = looked(orchestrator).model_copy(update={"state": RunState.DONE})
    assert clocks.dated_anew(run, run.entered_at - DAY) is None


def test_a_search_begins_again(orchestrator: Orchestrator) -> None:
    """The entries of hosts whose clock was set back too are older than those that it has seen."""
    run = looked(orchestrator)
    searching = run.model_copy(update={"search": Search(until=run.due_at, seen={"host-a": run.entered_at})})
    again = clocks.dated_anew(searching, run.entered_at - DAY)
    assert again is not None
    assert again.search is None


def test_a_seal_that_hangs_is_told_by_the_new_time(orchestrator: Orchestrator) -> None:
    run = looked(orchestrator).model_copy(update={"state": RunState.SEALING})
    now = run.entered_at - DAY
    again = clocks.dated_anew(run, now)
    assert again is not None
    assert seal_wait.hanging(again, "/srv", now + timedelta(seconds=seal_wait.HANGS_S)) is not None
