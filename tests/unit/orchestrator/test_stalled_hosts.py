"""Under `degrade` a host whose transfers have stalled costs its own disks, each with a fault, and nobody else's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.plan import GuestPlan, HostPlan
from freezeframe.contract.result import PreparedGuest, TransferResult
from freezeframe.contract.words import Policy, RunState
from orchestrator import decision, reconcile
from orchestrator.errors import TransferStalledError
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run
from orchestrator.transfers import Transfer, expected_transfers
from tests.unit.orchestrator import test_stall
from tests.unit.orchestrator.test_decision import ALPHA, BETA, CAPTURE, FREEZE, NOW, SETTINGS, prepared, run, transfer
from tests.unit.orchestrator.test_stall import GUESTS, STALL_S, Clock, answer, beat, change, run_of

clock, orchestrator = test_stall.clock, test_stall.orchestrator

GAMMA = "00000000-0000-4000-8000-00000000000c"
HOSTS = {"host-a": ALPHA, "host-b": BETA, "host-c": GAMMA}
TARGETS = ("vda", "vdb")
EXPECTED = [transfer(host, guest, target) for host, guest in HOSTS.items() for target in TARGETS]
STALLED = Fault.of(TransferStalledError("The transfers on host host-b to /r do not move any more."), host="host-b")


def state(policy: Policy = Policy.DEGRADE) -> Run:
    """Three hosts with a guest of two disks each."""
    blank = run(RunState.TRANSFERRING, policy)
    assert blank.plan is not None
    hosts = tuple(
        HostPlan(host_id=host, guests=(GuestPlan(guest_uuid=guest, name=guest[-1], hold=FREEZE),))
        for host, guest in HOSTS.items()
    )
    plan = blank.plan.model_copy(update={"hosts": hosts})
    return blank.model_copy(update={"plan": plan, "members": tuple(HOSTS), "kept": tuple(HOSTS.values())})


def stored(host: str, *targets: str) -> list[TransferResult]:
    return [
        TransferResult(capture_id=CAPTURE, host_id=host, guest_uuid=HOSTS[host], target=target, index="0" * 64)
        for target in targets or TARGETS
    ]


def following(results: list[TransferResult], *stalled: str, policy: Policy = Policy.DEGRADE) -> Run | None:
    troubles = {host: STALLED.model_copy(update={"host": host}) for host in stalled}
    return decision.after_transfer(state(policy), results, EXPECTED, NOW, SETTINGS, troubles)


def told(one: Run | None) -> list[tuple[str, str | None, str | None, str | None]]:
    assert one is not None
    return [(fault.code, fault.host, fault.guest, fault.disk) for fault in one.faults]


def test_a_host_that_moves_is_waited_for_and_each_disk_of_the_one_that_does_not_is_named() -> None:
    done = stored("host-a")
    assert following(done, "host-b") is None
    assert following([*done, *stored("host-c", "vda")], "host-b") is None
    ended = following([*done, *stored("host-c")], "host-b")
    assert ended is not None
    assert (ended.state, ended.kept) == (RunState.SEALING, (ALPHA, GAMMA))
    assert told(ended) == [("transfer-stalled", "host-b", "b", target) for target in TARGETS]
    assert ended.faults[0].message == f"Disk vda of guest b was not stored. {STALLED.message}"


def test_of_a_guest_that_is_partly_stored_the_disk_that_is_missing_is_named() -> None:
    ended = following([*stored("host-a"), *stored("host-b", "vda"), *stored("host-c")], "host-b")
    assert told(ended) == [("transfer-stalled", "host-b", "b", "vdb")]
    assert ended is not None
    assert ended.kept == (ALPHA, GAMMA)


def test_a_look_that_knows_of_no_stall_waits() -> None:
    """As that of a chord's body: which hosts have stalled the reconciler alone knows."""
    assert following([*stored("host-a"), *stored("host-c")]) is None


@pytest.mark.parametrize("policy", list(Policy))
def test_a_stalled_host_that_has_answered_after_all_costs_nothing(policy: Policy) -> None:
    """Between the reconciler's look at its silence and this one."""
    ended = following([one for host in HOSTS for one in stored(host)], "host-b", policy=policy)
    assert ended is not None
    assert (ended.state, ended.kept, ended.faults) == (RunState.SEALING, tuple(HOSTS.values()), ())


def test_when_every_host_that_is_left_has_stalled_the_transfers_end() -> None:
    ended = following(stored("host-a"), "host-b", "host-c")
    assert ended is not None
    assert (ended.state, ended.kept, len(ended.faults)) == (RunState.SEALING, (ALPHA,), 4)
    nothing = following([], *HOSTS)
    assert nothing is not None
    assert (nothing.state, nothing.kept, len(nothing.faults)) == (RunState.RELEASING, (), 6)


def test_under_all_the_first_stalled_host_ends_the_capture_at_once() -> None:
    ended = following(stored("host-a"), "host-b", policy=Policy.ALL)
    assert ended is not None
    assert (ended.state, ended.kept) == (RunState.RELEASING, ())
    assert told(ended) == [("transfer-stalled", "host-b", None, None)]


