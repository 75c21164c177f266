"""A capture can be cancelled in every state, and ends as one that failed, unless it is sealed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest
import redis

from freezeframe.contract.words import RunState, Step
from freezeframe.repository import Repository
from freezeframe.repository.errors import RepositoryNotReadable
from orchestrator import cancel, planning
from orchestrator.intake import cancel_patiently, take_in
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run
from tests.unit.orchestrator.one_run import CAPTURE, Sent, hold, prepare, release, told, told_of, transfer
from tests.unit.orchestrator.test_asked import ID, REQUEST, Stopped, stop

WHO = "ana@desk-3"


def run_of(orchestrator: Orchestrator, capture_id: str = CAPTURE) -> Run:
    loaded = orchestrator.runs.load(capture_id)
    assert loaded is not None
    return loaded[0]


def sealing(orchestrator: Orchestrator) -> None:
    """The repository is away, so that the seal waits."""
    prepare(orchestrator)
    hold(orchestrator)
    with pytest.MonkeyPatch.context() as away:

        def seal(*_: object) -> NoReturn:
            raise RepositoryNotReadable("It is away.", transient=True)

        away.setattr(Repository, "seal", seal)
        transfer(orchestrator)
    assert run_of(orchestrator).state is RunState.SEALING


def up_to(*steps: Callable[[Orchestrator], object]) -> Callable[[Orchestrator], None]:
    def come(orchestrator: Orchestrator) -> None:
        for step in steps:
            step(orchestrator)

    return come


def test_before_it_is_planned_it_ends_at_once(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as ending:
        ending.setattr(planning.Planner, "_plan", stop)
        with pytest.raises(Stopped):
            take_in(orchestrator, REQUEST)
    cancel_patiently(orchestrator, ID, WHO)
    run = run_of(orchestrator, ID)
    assert (run.state, [fault.code for fault in run.faults]) == (RunState.FAILED, ["cancelled"])
    assert told_of(orchestrator, ID) == ["asked", "end: failed"]
    assert orchestrator.repository.sessions.load(ID).ended_at is not None


@pytest.mark.parametrize(
    ("come", "state"),
    [
        (up_to(), RunState.PREPARING),
        (up_to(prepare, hold), RunState.TRANSFERRING),
        (sealing, RunState.SEALING),
    ],
)
def test_what_hosts_have_begun_is_released_and_nothing_is_kept(
    orchestrator: Orchestrator, sent: Sent, come: Callable[[Orchestrator], None], state: RunState
) -> None:
    come(orchestrator)
    assert run_of(orchestrator).state is state
    sent.steps.clear()
    cancel_patiently(orchestrator, CAPTURE, WHO)
    run = run_of(orchestrator)
    assert (run.state, run.kept, run.sealed) == (RunState.RELEASING, (), False)
    assert sent.steps == [Step.RELEASE]
    ended = release(orchestrator)
    assert ended.state is RunState.FAILED
    assert ended.receipt is not None
    (fault,) = ended.receipt.faults
    assert (fault.code, WHO in fault.message) == ("cancelled", True)
    assert orchestrator.repository.manifests() == []
    assert told(orchestrator)[-2:] == ["releasing", "end: failed"]


def test_guests_that_are_held_are_let_go_by_their_hold_and_nothing_is_transferred(
    orchestrator: Orchestrator, sent: Sent
) -> None:
    """A release that overtakes a hold would have the guest let go by two hands."""
    prepare(orchestrator)
    assert run_of(orchestrator).state is RunState.HOLDING
    sent.steps.clear()
    cancel_patiently(orchestrator, CAPTURE, WHO)
    assert (run_of(orchestrator).state, sent.steps) == (RunState.HOLDING, [])
    hold(orchestrator)
    run = run_of(orchestrator)
    assert (run.state, sent.steps) == (RunState.RELEASING, [Step.RELEASE])
    assert [fault.code for fault in run.faults] == ["cancelled"]


def test_a_capture_that_is_sealed_stays_one(orchestrator: Orchestrator) -> None:
    """Its manifest was visible before anybody asked for its end."""
    prepare(orchestrator)
    hold(orchestrator)
    real = Orchestrator._seal

    def seal(own: Orchestrator, run: Run, *more: object) -> Run | None:
        following = real(own, run, *more)  # type: ignore[arg-type]
        cancel.mark(own.runs, CAPTURE, WHO)
        return following

    with pytest.MonkeyPatch.context() as late:
        late.setattr(Orchestrator, "_seal", seal)
        transfer(orchestrator)
    ended = release(orchestrator)
    assert ended.state is RunState.DONE
    assert ended.receipt is not None
    assert ended.receipt.faults == ()
    assert len(orchestrator.repository.manifests()) == 1


@pytest.mark.parametrize("come", [up_to(prepare, hold, transfer), up_to(prepare, hold, transfer, release)])
def test_when_it_is_too_late_nothing_changes(orchestrator: Orchestrator, come: Callable[[Orchestrator], None]) -> None:
    come(orchestrator)
    before = orchestrator.runs.load(CAPTURE)
    cancel.mark(orchestrator.runs, CAPTURE, WHO)
    assert orchestrator.runs.load(CAPTURE) == before


def test_twice_is_once_and_a_run_that_is_not_there_is_none(orchestrator: Orchestrator, sent: Sent) -> None:
    cancel_patiently(orchestrator, CAPTURE, WHO)
    before, steps = orchestrator.runs.load(CAPTURE), list(sent.steps)
    cancel_patiently(orchestrator, CAPTURE, "another")
    assert (orchestrator.runs.load(CAPTURE), sent.steps) == (before, steps)
    cancel_patiently(orchestrator, ID, WHO)
    assert not orchestrator.runs.is_there(ID)


def test_a_process_that_ends_between_mark_and_look_leaves_it_to_the_reconciler(orchestrator: Orchestrator) -> None:
    cancel.mark(orchestrator.runs, CAPTURE, WHO)
    Reconciler(orchestrator).reconcile()
    assert run_of(orchestrator).state is RunState.RELEASING


def test_a_cancel_outlives_refusals_of_redis(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [redis.ResponseError("MISCONF"), redis.ConnectionError("away")]
    real = cancel.mark

    def mark(*args: object) -> None:
        if refusals:
            raise refusals.pop()
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("orchestrator.intake.PAUSE_S", 0)
    monkeypatch.setattr(cancel, "mark", mark)
    cancel_patiently(orchestrator, CAPTURE, WHO)
    assert run_of(orchestrator).state is RunState.RELEASING
