"""Exit code 3 says that nothing was touched: no fault has it that came when guests had been held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import HeldGuestFault, HoldResult, TransferResult
from freezeframe.contract.words import Policy, RunState, Step
from freezeframe.errors import EXIT_FAILED, EXIT_REFUSED, EXIT_UNREACHABLE
from orchestrator import decision
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run
from tests.unit.orchestrator import one_run
from tests.unit.orchestrator.one_run import CAPTURE as ONE_RUN
from tests.unit.orchestrator.test_decision import BETA, CAPTURE, EXPECTED, LATE, NOW, SETTINGS, held, run, transferred
from tests.unit.orchestrator.test_later_writers import WRITER, next_of
from tests.unit.repository.samples import GUEST
from workers.refusal import DisksChangedError, GuestRestartedError

CHANGED = Fault.of(DisksChangedError("It has another disk."), guest="a", host="host-a")
AWAY = Fault(code="away", message="It is away.", exit_code=EXIT_UNREACHABLE)


def refused(host: str, fault: Fault = CHANGED) -> HoldResult:
    return HoldResult(capture_id=CAPTURE, host_id=host, fault=fault)


def codes(following: Run | None) -> list[tuple[str, int]]:
    assert following is not None
    return [(fault.code, fault.exit_code) for fault in following.faults]


def test_a_hold_that_every_host_refuses_has_touched_nothing() -> None:
    following = decision.after_hold(run(RunState.HOLDING), [refused("host-a"), refused("host-b")], NOW, SETTINGS)
    assert codes(following) == [("disks-changed", EXIT_REFUSED)] * 2


@pytest.mark.parametrize("error", [DisksChangedError, GuestRestartedError])
def test_a_guest_that_is_found_changed_when_it_was_held_is_no_refusal(
    error: type[DisksChangedError | GuestRestartedError],
) -> None:
    fault = Fault.of(error("It is another."))
    following = decision.after_hold(run(RunState.HOLDING), [refused("host-a", fault), held("host-b")], NOW, SETTINGS)
    assert codes(following)[0] == (fault.code, EXIT_FAILED)


def test_of_a_silent_host_nobody_knows_what_it_has_touched() -> None:
    following = decision.after_hold(run(RunState.HOLDING), [refused("host-a")], LATE, SETTINGS)
    assert EXIT_REFUSED not in [exit_code for _, exit_code in codes(following)]


@pytest.mark.parametrize("policy", list(Policy))
def test_storage_that_another_host_writes_to_since(policy: Policy) -> None:
    results = (held("host-a"), held("host-b").model_copy(update={"uses": (WRITER,)}))
    assert codes(next_of(run(RunState.HOLDING, policy), held=results)) == [("disk-shared", EXIT_FAILED)]
    read = (transferred("host-a"), transferred("host-b").model_copy(update={"uses": (WRITER,)}))
    assert codes(next_of(run(RunState.TRANSFERRING, policy), transferred=read)) == [("disk-shared", EXIT_FAILED)]


def test_a_refusal_of_a_transfer_comes_after_the_hold_and_other_codes_stay() -> None:
    one, other = (transferred(host) for host in ("host-a", "host-b"))
    results = [
        one.model_copy(update={"index": None, "fault": CHANGED}),
        other.model_copy(update={"index": None, "fault": AWAY}),
    ]
    following = decision.after_transfer(run(RunState.TRANSFERRING, Policy.ALL), results, EXPECTED, NOW, SETTINGS)
    assert codes(following) == [("disks-changed", EXIT_FAILED), ("away", EXIT_UNREACHABLE)]


@pytest.mark.parametrize("code", ["interrupted", "unreadable-answer"])
@pytest.mark.parametrize("of_guest", [True, False])
def test_an_answer_that_does_not_say_what_the_hold_had_done_is_no_refusal(code: str, *, of_guest: bool) -> None:
    untold = Fault(code=code, message="Its worker ended.", exit_code=EXIT_UNREACHABLE)
    result = HoldResult(capture_id=CAPTURE, host_id="host-b")
    guest_faults = (HeldGuestFault(guest_uuid=BETA, fault=untold),)
    result = result.model_copy(update={"guest_faults": guest_faults} if of_guest else {"fault": untold})
    following = decision.after_hold(run(RunState.HOLDING), [refused("host-a"), result], NOW, SETTINGS)
    assert codes(following) == [("disks-changed", EXIT_FAILED), (code, EXIT_UNREACHABLE)]


REFUSED = CHANGED.model_copy(update={"guest": "other", "code": "refused-before"})


def degraded(orchestrator: Orchestrator) -> None:
    """A guest was refused in prepare, and the other goes on without it."""
    one, version = orchestrator.runs.load(ONE_RUN) or pytest.fail("no run")
    request = one.request.model_copy(update={"policy": Policy.DEGRADE})
    assert orchestrator.runs.change(one.model_copy(update={"request": request, "faults": (REFUSED,)}), version)


def ended(orchestrator: Orchestrator) -> Run:
    one = one_run.release(orchestrator)
    assert one.receipt is not None
    assert one.receipt.faults == one.faults
    return one


def test_a_capture_that_fails_after_its_hold_is_not_refused_for_a_guest_that_was(orchestrator: Orchestrator) -> None:
    """Scripts see the code of the first fault, which is that guest's."""
    degraded(orchestrator)
    one_run.prepare(orchestrator)
    one_run.hold(orchestrator)
    lost = TransferResult(capture_id=ONE_RUN, host_id="host-a", guest_uuid=GUEST, target="vda", fault=AWAY)
    one_run.answer(orchestrator, Step.TRANSFER, lost, f"{GUEST}.vda")
    one = ended(orchestrator)
    assert one.state is RunState.FAILED
    assert codes(one) == [("refused-before", EXIT_FAILED), ("away", EXIT_UNREACHABLE)]