def test_a_guest_that_was_refused_where_it_was_before_is_transferred_once() -> None:
    """Whatever its old host has told of its disks."""
    disks = (transfer("host-a", ALPHA).disk,)
    gone = Fault(code="guest-gone", message="It is not here.")
    there = PreparedGuest(guest_uuid=ALPHA, name="a", disks=disks)
    before = prepared("host-b").model_copy(update={"guests": (there.model_copy(update={"fault": gone}),)})
    failed = prepared("host-b").model_copy(update={"guests": (there,), "fault": gone, "round": 1})
    now = prepared("host-a").model_copy(update={"guests": (there,)})
    found = expected_transfers(run(RunState.TRANSFERRING), [now, before, failed])
    assert found == [Transfer("host-a", there, disks[0])]
    assert found[0].field == f"transfer/host-a/{ALPHA}.vda"


@dataclass
class Degraded:
    """A reconciler, and a run under `degrade` of two hosts: of host-a nothing is heard any more, host-b moves."""

    orchestrator: Orchestrator
    clock: Clock

    def __post_init__(self) -> None:
        request = run_of(self.orchestrator).request.model_copy(update={"policy": Policy.DEGRADE})
        change(self.orchestrator, request=request)
        self.reconciler = Reconciler(self.orchestrator)
        self.reconciler.reconcile()
        self.moved = 0

    def go_on(self, seconds: float = STALL_S / 3) -> Run:
        """Let time pass in which host-b moves, and reconcile."""
        self.clock.now_s += seconds
        self.moved += 1
        beat(self.orchestrator, "host-b", self.moved)
        self.reconciler.reconcile()
        return run_of(self.orchestrator)


@pytest.fixture
def degraded(orchestrator: Orchestrator, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Degraded:
    monkeypatch.setattr(Orchestrator, "_seal", lambda *_: None)  # it stays to be sealed
    return Degraded(orchestrator, clock)


def lost(one: Run) -> list[tuple[str | None, str | None]]:
    return [(fault.host, fault.disk) for fault in one.faults]


def test_a_run_goes_on_without_the_host_that_stalled_when_the_others_are_done(degraded: Degraded) -> None:
    for _ in range(10):
        assert degraded.go_on().state is RunState.TRANSFERRING
    answer(degraded.orchestrator, "host-b")
    looked = degraded.orchestrator.look(test_stall.CAPTURE)  # the body of its chord
    assert looked is not None
    assert looked.state is RunState.TRANSFERRING
    degraded.reconciler.reconcile()
    one = run_of(degraded.orchestrator)
    assert (one.state, one.kept, lost(one)) == (RunState.SEALING, (GUESTS["host-b"],), [("host-a", "vda")])


def test_a_stalled_host_that_answers_while_others_are_read_is_kept(degraded: Degraded) -> None:
    for _ in range(10):
        degraded.go_on()
    answer(degraded.orchestrator, "host-a")
    assert degraded.go_on().state is RunState.TRANSFERRING
    answer(degraded.orchestrator, "host-b")
    degraded.reconciler.reconcile()
    one = run_of(degraded.orchestrator)
    assert (one.state, one.kept, one.faults) == (RunState.SEALING, tuple(GUESTS.values()), ())


def test_a_run_ends_when_the_host_that_was_waited_for_stalls_too(degraded: Degraded, clock: Clock) -> None:
    for _ in range(5):
        degraded.go_on()
    clock.now_s += STALL_S + 1
    degraded.reconciler.reconcile()
    one = run_of(degraded.orchestrator)
    assert (one.state, one.kept) == (RunState.RELEASING, ())
    assert lost(one) == [("host-a", "vda"), ("host-b", "vda")]


def test_a_silence_goes_on_while_a_look_at_its_run_does(
    orchestrator: Orchestrator, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large capture a look takes longer than the reconciler waits: each second time it is still at work."""
    reconciler = Reconciler(orchestrator)
    looked = Reconciler._looked
    for number in range(4):
        late = number % 2 == 1
        monkeypatch.setattr(Reconciler, "_looked", (lambda *_: None) if late else looked)
        reconciler.reconcile()
        clock.now_s += STALL_S / 2 + 1
    assert run_of(orchestrator).state is RunState.RELEASING


def test_while_all_hosts_live_nobody_goes_through_the_disks_to_end_transfers(
    degraded: Degraded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every two seconds, with ten thousand guests: that was most of what the orchestrator did while they were read."""
    gone_through: list[str] = []

    def counted(*args: Any) -> list[Transfer]:
        gone_through.append("disks")
        return expected_transfers(*args)

    monkeypatch.setattr(reconcile, "expected_transfers", counted)
    beat(degraded.orchestrator, "host-a", 1)
    degraded.go_on()
    assert gone_through == []
    degraded.go_on(STALL_S + 1)
    assert gone_through == ["disks"]
