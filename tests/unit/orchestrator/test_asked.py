"""A request is recorded before anything slow happens, and planned by whoever looks at it next."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
import redis
from ulid import ULID

from freezeframe import presence
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState, Step
from freezeframe.presence import KnownHost
from freezeframe.repository import Repository
from freezeframe.settings import OrchestratorSettings
from orchestrator import planning
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run
from tests.unit.orchestrator.one_run import Sent, told_of

ID = str(ULID())
REQUEST = CaptureRequest(capture_id=ID, guests=("web",))


def run_of(orchestrator: Orchestrator) -> Run:
    loaded = orchestrator.runs.load(ID)
    assert loaded is not None
    return loaded[0]


class Stopped(BaseException):
    """The process ends here."""


def stop(*_: object, **__: object) -> NoReturn:
    raise Stopped


def test_a_caller_is_told_at_once_that_it_is_asked_for(orchestrator: Orchestrator) -> None:
    take_in(orchestrator, REQUEST)
    assert told_of(orchestrator, ID) == ["asked", "preparing"]
    assert run_of(orchestrator).asked_at <= run_of(orchestrator).entered_at


@pytest.mark.parametrize("where", ["_check_clocks", "_plan"])
def test_a_request_outlives_a_process_that_ends_while_it_plans(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with monkeypatch.context() as ending:
        ending.setattr(planning.Planner, where, stop)
        with pytest.raises(Stopped):
            take_in(orchestrator, REQUEST)
    run = run_of(orchestrator)
    assert (run.state, run.plan) == (RunState.ASKED, None)
    assert told_of(orchestrator, ID) == ["asked"]
    sent.steps.clear()
    Reconciler(orchestrator).reconcile()
    run = run_of(orchestrator)
    assert (run.state, run.dispatched, sent.steps) == (RunState.PREPARING, True, [Step.PREPARE])


def test_a_request_outlives_a_process_that_ends_before_it_looks(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as ending:
        ending.setattr(Orchestrator, "look", stop)
        with pytest.raises(Stopped):
            take_in(orchestrator, REQUEST)
    Reconciler(orchestrator).reconcile()
    assert run_of(orchestrator).state is RunState.PREPARING


def test_the_hosts_time_begins_when_the_plan_is_made(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it took: their orders would have expired when they are sent."""
    with monkeypatch.context() as ending:
        ending.setattr(planning.Planner, "_plan", stop)
        with pytest.raises(Stopped):
            take_in(orchestrator, REQUEST)
    run, version = orchestrator.runs.load(ID) or pytest.fail("no run")
    hour = timedelta(hours=1)
    older = {"asked_at": run.asked_at - hour, "entered_at": run.entered_at - hour, "due_at": run.due_at - hour}
    assert orchestrator.runs.change(run.model_copy(update=older), version, tell=False)
    before = datetime.now(UTC)
    planned = orchestrator.look(ID)
    assert planned is not None
    assert planned.state is RunState.PREPARING
    assert planned.due_at >= before + timedelta(seconds=orchestrator.settings.prepare_timeout_s)
    assert planned.asked_at == older["asked_at"]


def test_a_run_is_planned_by_one_thread_at_a_time_and_no_other_run_waits_for_it(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, plans = threading.Event(), threading.Event(), 0
    real = presence.known_hosts

    def slowly(client: redis.Redis) -> list[KnownHost]:
        nonlocal plans
        plans += 1
        begun.set()
        assert go_on.wait(30)
        return real(client)

    monkeypatch.setattr(planning, "known_hosts", slowly)
    taking = threading.Thread(target=take_in, args=(orchestrator, REQUEST))
    taking.start()
    assert begun.wait(30)
    Reconciler(orchestrator).reconcile()  # which comes back, although the plan does not
    assert run_of(orchestrator).state is RunState.ASKED
    go_on.set()
    taking.join()
    assert (run_of(orchestrator).state, plans) == (RunState.PREPARING, 1)


def test_a_plan_that_another_orchestrator_was_faster_with_is_dropped(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = planning.Planner._plan
    twice: list[Run | None] = []

    def plan(*args: Any) -> object:
        made = real(*args)
        if not twice:
            twice.append(None)
            other = Orchestrator(**{**vars(orchestrator), "at_work": planning.AtWork()})
            twice.append(other.look(ID))
        return made

    monkeypatch.setattr(planning.Planner, "_plan", plan)
    sent.steps.clear()
    take_in(orchestrator, REQUEST)
    faster = twice[1]
    assert faster is not None
    assert run_of(orchestrator).plan == faster.plan
    assert sent.steps == [Step.PREPARE]
    assert told_of(orchestrator, ID) == ["asked", "preparing"]


def test_what_cannot_be_planned_ends_with_the_reason_and_begins_no_session(orchestrator: Orchestrator) -> None:
    take_in(orchestrator, REQUEST.model_copy(update={"guests": ("nobody",)}))
    run = run_of(orchestrator)
    assert run.state is RunState.FAILED
    assert run.receipt is not None
    assert [fault.code for fault in run.receipt.faults] == ["unknown-guest"]
    assert run.receipt.faults[0].exit_code == 4
    assert told_of(orchestrator, ID) == ["asked", "end: failed"]
    assert orchestrator.runs.active() != [ID]
    assert ID not in orchestrator.repository.sessions.stored_at()  # none was begun


def test_a_request_whose_caller_has_gone_is_not_recorded_as_asked(orchestrator: Orchestrator) -> None:
    take_in(orchestrator, REQUEST, not_after_us=1)
    assert told_of(orchestrator, ID) == ["end: failed"]
    assert [fault.code for fault in run_of(orchestrator).faults] == ["late-request"]


def test_a_repository_that_hangs_ends_the_request_and_not_the_orchestrator(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(Repository, "capture_ids", lambda _: released.wait(60))
    monkeypatch.setattr("orchestrator.sessions.PATIENCE_S", 0.1)
    impatient = OrchestratorSettings(plan_timeout_s=0.2)
    try:
        take_in(Orchestrator(**{**vars(orchestrator), "settings": impatient}), REQUEST)
    finally:
        released.set()
    run = run_of(orchestrator)
    assert (run.state, [fault.code for fault in run.faults]) == (RunState.FAILED, ["repository-not-readable"])
    assert str(orchestrator.repository.address) in run.faults[0].message


def test_a_run_that_cannot_be_looked_at_is_given_up_when_its_time_to_be_planned_is_over(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning.Planner, "planned", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        take_in(orchestrator, REQUEST)
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    assert run_of(orchestrator).state is RunState.ASKED
    run, version = orchestrator.runs.load(ID) or pytest.fail("no run")
    late = {"due_at": datetime.now(UTC) - timedelta(seconds=1)}
    assert orchestrator.runs.change(run.model_copy(update=late), version, tell=False)
    reconciler.reconcile()
    run = run_of(orchestrator)
    assert (run.state, [fault.code for fault in run.faults]) == (RunState.FAILED, ["unexpected"])
    assert run.receipt is not None
