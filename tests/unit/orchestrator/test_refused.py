"""A run that is refused in prepare ends with the reason, also while the repository is away: nothing can be sealed of it."""

from __future__ import annotations

import pytest

from freezeframe.cli.following import exit_code, show_receipt
from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.result import NOT_HERE, PreparedGuest, PrepareResult
from freezeframe.contract.words import Policy, RunState, Step
from freezeframe.errors import EXIT_REFUSED, EXIT_REPOSITORY
from freezeframe.repository import Manifest, Repository
from freezeframe.repository.errors import SealUndecided
from orchestrator import refused
from orchestrator.look import Orchestrator
from tests.unit.orchestrator.one_run import CAPTURE, Sent, answer, prepare, release
from tests.unit.orchestrator.test_seal_state import (
    AWAY,
    change,
    past,
    raising,
    run_of,
    sealed_once,
    told_sealed,
    with_other_guest,
)
from tests.unit.repository.samples import GUEST, OTHER_GUEST

__all__ = ["sealed_once"]  # a fixture

NO_AGENT = Fault(code="no-agent", message="The agent does not answer.", exit_code=EXIT_REFUSED, guest="web")
NO_STORE = Fault(code=AWAY.code, message=AWAY.message, exit_code=EXIT_REPOSITORY, host="host-a")
LATE = Fault(code="late-order", message="This host has released it already.", exit_code=EXIT_REFUSED, host="host-a")
FULL = Fault(code="host-storage", message="No space is left.", exit_code=1, host="host-a")


def of_guests(*faults: tuple[str, Fault | None]) -> PrepareResult:
    guests = tuple(
        PreparedGuest(guest_uuid=uuid, name="web", domain_xml="<domain/>", fault=fault) for uuid, fault in faults
    )
    return PrepareResult(capture_id=CAPTURE, host_id="host-a", guests=guests)


def of_host(fault: Fault) -> PrepareResult:
    return PrepareResult(capture_id=CAPTURE, host_id="host-a", fault=fault)


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("result", [of_guests((GUEST, NO_AGENT)), of_host(NO_STORE)], ids=["guest", "repository"])
def test_it_ends_with_the_reason_when_its_hosts_have_released(
    orchestrator: Orchestrator,
    sent: Sent,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    policy: Policy,
    result: PrepareResult,
) -> None:
    """Not two minutes later, with a doubt."""
    change(orchestrator, request=run_of(orchestrator).request.model_copy(update={"policy": policy}))
    for name in ("is_sealed", "manifest"):
        monkeypatch.setattr(Repository, name, raising(AWAY))
    run = answer(orchestrator, Step.PREPARE, result)
    assert (run.state, run.sealed, told_sealed(sent)) == (RunState.RELEASING, False, [()])
    receipt = release(orchestrator).receipt
    assert receipt is not None
    reason = result.fault or NO_AGENT
    assert (receipt.state, receipt.faults, exit_code(receipt)) == (RunState.FAILED, (reason,), reason.exit_code)
    show_receipt(receipt)
    assert "nothing was kept" in capsys.readouterr().out


def test_a_repository_that_answers_decides_all_the_same(
    orchestrator: Orchestrator, sealed_once: Manifest, sent: Sent
) -> None:
    """A manifest is stronger than what a host answers that has lost its journal."""
    change(orchestrator, state=RunState.PREPARING, members=(), kept=())
    orchestrator.redis.delete(names.results_key(CAPTURE))
    run = answer(orchestrator, Step.PREPARE, of_guests((GUEST, NO_AGENT)))
    assert (run.state, run.sealed, told_sealed(sent)) == (RunState.RELEASING, True, [(GUEST,)])
    assert orchestrator.repository.is_sealed(sealed_once.capture_id)


def test_a_manifest_that_comes_just_then_is_not_decided_upon(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.seal_state.final_manifest", raising(SealUndecided("It was sealed just then.")))
    run = answer(orchestrator, Step.PREPARE, of_guests((GUEST, NO_AGENT)))
    assert (run.state, run.sealed) == (RunState.RELEASING, None)


@pytest.mark.parametrize("fault", [LATE, FULL], ids=lambda fault: fault.code)
def test_an_answer_of_which_redis_may_have_forgotten_the_rest_leaves_the_doubt(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """Redis may be back as it was before the capture was sealed."""
    monkeypatch.setattr(Repository, "is_sealed", raising(AWAY))
    run = answer(orchestrator, Step.PREPARE, of_host(fault))
    assert (run.state, run.sealed, told_sealed(sent)) == (RunState.RELEASING, None, [None])


def test_a_host_that_is_silent_leaves_the_doubt(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Repository, "is_sealed", raising(AWAY))
    past(orchestrator)
    run = orchestrator.look(CAPTURE)
    assert run is not None
    assert (run.state, run.sealed) == (RunState.RELEASING, None)


def test_a_guest_that_another_host_may_have_prepared_leaves_the_doubt(orchestrator: Orchestrator) -> None:
    for code in NOT_HERE:
        gone = NO_AGENT.model_copy(update={"code": code})
        assert not refused.in_prepare(run_of(orchestrator), [of_guests((GUEST, gone))])


def test_a_host_that_had_the_repository_in_another_round_leaves_the_doubt_of_the_guests_it_prepared(
    orchestrator: Orchestrator,
) -> None:
    later = of_host(NO_STORE).model_copy(update={"round": 1})
    assert refused.in_prepare(run_of(orchestrator), [later])
    assert not refused.in_prepare(run_of(orchestrator), [of_guests((GUEST, None)), later])


@pytest.mark.parametrize(("policy", "certain"), [(Policy.ALL, True), (Policy.DEGRADE, False)])
def test_under_degrade_the_others_may_be_sealed(orchestrator: Orchestrator, policy: Policy, *, certain: bool) -> None:
    with_other_guest(orchestrator)
    change(orchestrator, request=run_of(orchestrator).request.model_copy(update={"policy": policy}))
    one = of_guests((GUEST, NO_AGENT), (OTHER_GUEST, None))
    assert refused.in_prepare(run_of(orchestrator), [one]) is certain
    assert refused.in_prepare(run_of(orchestrator), [of_guests((GUEST, NO_AGENT), (OTHER_GUEST, NO_AGENT))])


def test_a_run_that_was_not_refused_is_none(orchestrator: Orchestrator) -> None:
    run = prepare(orchestrator)
    assert run.state is RunState.HOLDING
    for told in (None, NO_AGENT):
        assert not refused.in_prepare(run, [of_guests((GUEST, told))])
    assert not refused.in_prepare(run, [])
    assert not refused.in_prepare(run.model_copy(update={"plan": None}), [])


def test_a_run_without_a_plan_was_refused_by_no_host(orchestrator: Orchestrator) -> None:
    run = run_of(orchestrator).model_copy(update={"plan": None})
    assert run.members == ()
    for told in ([], [of_guests((GUEST, NO_AGENT))], [of_host(NO_STORE)]):
        assert not refused.in_prepare(run, told)


def test_beside_a_fault_of_the_host_an_answer_is_of_no_guest(orchestrator: Orchestrator) -> None:
    """It came too late: what Redis has forgotten is the answer that counted."""
    both = of_guests((GUEST, NO_AGENT)).model_copy(update={"fault": LATE})
    assert not refused.in_prepare(run_of(orchestrator), [both])
