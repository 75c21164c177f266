"""What results call for: wait, go on, or let all go; and what the policy makes of a part that failed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.plan import GuestPlan, HostPlan, Plan
from freezeframe.contract.proof import GuestProof, HostProof, consistency
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import (
    HeldGuestFault,
    HoldResult,
    PreparedDisk,
    PreparedGuest,
    PrepareResult,
    ReleaseResult,
)
from freezeframe.contract.result import TransferResult as Transferred
from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Method, Policy, RunState
from freezeframe.settings import OrchestratorSettings
from orchestrator import decision
from orchestrator.run import Run
from orchestrator.transfers import Transfer

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
FREEZE = GuestHold(kind=HoldKind.FREEZE)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = OrchestratorSettings()
ALPHA, BETA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
HOSTS = {"host-a": ALPHA, "host-b": BETA}
TROUBLE = Fault(code="no-agent", message="The agent does not answer.")


def run(state: RunState, policy: Policy = Policy.ALL, **changes: Any) -> Run:
    plan = Plan(
        capture_id=CAPTURE,
        epoch=1,
        method=Method.BACKUP_PULL,
        chunk_bytes=1 << 20,
        repository_id="r",
        hosts=tuple(
            HostPlan(host_id=host, guests=(GuestPlan(guest_uuid=guest, name=guest[-1], hold=FREEZE),))
            for host, guest in HOSTS.items()
        ),
    )
    blank = Run(
        capture_id=CAPTURE,
        request=CaptureRequest(capture_id=CAPTURE, every_guest=True, policy=policy),
        asked_at=NOW,
        state=state,
        plan=plan,
        entered_at=NOW,
        due_at=NOW + timedelta(seconds=60),
        members=tuple(HOSTS),
        kept=tuple(HOSTS.values()),
    )
    return blank.model_copy(update=changes)


LATE = NOW + timedelta(seconds=61)


def prepared(host: str, fault: Fault | None = None) -> PrepareResult:
    guest = PreparedGuest(guest_uuid=HOSTS[host], name=HOSTS[host][-1], fault=fault)
    return PrepareResult(capture_id=CAPTURE, host_id=host, guests=(guest,))


def held(host: str, *, woken: bool = True, begun: bool = True, fault: Fault | None = None) -> HoldResult:
    guest = GuestProof(
        guest_uuid=HOSTS[host],
        hold=FREEZE,
        frozen_filesystems=1,
        hold_start_ns=1,
        held_ns=2,
        begun_ns=3 if begun else None,
        thaw_start_ns=6,
        thawed_ns=7,
    )
    return HoldResult(
        capture_id=CAPTURE,
        host_id=host,
        proof=HostProof(host_id=host, boot_id="b", report_ns=4, woken_ns=5 if woken else None, guests=(guest,)),
        arrived_us=list(HOSTS).index(host),
        release_us=1 if woken else None,
        guest_faults=(HeldGuestFault(guest_uuid=HOSTS[host], fault=fault),) if fault else (),
    )


def transferred(host: str, fault: Fault | None = None) -> Transferred:
    index = None if fault else "0" * 64
    return Transferred(capture_id=CAPTURE, host_id=host, guest_uuid=HOSTS[host], target="vda", index=index, fault=fault)


def transfer(host: str, guest: str, target: str = "vda") -> Transfer:
    disk = PreparedDisk(target=target, source="/d", source_format="raw", size_bytes=1, kind=CaptureKind.FULL)
    return Transfer(host, PreparedGuest(guest_uuid=guest, name=guest[-1], disks=(disk,)), disk)


EXPECTED = [transfer(host, guest) for host, guest in HOSTS.items()]
STALLED = {"host-b": TROUBLE}


def test_a_host_that_has_not_answered_is_waited_for_until_the_deadline() -> None:
    one = [prepared("host-a")]
    assert decision.after_prepare(run(RunState.PREPARING), one, NOW, SETTINGS) is None
    late = decision.after_prepare(run(RunState.PREPARING), one, LATE, SETTINGS)
    assert late is not None
    assert (late.state, late.faults[0].code, late.faults[0].host) == (RunState.RELEASING, "host-silent", "host-b")


@pytest.mark.case("P2")
@pytest.mark.parametrize("policy", list(Policy))
def test_guests_on_two_hosts_that_share_a_disk_are_not_held(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "orchestrator.sharing.shared_faults", lambda results: {BETA: TROUBLE} if len(results) == 2 else {}
    )
    following = decision.after_prepare(
        run(RunState.PREPARING, policy, members=(), kept=()), [prepared("host-a"), prepared("host-b")], NOW, SETTINGS
    )
    assert following is not None
    assert following.faults == (TROUBLE,)
    if policy is Policy.ALL:
        assert (following.state, following.kept) == (RunState.RELEASING, ())
    else:
        assert (following.state, following.kept, following.members) == (RunState.HOLDING, (ALPHA,), ("host-a",))


def test_all_prepared_means_hold() -> None:
    following = decision.after_prepare(
        run(RunState.PREPARING, members=(), kept=()), [prepared("host-a"), prepared("host-b")], NOW, SETTINGS
    )
    assert following is not None
    assert (following.state, following.members, set(following.kept)) == (
        RunState.HOLDING,
        ("host-a", "host-b"),
        {ALPHA, BETA},
    )


@pytest.mark.parametrize(
    ("policy", "state", "kept"), [(Policy.ALL, RunState.RELEASING, ()), (Policy.DEGRADE, RunState.HOLDING, (ALPHA,))]
)
def test_a_refused_guest_ends_all_or_is_left_out(policy: Policy, state: RunState, kept: tuple[str, ...]) -> None:
    results = [prepared("host-a"), prepared("host-b", TROUBLE)]
    following = decision.after_prepare(run(RunState.PREPARING, policy), results, NOW, SETTINGS)
    assert following is not None
    assert (following.state, following.kept, following.faults) == (state, kept, (TROUBLE,))


def test_proven_holds_go_on_to_their_transfers() -> None:
    following = decision.after_hold(run(RunState.HOLDING), [held("host-a"), held("host-b")], NOW, SETTINGS)
    assert following is not None
    assert (following.state, following.faults) == (RunState.TRANSFERRING, ())


def test_without_proof_policy_all_keeps_nothing_and_says_why() -> None:
    results = [held("host-a"), held("host-b", woken=False)]
    following = decision.after_hold(run(RunState.HOLDING), results, NOW, SETTINGS)
    assert following is not None
    assert (following.state, following.kept) == (RunState.RELEASING, ())
    assert "host-b was not told of the release" in following.faults[0].message


def test_without_proof_policy_degrade_keeps_all_that_began() -> None:
    results = [held("host-a"), held("host-b", woken=False)]
    following = decision.after_hold(run(RunState.HOLDING, Policy.DEGRADE), results, NOW, SETTINGS)
    assert following is not None
    assert (following.state, following.kept) == (RunState.TRANSFERRING, (ALPHA, BETA))


def test_a_guest_that_did_not_begin_is_never_transferred() -> None:
    results = [held("host-a"), held("host-b", begun=False, fault=TROUBLE)]
    degraded = decision.after_hold(run(RunState.HOLDING, Policy.DEGRADE), results, NOW, SETTINGS)
    assert degraded is not None
    assert (degraded.state, degraded.kept, degraded.faults) == (RunState.TRANSFERRING, (ALPHA,), (TROUBLE,))
    strict = decision.after_hold(run(RunState.HOLDING), results, NOW, SETTINGS)
    assert strict is not None
    assert (strict.state, strict.kept) == (RunState.RELEASING, ())


def test_the_first_lost_transfer_ends_a_capture_of_all() -> None:
    following = decision.after_transfer(
        run(RunState.TRANSFERRING), [transferred("host-a", TROUBLE)], EXPECTED, NOW, SETTINGS
    )
    assert following is not None
    assert (following.state, following.kept) == (RunState.RELEASING, ())


def test_degrade_waits_for_every_transfer_and_seals_what_is_whole() -> None:
    one = [transferred("host-a", TROUBLE)]
    state = run(RunState.TRANSFERRING, Policy.DEGRADE)
    assert decision.after_transfer(state, one, EXPECTED, NOW, SETTINGS) is None
    following = decision.after_transfer(state, [*one, transferred("host-b")], EXPECTED, NOW, SETTINGS)
    assert following is not None
    assert (following.state, following.kept) == (RunState.SEALING, (BETA,))


def test_a_stalled_transfer_is_not_waited_for() -> None:
    state = run(RunState.TRANSFERRING, Policy.DEGRADE)
    following = decision.after_transfer(state, [transferred("host-a")], EXPECTED, NOW, SETTINGS, STALLED)
    assert following is not None
    assert (following.state, following.kept) == (RunState.SEALING, (ALPHA,))


@pytest.mark.parametrize(("sealed", "state"), [(True, RunState.DONE), (False, RunState.FAILED)])
def test_a_capture_is_done_only_if_it_is_sealed(sealed: bool, state: RunState) -> None:  # noqa: FBT001
    results = [ReleaseResult(capture_id=CAPTURE, host_id=host) for host in HOSTS]
    following = decision.after_release(run(RunState.RELEASING, sealed=sealed), results, NOW, SETTINGS)
    assert following is not None
    assert following.state is state


def test_a_host_that_cannot_clean_up_is_warned_of_and_does_not_undo_the_capture() -> None:
    results = [ReleaseResult(capture_id=CAPTURE, host_id="host-a", warnings=("guest x: libvirt is away",))]
    following = decision.after_release(run(RunState.RELEASING, sealed=True), results, LATE, SETTINGS)
    assert following is not None
    assert following.state is RunState.DONE
    assert "host-b" in following.warnings[0]
    assert "libvirt is away" in following.warnings[1]


@pytest.mark.parametrize("code", ["muster", "barrier"])
def test_the_cause_is_told_before_the_hosts_that_gave_up_because_of_it(code: str) -> None:
    gave_up = held("host-a", woken=False, begun=False).model_copy(update={"fault": Fault(code=code, message="gave up")})
    cause = held("host-b", woken=False, begun=False, fault=Fault(code="slow-freeze", message="too slow"))
    following = decision.after_hold(run(RunState.HOLDING), [gave_up, cause], NOW, SETTINGS)
    assert following is not None
    assert [fault.code for fault in following.faults] == ["slow-freeze", code]


@pytest.mark.case("G4")
@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("how", ["not begun", "not in the proof", "no proof"])
def test_a_guest_that_was_neither_held_nor_explained_is_never_dropped_without_a_word(policy: Policy, how: str) -> None:
    """Whatever a worker of another version answers."""
    odd = held("host-b", begun=False)
    assert odd.proof is not None
    if how == "not in the proof":
        odd = odd.model_copy(update={"proof": odd.proof.model_copy(update={"guests": ()})})
    elif how == "no proof":
        odd = odd.model_copy(update={"proof": None})
    following = decision.after_hold(run(RunState.HOLDING, policy), [held("host-a"), odd], NOW, SETTINGS)
    assert following is not None
    fault = following.faults[0]
    assert (fault.code, fault.guest, fault.host) == ("unexplained", "b", "host-b")
    assert following.state is (RunState.RELEASING if policy is Policy.ALL else RunState.TRANSFERRING)
    assert following.kept == (() if policy is Policy.ALL else (ALPHA,))


@pytest.mark.case("G4")
def test_a_host_that_is_silent_or_has_failed_explains_all_its_guests() -> None:
    late = decision.after_hold(run(RunState.HOLDING, Policy.DEGRADE), [held("host-a")], LATE, SETTINGS)
    assert late is not None
    assert [fault.code for fault in late.faults] == ["host-silent"]
    failed = HoldResult(capture_id=CAPTURE, host_id="host-b", fault=TROUBLE)
    following = decision.after_hold(run(RunState.HOLDING, Policy.DEGRADE), [held("host-a"), failed], NOW, SETTINGS)
    assert following is not None
    assert following.faults == (TROUBLE,)


@pytest.mark.case("G4")
def test_of_all_the_guests_that_another_s_failure_has_let_go_have_no_fault_of_their_own() -> None:
    results = [held("host-a", begun=False), held("host-b", begun=False, fault=TROUBLE)]
    following = decision.after_hold(run(RunState.HOLDING), results, NOW, SETTINGS)
    assert following is not None
    assert following.faults == (TROUBLE,)


@pytest.mark.case("G4")
@pytest.mark.parametrize("unfit", [True, False])
def test_a_host_that_met_the_others_without_a_guest_costs_their_guests_nothing(*, unfit: bool) -> None:
    """Its guests were unfit before the muster, so it has nothing to tell of them; or each has failed in the hold."""
    without = held("host-b", begun=False, fault=TROUBLE)
    assert without.proof is not None
    if unfit:
        without = without.model_copy(update={"proof": without.proof.model_copy(update={"guests": ()})})
    state, results = run(RunState.HOLDING, Policy.DEGRADE), [held("host-a"), without]
    following = decision.after_hold(state, results, NOW, SETTINGS)
    assert following is not None
    assert (following.state, following.kept, following.faults) == (RunState.TRANSFERRING, (ALPHA,), (TROUBLE,))
    proof = decision.proof_of(state, results)
    assert [(host.host_id, len(host.guests)) for host in proof.hosts] == [("host-a", 1), ("host-b", 0)]
    assert consistency(proof) is Consistency.GROUP


@pytest.mark.case("G4")
def test_a_guest_that_was_not_kept_when_the_hold_began_needs_no_explanation() -> None:
    kept = run(RunState.HOLDING, Policy.DEGRADE, kept=(ALPHA,), members=("host-a",))
    following = decision.after_hold(kept, [held("host-a")], NOW, SETTINGS)
    assert following is not None
    assert (following.faults, following.kept) == ((), (ALPHA,))


@pytest.mark.parametrize("policy", list(Policy))
def test_a_host_that_failed_to_prepare_is_told_of_once(policy: Policy) -> None:
    """Its fault explains each of its guests."""
    failed = prepared("host-b").model_copy(update={"guests": (), "fault": TROUBLE})
    following = decision.after_prepare(
        run(RunState.PREPARING, policy, members=(), kept=()), [prepared("host-a"), failed], NOW, SETTINGS
    )
    assert following is not None
    assert following.faults == (TROUBLE,)


@pytest.mark.parametrize("policy", list(Policy))
def test_a_guest_of_which_the_answer_to_prepare_says_nothing_is_told(policy: Policy) -> None:
    mute = prepared("host-b").model_copy(update={"guests": ()})
    following = decision.after_prepare(
        run(RunState.PREPARING, policy, members=(), kept=()), [prepared("host-a"), mute], NOW, SETTINGS
    )
    assert following is not None
    assert [(fault.code, fault.guest, fault.host) for fault in following.faults] == [("unexplained", "b", "host-b")]
    assert following.kept == (() if policy is Policy.ALL else (ALPHA,))


@pytest.mark.parametrize("policy", list(Policy))
def test_a_host_that_could_prepare_nothing_explains_all_its_guests(policy: Policy) -> None:
    failed = prepared("host-b").model_copy(update={"guests": (), "fault": TROUBLE})
    following = decision.after_prepare(
        run(RunState.PREPARING, policy, members=(), kept=()), [prepared("host-a"), failed], NOW, SETTINGS
    )
    assert following is not None
    assert following.faults == (TROUBLE,)


@pytest.mark.parametrize("policy", list(Policy))
def test_a_disk_that_was_neither_stored_nor_explained_is_told(policy: Policy) -> None:
    mute = transferred("host-b", TROUBLE).model_copy(update={"fault": None})
    following = decision.after_transfer(
        run(RunState.TRANSFERRING, policy), [transferred("host-a"), mute], EXPECTED, NOW, SETTINGS
    )
    assert following is not None
    assert [(fault.code, fault.disk, fault.host) for fault in following.faults] == [("unexplained", "vda", "host-b")]
    assert following.kept == (() if policy is Policy.ALL else (ALPHA,))
