"""Exit code 3 says that nothing was touched: no fault has it that came when guests had been held."""

from __future__ import annotations

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import HoldResult
from freezeframe.contract.words import Policy, RunState
from freezeframe.errors import EXIT_FAILED, EXIT_REFUSED, EXIT_UNREACHABLE
from orchestrator import decision
from orchestrator.run import Run
from tests.unit.orchestrator.test_decision import CAPTURE, EXPECTED, LATE, NOW, SETTINGS, held, run, transferred
from tests.unit.orchestrator.test_later_writers import WRITER, next_of
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
