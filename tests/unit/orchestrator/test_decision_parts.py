"""What is decided when a part of the hosts is silent, refuses, or tells less than the others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.proof import Arrival
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import HoldResult, PreparedGuest, PrepareResult, ReleaseResult
from freezeframe.contract.words import Policy, RunState
from freezeframe.settings import OrchestratorSettings
from orchestrator import decision
from orchestrator.decision import HOLD_SLACK_S
from orchestrator.run import Run
from orchestrator.search import SEARCH_S
from tests.unit.orchestrator.test_decision import (
    ALPHA,
    BETA,
    CAPTURE,
    EXPECTED,
    HOSTS,
    LATE,
    NOW,
    SETTINGS,
    TROUBLE,
    held,
    prepared,
    run,
    transferred,
)
from tests.unit.orchestrator.test_search import known

DUE = NOW + timedelta(seconds=60)


def of_host(host: str, fault: Fault) -> PrepareResult:
    """A host that refuses as a whole, after it had prepared its guest."""
    guest = PreparedGuest(guest_uuid=HOSTS[host], name=HOSTS[host][-1])
    return PrepareResult(capture_id=CAPTURE, host_id=host, guests=(guest,), fault=fault)


def refused(host: str) -> HoldResult:
    return HoldResult(capture_id=CAPTURE, host_id=host, fault=TROUBLE)


def must(following: Run | None) -> Run:
    assert following is not None
    return following


def test_each_state_has_the_time_that_its_orders_take() -> None:
    request = CaptureRequest(capture_id=CAPTURE, every_guest=True, muster_timeout_s=7, hold_timeout_s=11)
    settings = OrchestratorSettings(
        plan_timeout_s=50,
        queue_timeout_s=75,
        prepare_timeout_s=100,
        transfer_timeout_s=200,
        seal_timeout_s=250,
        release_timeout_s=300,
    )
    seconds = {
        state: (decision.enter(run(state, request=request), state, LATE, settings).due_at - LATE).total_seconds()
        for state in RunState
    }
    assert seconds == {
        RunState.ASKED: 50,
        RunState.QUEUED: 75,
        RunState.PREPARING: 100,
        RunState.HOLDING: 7 + 11 + HOLD_SLACK_S,
        RunState.TRANSFERRING: 200,
        RunState.SEALING: 250,
        RunState.RELEASING: 300,
        RunState.DONE: 0,
        RunState.FAILED: 0,
    }


def test_every_host_is_waited_for_until_its_time_is_up() -> None:
    released = [ReleaseResult(capture_id=CAPTURE, host_id="host-a")]
    before = DUE - timedelta(microseconds=1)
    holding, releasing = run(RunState.HOLDING), run(RunState.RELEASING, sealed=True)
    assert decision.after_hold(holding, [held("host-a")], before, SETTINGS) is None
    assert decision.after_release(releasing, released, before, SETTINGS) is None
    assert must(decision.after_hold(holding, [held("host-a")], DUE, SETTINGS)).state is RunState.RELEASING
    assert must(decision.after_release(releasing, released, DUE, SETTINGS)).state is RunState.DONE


def test_a_host_that_is_silent_after_the_hold_is_the_only_fault() -> None:
    """That its guests prove nothing follows from it, and would only hide it."""
    strict = must(decision.after_hold(run(RunState.HOLDING), [held("host-a")], LATE, SETTINGS))
    assert [(fault.code, fault.host) for fault in strict.faults] == [("host-silent", "host-b")]
    degraded = must(decision.after_hold(run(RunState.HOLDING, Policy.DEGRADE), [held("host-a")], LATE, SETTINGS))
    assert (degraded.state, degraded.kept) == (RunState.TRANSFERRING, (ALPHA,))


def test_what_is_not_proven_is_no_fault_of_a_degraded_capture() -> None:
    results = [held("host-a"), held("host-b", woken=False)]
    assert must(decision.after_hold(run(RunState.HOLDING, Policy.DEGRADE), results, NOW, SETTINGS)).faults == ()


def test_the_guests_of_a_host_that_refused_as_a_whole_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def shared_faults(results: Sequence[PrepareResult]) -> dict[str, Fault]:
        compared.extend(result.host_id for result in results)
        return {}

    monkeypatch.setattr("orchestrator.sharing.shared_faults", shared_faults)
    results = [prepared("host-a"), of_host("host-b", TROUBLE)]
    following = must(decision.after_prepare(run(RunState.PREPARING, Policy.DEGRADE), results, NOW, SETTINGS))
    assert (following.state, following.kept, following.members) == (RunState.HOLDING, (ALPHA,), ("host-a",))
    assert following.faults == (TROUBLE,)
    assert compared == ["host-a"]  # what it had prepared is in nobody's way


@pytest.mark.parametrize("policy", list(Policy))
def test_of_two_guests_that_moved_one_is_found(policy: Policy) -> None:
    gone = Fault(code="guest-gone", message="It is not here.")
    lost = [prepared("host-a", gone), prepared("host-b", gone)]
    at = NOW + timedelta(seconds=1)
    there = [known("host-a", at=at), known("host-b", at=at), known("host-c", ALPHA, at=at)]
    state = run(RunState.PREPARING, policy, due_at=NOW + timedelta(seconds=10 * SEARCH_S))
    searching = must(decision.after_prepare(state, lost, NOW, SETTINGS, [known("host-c")]))
    over = NOW + timedelta(seconds=SEARCH_S)
    following = must(decision.after_prepare(searching, lost, over, SETTINGS, there))
    assert [fault.code for fault in following.faults] == ["guest-gone"]
    if policy is Policy.ALL:
        assert (following.state, following.kept) == (RunState.RELEASING, ())
    else:
        assert (following.state, following.round) == (RunState.PREPARING, 1)
        assert [(one.host_id, one.guests[0].guest_uuid) for one in following.moved] == [("host-c", ALPHA)]


def test_a_host_that_refused_to_hold_leaves_no_record_and_takes_nobody_else_with_it() -> None:
    results = [held("host-a"), refused("host-b")]
    following = must(decision.after_hold(run(RunState.HOLDING, Policy.DEGRADE), results, NOW, SETTINGS))
    assert (following.state, following.kept, following.faults) == (RunState.TRANSFERRING, (ALPHA,), (TROUBLE,))
    proof = decision.proof_of(run(RunState.HOLDING), results)
    assert (proof.members, [host.host_id for host in proof.hosts]) == (tuple(HOSTS), ["host-a"])


def test_a_proof_is_of_its_plan_s_epoch() -> None:
    plan = run(RunState.HOLDING).plan
    assert plan is not None
    later = run(RunState.HOLDING, plan=plan.model_copy(update={"epoch": 77}))
    assert decision.proof_of(later, [held("host-a")]).epoch == 77


def test_a_guest_that_did_not_begin_is_not_in_the_proof() -> None:
    proof = decision.proof_of(run(RunState.HOLDING), [held("host-a"), held("host-b", begun=False)])
    assert [[guest.guest_uuid for guest in host.guests] for host in proof.hosts] == [[ALPHA], []]


@pytest.mark.parametrize("first", [True, False])
def test_of_the_release_counts_what_a_host_says_that_saw_it(first: bool) -> None:  # noqa: FBT001
    """A host that gave up, or whose Redis was away, has seen less of it than one that was released."""
    all_of_it = held("host-a").model_copy(update={"release_us": 9, "release_arrivals": 2})
    less = held("host-b").model_copy(update={"release_us": None, "release_arrivals": None})
    proof = decision.proof_of(run(RunState.HOLDING), [all_of_it, less] if first else [less, all_of_it])
    assert proof.arrivals == (Arrival(host_id="host-a", redis_us=0), Arrival(host_id="host-b", redis_us=1))
    assert (proof.release_us, proof.release_arrivals) == (9, 2)


def test_each_host_tells_of_its_own_arrival_and_of_no_other() -> None:
    late = held("host-a").model_copy(update={"arrived_us": 7})
    unknown = held("host-b").model_copy(update={"arrived_us": None})
    proof = decision.proof_of(run(RunState.HOLDING), [late, unknown])
    assert proof.arrivals == (Arrival(host_id="host-a", redis_us=7),)
    both = decision.proof_of(run(RunState.HOLDING), [late, held("host-b")])
    assert [one.host_id for one in both.arrivals] == ["host-b", "host-a"]  # in the order of the arrivals
    assert decision.proof_of(run(RunState.HOLDING), [refused("host-a")]).arrivals == ()


def test_a_capture_of_which_nothing_was_stored_is_not_sealed() -> None:
    results = [transferred("host-a", TROUBLE), transferred("host-b", TROUBLE)]
    state = run(RunState.TRANSFERRING, Policy.DEGRADE)
    following = must(decision.after_transfer(state, results, EXPECTED, NOW, SETTINGS))
    assert (following.state, following.kept, following.faults) == (RunState.RELEASING, (), (TROUBLE, TROUBLE))


def test_only_transfers_that_failed_are_faults() -> None:
    results = [transferred("host-a", TROUBLE), transferred("host-b")]
    following = must(
        decision.after_transfer(run(RunState.TRANSFERRING, Policy.DEGRADE), results, EXPECTED, NOW, SETTINGS)
    )
    assert (following.kept, following.faults) == ((BETA,), (TROUBLE,))


@pytest.mark.parametrize("state", list(RunState))
def test_a_run_whose_seal_has_begun_is_known_as_that_whoever_began_it(state: RunState) -> None:
    """An older orchestrator, which knows no such field, may have brought it to its seal."""
    of_an_older_one = run(state).model_copy(update={"seal_begun": False})
    entered = decision.enter(of_an_older_one, RunState.RELEASING, LATE, SETTINGS)
    assert entered.seal_begun is (state is RunState.SEALING)
    assert decision.enter(run(state), RunState.SEALING, LATE, SETTINGS).seal_begun
    assert decision.enter(entered, RunState.FAILED, LATE, SETTINGS).seal_begun is entered.seal_begun