def test_a_capture_of_which_every_guest_was_refused_before_or_at_its_hold_is_refused(
    orchestrator: Orchestrator,
) -> None:
    degraded(orchestrator)
    one_run.prepare(orchestrator)
    one_run.answer(orchestrator, Step.HOLD, HoldResult(capture_id=ONE_RUN, host_id="host-a", fault=CHANGED))
    one = ended(orchestrator)
    assert one.state is RunState.FAILED
    assert codes(one)[:2] == [("refused-before", EXIT_REFUSED), ("disks-changed", EXIT_REFUSED)]


def test_a_guest_that_was_refused_stays_so_in_a_capture_that_is_sealed(orchestrator: Orchestrator) -> None:
    degraded(orchestrator)
    one_run.prepare(orchestrator)
    one_run.hold(orchestrator)
    one_run.transfer(orchestrator)
    one = ended(orchestrator)
    assert one.state is RunState.DONE
    assert codes(one) == [("refused-before", EXIT_REFUSED)]


def test_a_run_that_cannot_be_looked_at_and_may_have_held_guests_is_not_refused(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    degraded(orchestrator)
    one_run.prepare(orchestrator)

    def defect(*_: object, **__: object) -> None:
        raise IndexError("a defect")

    for state, decider in ((RunState.HOLDING, "after_hold"), (RunState.RELEASING, "after_release")):
        monkeypatch.setattr(decision, decider, defect)
        one, version = orchestrator.runs.load(ONE_RUN) or pytest.fail("no run")
        assert one.state is state
        over = one.model_copy(update={"due_at": datetime.now(UTC) - timedelta(seconds=1)})
        assert orchestrator.runs.change(over, version, tell=False)
        Reconciler(orchestrator).reconcile()
    one, _ = orchestrator.runs.load(ONE_RUN) or pytest.fail("no run")
    assert one.state is RunState.FAILED
    assert codes(one)[0] == ("refused-before", EXIT_FAILED)
