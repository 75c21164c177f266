"""A run that cannot be looked at: it keeps no other run waiting, and ends when its time is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import redis
import structlog
from prometheus_client import REGISTRY
from ulid import ULID

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult, ReleaseResult, TransferResult
from freezeframe.contract.words import CaptureKind, RunState, Step
from freezeframe.errors import FreezeframeError
from freezeframe.repository import Repository, Sessions
from freezeframe.repository.errors import ManifestDamaged, RepositoryNotReadable, RepositoryUnsupported
from freezeframe.repository.session import SessionState
from orchestrator import decision, planning, sessions
from orchestrator.errors import NoGuestsError
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run, Runs
from tests.unit.orchestrator.one_run import (
    CAPTURE,
    DISK,
    Sent,
    answer,
    hold,
    prepare,
    told,
    transfer,
)
from tests.unit.orchestrator.telling import tell
from tests.unit.repository.samples import GUEST, store_disk

#: Of the same guest, and looked at after the first: ids are looked at in their order.
OTHER = "7" + CAPTURE[1:]
DEFECT = "IndexError: a defect of the decision"


def other_run(orchestrator: Orchestrator) -> None:
    run, _ = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    assert run.plan is not None
    request = CaptureRequest(capture_id=OTHER, guests=("web",))
    plan = run.plan.model_copy(update={"capture_id": OTHER})
    changes = {"capture_id": OTHER, "request": request, "plan": plan, "state": RunState.PREPARING, "sealed": False}
    assert orchestrator.runs.create(run.model_copy(update=changes))
    result = PrepareResult(capture_id=OTHER, host_id="host-a", guests=(PreparedGuest(guest_uuid=GUEST, name="web"),))
    field = names.result_field(Step.PREPARE, "host-a")
    tell(orchestrator.redis, OTHER, field, result)


def run_of(orchestrator: Orchestrator, capture_id: str = CAPTURE) -> Run:
    run, _ = orchestrator.runs.load(capture_id) or pytest.fail("no run")
    return run


def past(orchestrator: Orchestrator) -> None:
    """Let the run's time be over."""
    run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    over = datetime.now(UTC) - timedelta(seconds=1)
    assert orchestrator.runs.change(run.model_copy(update={"due_at": over}), version, tell=False)


