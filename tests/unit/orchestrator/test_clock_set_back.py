"""A clock that is set back while a run goes on: a host that is dead is waited for no longer than its state may last (S7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from freezeframe.contract.words import RunState, Step
from freezeframe.repository import Manifest, Repository
from freezeframe.repository.errors import RepositoryFull
from orchestrator import clocks, seal_wait
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run, Search
from tests.unit.orchestrator.one_run import CAPTURE, Sent, hold, prepare, release, transfer
from tests.unit.orchestrator.set_clock import Clock
from tests.unit.orchestrator.set_clock import clock as clock  # noqa: PLC0414  a fixture

pytestmark = pytest.mark.case("S7")
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


def seconds_left(run: Run, clock: type[Clock]) -> float:
    return (run.due_at - clock.now(UTC)).total_seconds()


def looked(orchestrator: Orchestrator) -> Run:
    return orchestrator.look(CAPTURE) or pytest.fail("no run")


def is_as_before(found: Run, run: Run) -> bool:
    """Return True if a run is as it was, but for what its callers were told meanwhile."""
    return found.model_copy(update={"warnings": run.warnings}) == run


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
    clock.ahead = -10 * DAY  # a transfer may last six
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


@pytest.mark.parametrize("back", [DAY + MINUTE, timedelta(seconds=61)])
def test_a_clock_that_is_set_right_after_one_look_does_a_run_no_harm(
    orchestrator: Orchestrator, clock: type[Clock], run: Run, back: timedelta
) -> None:
    clock.ahead = -back
    assert looked(orchestrator).due_at < run.due_at
    clock.ahead = timedelta()
    Reconciler(orchestrator).reconcile()
    assert is_as_before(looked(orchestrator), run)


def test_after_that_the_state_lasts_as_long_as_at_first_and_may_be_set_back_again(
    orchestrator: Orchestrator, clock: type[Clock], run: Run
) -> None:
    for _ in range(3):
        clock.ahead = -DAY - MINUTE
        assert looked(orchestrator).due_at < run.due_at
        clock.ahead = timedelta()
        assert looked(orchestrator).due_at == run.due_at
    clock.ahead = run.due_at - run.entered_at
    Reconciler(orchestrator).reconcile()
    assert looked(orchestrator).state is not run.state


def test_a_clock_that_was_set_back_twice_may_be_set_right_at_once_or_in_two_steps(
    orchestrator: Orchestrator, clock: type[Clock], run: Run
) -> None:
    for steps in ([-DAY, -3 * DAY, -DAY, timedelta()], [-DAY, -3 * DAY, timedelta()]):
        due: dict[timedelta, datetime] = {}
        for clock.ahead in steps:
            Reconciler(orchestrator).reconcile()
            again = looked(orchestrator)
            assert again.state is run.state
            assert due.setdefault(clock.ahead, again.due_at) == again.due_at
        assert is_as_before(again, run)


def test_another_orchestrator_whose_clock_is_behind_costs_a_run_no_time(
    orchestrator: Orchestrator, clock: type[Clock], run: Run
) -> None:
    for clock.ahead in [timedelta(hours=-1), timedelta()] * 10:
        again = looked(orchestrator)
        assert again.state is run.state
        assert again.first_entered_at == run.entered_at
        assert len(again.dated_before) <= 1
    assert again.due_at == run.due_at


@pytest.mark.parametrize("run", [RunState.TRANSFERRING], indirect=True)
def test_a_clock_that_is_set_right_in_the_middle_of_reconciling_stalls_no_transfer(
    orchestrator: Orchestrator, clock: type[Clock], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulses = orchestrator.runs.pulses

    def set_right(capture_id: str) -> dict[str, str]:
        clock.ahead = timedelta()
        return pulses(capture_id)

    clock.ahead = -DAY - MINUTE
    monkeypatch.setattr(orchestrator.runs, "pulses", set_right)
    Reconciler(orchestrator).reconcile()
    assert clock.ahead == timedelta()
    assert looked(orchestrator).state is run.state


@pytest.mark.parametrize("run", [RunState.SEALING], indirect=True)
def test_a_clock_that_is_set_right_while_a_seal_hangs_does_not_end_it(
    orchestrator: Orchestrator, clock: type[Clock], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: object) -> None:
        clock.ahead = timedelta()
        raise RepositoryFull("The repository is full: the seal waits.")

    clock.ahead = -DAY - MINUTE
    looked(orchestrator)
    monkeypatch.setattr(Repository, "seal", hang)
    assert looked(orchestrator).state is run.state
    assert looked(orchestrator).due_at == run.due_at


def test_a_run_that_cannot_be_looked_at_is_not_given_up_for_it_and_not_kept_for_ever(
    orchestrator: Orchestrator, clock: type[Clock], run: Run
) -> None:
    error = ValueError("a defect")
    clock.ahead = -10 * DAY
    orchestrator.give_up(CAPTURE, error)
    clock.ahead = timedelta()
    orchestrator.give_up(CAPTURE, error)
    assert orchestrator.runs.load(CAPTURE) is not None
    assert is_as_before(looked(orchestrator), run)
    clock.ahead = -10 * DAY
    orchestrator.give_up(CAPTURE, error)
    clock.ahead += run.due_at - run.entered_at + MINUTE
    orchestrator.give_up(CAPTURE, error)
    given_up, _ = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    assert given_up.state is not run.state


@pytest.mark.parametrize("run", [RunState.SEALING], indirect=True)
@pytest.mark.parametrize("ahead", [-DAY, -10 * DAY, timedelta()])
def test_sealing_twice_makes_the_same_manifest_whatever_the_clock_was_set_to(
    orchestrator: Orchestrator, clock: type[Clock], run: Run, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    """A seal whose answer was lost is tried again."""
    sealed: list[bytes] = []

    def note(_: Repository, manifest: Manifest) -> None:
        sealed.append(manifest.model_dump_json().encode())
        raise RepositoryFull("The repository is full: the seal waits.")

    monkeypatch.setattr(Repository, "seal", note)
    for clock.ahead in [timedelta(), -DAY, ahead]:
        looked(orchestrator)
    assert len(sealed) == 3
    assert len(set(sealed)) == 1


def test_a_new_state_has_its_own_dates(orchestrator: Orchestrator, clock: type[Clock]) -> None:
    clock.ahead = -DAY
    assert looked(orchestrator).dated_before
    assert prepare(orchestrator).dated_before == ()


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