def raising(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


def break_looks(monkeypatch: pytest.MonkeyPatch, *deciders: str) -> None:
    """Let these decisions fail for the first run."""
    for name in deciders:
        decide = getattr(decision, name)

        def broken(run: Run, *args: object, decide: Callable[..., Run | None] = decide) -> Run | None:
            if run.capture_id == CAPTURE:
                raise IndexError("a defect of the decision")
            return decide(run, *args)

        monkeypatch.setattr(decision, name, broken)


@pytest.fixture
def troubles() -> Callable[[], float]:
    def count() -> float:
        return REGISTRY.get_sample_value("freezeframe_run_troubles_total") or 0.0

    before = count()
    return lambda: count() - before


@pytest.mark.case("S5")
def test_a_run_whose_looks_fail_keeps_no_other_run_waiting(
    orchestrator: Orchestrator,
    sent: Sent,
    monkeypatch: pytest.MonkeyPatch,
    troubles: Callable[[], float],
) -> None:
    other_run(orchestrator)
    break_looks(monkeypatch, "after_prepare")
    Reconciler(orchestrator).reconcile()
    assert (run_of(orchestrator).state, run_of(orchestrator, OTHER).state) == (RunState.PREPARING, RunState.HOLDING)
    assert sent.steps == [Step.PREPARE, Step.HOLD]
    assert troubles() == 1


def test_a_run_whose_looks_fail_ends_when_its_time_is_over(
    orchestrator: Orchestrator,
    sent: Sent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Step by step: what hosts have in hand is released first."""
    prepare(orchestrator)
    break_looks(monkeypatch, "after_hold", "after_release")
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    assert run_of(orchestrator).state is RunState.HOLDING
    past(orchestrator)
    reconciler.reconcile()
    run = run_of(orchestrator)
    assert (run.state, run.kept, run.dispatched) == (RunState.RELEASING, (), True)
    assert [(fault.code, fault.message) for fault in run.faults] == [("unexpected", DEFECT)]
    assert sent.steps == [Step.PREPARE, Step.HOLD, Step.RELEASE]
    reconciler.reconcile()
    assert run_of(orchestrator).state is RunState.RELEASING
    past(orchestrator)
    reconciler.reconcile()
    run = run_of(orchestrator)
    assert run.state is RunState.FAILED
    assert run.receipt is not None
    assert [fault.message for fault in run.receipt.faults] == [DEFECT]
    assert orchestrator.runs.active() == []
    assert told(orchestrator)[-2:] == ["releasing", "end: failed"]
    assert orchestrator.repository.sessions.load(CAPTURE).ended_at is not None


class Clock:
    """The reconciler's own."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


def test_transfers_that_nobody_can_look_at_end_long_before_their_days_are_over(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their backups are open meanwhile, and their scratch files grow."""
    prepare(orchestrator)
    hold(orchestrator)
    clock = Clock()
    monkeypatch.setattr("orchestrator.reconcile.time", clock)
    reconciler = Reconciler(orchestrator)
    store_s = orchestrator.settings.transfer_store_s
    with monkeypatch.context() as broken:
        break_looks(broken, "after_transfer")
        for _ in range(2):
            reconciler.reconcile()
            clock.now_s += store_s
    reconciler.reconcile()  # one that succeeds: the trouble is over
    break_looks(monkeypatch, "after_transfer")
    reconciler.reconcile()
    clock.now_s += store_s
    reconciler.reconcile()
    assert run_of(orchestrator).state is RunState.TRANSFERRING
    clock.now_s += 1
    reconciler.reconcile()
    run = run_of(orchestrator)
    assert (run.state, [fault.message for fault in run.faults]) == (RunState.RELEASING, [DEFECT])
    assert sent.steps[-1] is Step.RELEASE


def test_transfers_whose_orders_cannot_be_sent_end_as_those_that_nobody_can_look_at(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No host is silent before it has its orders, and no reports end them."""
    dispatch = Orchestrator.dispatch

    def refusing(one: Orchestrator, run: Run, *more: Any) -> None:
        if run.state is RunState.TRANSFERRING:
            raise IndexError("a defect of the decision")
        dispatch(one, run, *more)

    prepare(orchestrator)
    hold(orchestrator)
    loaded = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    unsent = {"dispatched": False, "lease": None, "entered_at": datetime.now(UTC) - timedelta(minutes=1)}
    assert orchestrator.runs.change(loaded[0].model_copy(update=unsent), loaded[1])
    clock = Clock()
    monkeypatch.setattr("orchestrator.reconcile.time", clock)
    monkeypatch.setattr(Orchestrator, "dispatch", refusing)
    reconciler = Reconciler(orchestrator)
    for seconds in (0, orchestrator.settings.transfer_store_s, 1):
        assert run_of(orchestrator).state is RunState.TRANSFERRING
        clock.now_s += seconds
        reconciler.reconcile()
    assert run_of(orchestrator).state is RunState.RELEASING


def test_a_sealed_run_whose_looks_fail_is_done_and_says_what_failed(
    orchestrator: Orchestrator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    transfer(orchestrator)
    break_looks(monkeypatch, "after_release")
    past(orchestrator)
    Reconciler(orchestrator).reconcile()
    receipt = run_of(orchestrator).receipt
    assert receipt is not None
    assert (receipt.state, receipt.faults) == (RunState.DONE, ())
    assert any(DEFECT in text for text in receipt.warnings)


def test_a_look_that_fails_once_costs_a_run_nothing_while_it_has_time(
    orchestrator: Orchestrator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as broken:
        break_looks(broken, "after_prepare")
        Reconciler(orchestrator).reconcile()
    run = prepare(orchestrator)
    assert (run.state, run.faults) == (RunState.HOLDING, ())


@pytest.mark.case("S5")
def test_a_key_of_one_run_that_redis_refuses_keeps_no_other_waiting(orchestrator: Orchestrator) -> None:
    """And the run, which cannot be read, is neither touched nor dropped."""
    orchestrator.redis.delete(names.run_key(CAPTURE))
    orchestrator.redis.set(names.run_key(CAPTURE), "a string, and no hash")
    assert orchestrator.redis.exists(names.run_key(OTHER)) == 0
    orchestrator.redis.sadd(names.ACTIVE_RUNS_KEY, OTHER)  # gone, so it is forgotten
    Reconciler(orchestrator).reconcile()
    assert orchestrator.runs.active() == [CAPTURE]
    assert orchestrator.redis.get(names.run_key(CAPTURE)) == "a string, and no hash"


@pytest.mark.case("S5")
def test_a_run_of_a_newer_orchestrator_is_never_given_up(orchestrator: Orchestrator) -> None:
    orchestrator.redis.hset(names.run_key(CAPTURE), "record", '{"v": 2, "due_at": "2020-01-01T00:00:00Z"}')
    orchestrator.give_up(CAPTURE, IndexError("a defect"))
    Reconciler(orchestrator).reconcile()
    assert orchestrator.redis.hget(names.run_key(CAPTURE), "record") == '{"v": 2, "due_at": "2020-01-01T00:00:00Z"}'
    assert orchestrator.runs.active() == [CAPTURE]


def test_the_session_of_a_run_that_is_given_up_ends_also_if_it_could_not_be_ended_before(
    orchestrator: Orchestrator,
) -> None:
    """Left open it would keep garbage until the reconciler looks for such sessions."""
    repository = orchestrator.repository
    for state in (RunState.RELEASING, RunState.FAILED):
        repository.sessions.delete(CAPTURE)
        repository.sessions.begin(CAPTURE, sessions.PROGRAM)
        past(orchestrator)
        orchestrator.give_up(CAPTURE, IndexError("a defect"))
        assert run_of(orchestrator).state is state
        assert repository.sessions.load(CAPTURE).state is SessionState.FAILED


def test_a_run_that_has_time_left_is_not_given_up(orchestrator: Orchestrator) -> None:
    orchestrator.give_up(CAPTURE, IndexError("a defect"))
    assert run_of(orchestrator).state is RunState.PREPARING


def test_a_run_is_given_up_when_its_time_is_over_and_no_later(orchestrator: Orchestrator) -> None:
    run, fault = run_of(orchestrator), Fault(code="unexpected", message=DEFECT)
    for at, state in ((run.due_at - timedelta(microseconds=1), None), (run.due_at, RunState.RELEASING)):
        following = decision.give_up(run, fault, at, orchestrator.settings)
        assert (following and following.state) == state


@pytest.mark.parametrize("error", [redis.ConnectionError("refused"), redis.ResponseError("OOM command not allowed")])
def test_a_request_that_redis_does_not_let_be_planned_is_not_refused(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, error: redis.RedisError
) -> None:
    """It is planned when Redis is back."""
    monkeypatch.setattr(planning.Planner, "_plan", raising(error))
    capture_id = str(ULID())
    with pytest.raises(type(error)):
        take_in(orchestrator, CaptureRequest(capture_id=capture_id, guests=("web",)))
    loaded = orchestrator.runs.load(capture_id)
    assert loaded is not None
    assert (loaded[0].state, loaded[0].faults) == (RunState.ASKED, ())
    monkeypatch.undo()
    run = orchestrator.look(capture_id)
    assert run is not None
    assert run.state is RunState.PREPARING


@pytest.mark.parametrize("error", [redis.ConnectionError("refused"), redis.TimeoutError("no answer")])
def test_no_other_run_is_tried_while_redis_is_away(
    orchestrator: Orchestrator,
    monkeypatch: pytest.MonkeyPatch,
    error: redis.RedisError,
) -> None:
    """Each try would take its time-out."""
    other_run(orchestrator)
    looked: list[str] = []

    def load(_: Runs, capture_id: str) -> NoReturn:
        looked.append(capture_id)
        raise error

    monkeypatch.setattr(Runs, "load_with_answers", load)
    with pytest.raises(type(error)):
        Reconciler(orchestrator).reconcile()
    assert looked == [CAPTURE]


@pytest.mark.parametrize("error", [redis.ConnectionError("refused"), redis.TimeoutError("no answer")])
def test_no_other_run_is_tried_if_redis_goes_away_while_one_is_given_up(
    orchestrator: Orchestrator,
    monkeypatch: pytest.MonkeyPatch,
    error: redis.RedisError,
) -> None:
    other_run(orchestrator)
    break_looks(monkeypatch, "after_prepare")
    monkeypatch.setattr(Orchestrator, "give_up", raising(error))
    with pytest.raises(type(error)):
        Reconciler(orchestrator).reconcile()
    assert run_of(orchestrator, OTHER).state is RunState.PREPARING


def test_a_run_that_cannot_even_be_given_up_keeps_no_other_waiting(
    orchestrator: Orchestrator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other_run(orchestrator)
    break_looks(monkeypatch, "after_prepare")
    monkeypatch.setattr(Orchestrator, "give_up", raising(redis.ResponseError("OOM command not allowed")))
    Reconciler(orchestrator).reconcile()
    assert run_of(orchestrator, OTHER).state is RunState.HOLDING


def test_a_transfer_whose_pulses_cannot_be_read_hides_no_stalled_one(
    orchestrator: Orchestrator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And ends at its own deadline, which the same look watches."""
    other_run(orchestrator)
    prepare(orchestrator)
    hold(orchestrator)
    run, version = orchestrator.runs.load(OTHER) or pytest.fail("no run")
    waiting = {"state": RunState.TRANSFERRING, "members": ("host-a",), "kept": (GUEST,), "dispatched": True}
    assert orchestrator.runs.change(run.model_copy(update=waiting), version)
    disk = PreparedDisk(target="vda", source="/d", source_format="raw", size_bytes=len(DISK), kind=CaptureKind.FULL)
    guest = PreparedGuest(guest_uuid=GUEST, name="web", disks=(disk,))
    result = PrepareResult(capture_id=OTHER, host_id="host-a", guests=(guest,))
    field = names.result_field(Step.PREPARE, "host-a")
    tell(orchestrator.redis, OTHER, field, result)
    orchestrator.redis.delete(names.pulse_key(CAPTURE))
    orchestrator.redis.set(names.pulse_key(CAPTURE), "a string, and no hash")
    now_s = [1000.0]
    monkeypatch.setattr("orchestrator.reconcile.time", SimpleNamespace(monotonic=lambda: now_s[0]))
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    now_s[0] += orchestrator.settings.transfer_stall_s + 1
    reconciler.reconcile()
    assert [fault.code for fault in run_of(orchestrator, OTHER).faults] == ["transfer-stalled"]
    assert run_of(orchestrator).state is RunState.TRANSFERRING
    past(orchestrator)
    reconciler.reconcile()
    assert run_of(orchestrator).state is RunState.RELEASING


def released(orchestrator: Orchestrator) -> None:
    field = names.result_field(Step.RELEASE, "host-a")
    result = ReleaseResult(capture_id=CAPTURE, host_id="host-a")
    tell(orchestrator.redis, CAPTURE, field, result)


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "has been forgotten since"),
        (ManifestDamaged("It has other bytes."), "cannot be read now: It has other bytes. Restore the file"),
        (RepositoryUnsupported("It is newer."), "cannot be read now: It is newer. Use a newer freezeframe"),
    ],
)
def test_a_sealed_capture_whose_manifest_is_gone_ends_with_a_warning(
    orchestrator: Orchestrator,
    monkeypatch: pytest.MonkeyPatch,
    error: FreezeframeError | None,
    words: str,
) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    transfer(orchestrator)
    other_run(orchestrator)
    released(orchestrator)
    if error is None:
        orchestrator.repository.forget(CAPTURE)  # while its host releases
    else:
        monkeypatch.setattr(Repository, "manifest", raising(error))
    Reconciler(orchestrator).reconcile()
    run = run_of(orchestrator)
    assert run.receipt is not None
    assert (run.state, run.receipt.state, run.receipt.guests) == (RunState.DONE, RunState.DONE, ())
    assert [words in text for text in run.receipt.warnings] == [True]
    assert run_of(orchestrator, OTHER).state is RunState.HOLDING


def test_a_sealed_capture_waits_for_a_repository_that_is_away_until_its_time_is_over(
    orchestrator: Orchestrator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    transfer(orchestrator)
    released(orchestrator)
    reconciler = Reconciler(orchestrator)
    with monkeypatch.context() as away:
        away.setattr(Repository, "manifest", raising(RepositoryNotReadable("The mount is gone.")))
        reconciler.reconcile()
        assert run_of(orchestrator).state is RunState.RELEASING
        away.setattr(Sessions, "end", raising(OSError("Stale file handle")))
        past(orchestrator)
        reconciler.reconcile()
    receipt = run_of(orchestrator).receipt
    assert receipt is not None
    assert receipt.state is RunState.DONE
    assert any("The mount is gone." in text for text in receipt.warnings)


def test_a_manifest_that_cannot_be_made_is_a_fault_of_its_run(orchestrator: Orchestrator, sent: Sent) -> None:
    """A disk of no bytes, which no manifest has: QEMU starts with an empty raw file."""
    full, empty = (
        PreparedDisk(target=target, source="/d", source_format="raw", size_bytes=size, kind=CaptureKind.FULL)
        for target, size in (("vda", len(DISK)), ("vdb", 0))
    )
    guest = PreparedGuest(guest_uuid=GUEST, name="web", domain_xml="<domain/>", disks=(full, empty))
    answer(orchestrator, Step.PREPARE, PrepareResult(capture_id=CAPTURE, host_id="host-a", guests=(guest,)))
    hold(orchestrator)
    index = store_disk(orchestrator.repository, DISK, checkpoint="cp")
    for target in ("vda", "vdb"):
        result = TransferResult(capture_id=CAPTURE, host_id="host-a", guest_uuid=GUEST, target=target, index=index)
        run = answer(orchestrator, Step.TRANSFER, result, f"{GUEST}.{target}")
    assert (run.state, run.sealed, run.kept) == (RunState.RELEASING, False, ())
    [fault] = run.faults
    assert (fault.code, fault.message.partition(":")[0]) == ("unexpected", "ValidationError")
    assert "\n" not in fault.message
    assert sent.steps[-1] is Step.RELEASE


@pytest.mark.parametrize("error", [ValueError("a defect"), KeyError("a defect")])
def test_whatever_a_seal_raises_is_a_fault_of_its_run(
    orchestrator: Orchestrator,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    monkeypatch.setattr(Repository, "seal", raising(error))
    run = transfer(orchestrator)
    assert (run.state, [fault.code for fault in run.faults]) == (RunState.RELEASING, ["unexpected"])


@pytest.mark.parametrize("error", [OSError("Stale file handle"), KeyError("a defect")])
def test_a_request_whose_planning_fails_is_answered(
    orchestrator: Orchestrator,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    """Its message is acknowledged: nobody would ever begin it."""
    monkeypatch.setattr(Repository, "each_manifest", raising(error))
    asked = str(ULID())
    take_in(orchestrator, CaptureRequest(capture_id=asked, guests=("web",)))
    run = run_of(orchestrator, asked)
    assert (run.state, [fault.code for fault in run.faults]) == (RunState.FAILED, ["unexpected"])
    assert run.receipt is not None


def test_one_session_that_cannot_be_ended_keeps_no_other_open(
    orchestrator: Orchestrator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "PLANNED_BY_NOW", timedelta(0))
    lost = ["01J" + CAPTURE[3:], "01H" + CAPTURE[3:]]
    for capture_id in lost:
        orchestrator.repository.sessions.begin(capture_id, sessions.PROGRAM)
    end = Sessions.end

    def end_one(self: Sessions, session_id: str, *, sealed: bool) -> None:
        if session_id == lost[0]:
            raise FreezeframeError("It is not writable.")
        end(self, session_id, sealed=sealed)

    monkeypatch.setattr(Sessions, "end", end_one)
    sessions.end_left(orchestrator.repository, orchestrator.runs)
    assert orchestrator.repository.sessions.load(lost[1]).ended_at is not None
    assert orchestrator.repository.sessions.load(lost[0]).ended_at is None


@pytest.mark.parametrize(("error", "traceback"), [(ValueError("a defect"), True), (NoGuestsError("none"), False)])
def test_the_log_has_the_traceback_of_a_defect_in_planning_and_of_no_refusal(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, error: Exception, *, traceback: bool
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(planning.Planner, "_plan", fails)
    capture_id = str(ULID())
    with structlog.testing.capture_logs() as lines:
        take_in(orchestrator, CaptureRequest(capture_id=capture_id, guests=("web",)))
    (line,) = (
        line
        for line in lines
        if line.get("capture") == capture_id and line["event"].startswith(("planning", "request"))
    )
    assert bool(line.get("exc_info")) == traceback
