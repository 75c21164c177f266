"""A run's transfers are judged by what its hosts said since they had its orders, and not by the transfers of other runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ulid import ULID

from freezeframe.contract.words import RunState
from orchestrator.look import Orchestrator
from orchestrator.reconcile import LEFT_S, Reconciler
from orchestrator.run import Run
from tests.unit.orchestrator import test_stall
from tests.unit.orchestrator.test_stall import CAPTURE, GUESTS, STALL_S, Clock, answer, beat, change, transferring

clock, orchestrator = test_stall.clock, test_stall.orchestrator

NEXT = str(ULID())


def run_of(orchestrator: Orchestrator, capture_id: str) -> Run:
    loaded = orchestrator.runs.load(capture_id)
    assert loaded is not None
    return loaded[0]


def test_a_run_begins_on_a_host_where_another_s_transfers_have_ended_long_ago(
    orchestrator: Orchestrator, clock: Clock
) -> None:
    """The other one reads on for hours on its other host."""
    reconciler = Reconciler(orchestrator)
    answer(orchestrator, "host-a")
    for done_bytes in range(60):
        beat(orchestrator, "host-b", done_bytes)
        reconciler.reconcile()
        clock.now_s += STALL_S
    transferring(orchestrator, NEXT, beats=False)
    reconciler.reconcile()
    assert run_of(orchestrator, NEXT).state is RunState.TRANSFERRING
    clock.now_s += STALL_S
    beat(orchestrator, "host-b", 60)
    reconciler.reconcile()
    assert run_of(orchestrator, NEXT).state is RunState.TRANSFERRING
    clock.now_s += 1
    reconciler.reconcile()
    assert run_of(orchestrator, NEXT).state is RunState.RELEASING  # by its own silence
    assert run_of(orchestrator, CAPTURE).state is RunState.TRANSFERRING


def test_a_host_is_not_silent_before_the_last_order_of_its_run_is_on_its_queue(
    orchestrator: Orchestrator, clock: Clock
) -> None:
    """Ten thousand guests have twenty thousand orders, which take minutes to send."""
    now = datetime.now(UTC)
    change(orchestrator, dispatched=False, entered_at=now)
    reconciler = Reconciler(orchestrator)
    for done_bytes in range(5):  # host-b has its orders, and host-a none yet
        beat(orchestrator, "host-b", done_bytes)
        reconciler.reconcile()
        clock.now_s += STALL_S
    change(orchestrator, dispatched=True)
    reconciler.reconcile()
    assert run_of(orchestrator, CAPTURE).state is RunState.TRANSFERRING
    clock.now_s += STALL_S + 1
    beat(orchestrator, "host-b", 6)
    reconciler.reconcile()
    assert [fault.host for fault in run_of(orchestrator, CAPTURE).faults] == ["host-a"]


def test_a_transfer_is_waited_for_behind_those_of_a_run_that_was_given_up(
    orchestrator: Orchestrator, clock: Clock
) -> None:
    """They wait for the repository, for minutes more, and have the places of their host."""
    transferring(orchestrator, NEXT, beats=False)
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    change(orchestrator, state=RunState.RELEASING, kept=(), due_at=datetime.now(UTC) + timedelta(hours=1))
    for waits in range(1, 10):
        for host_id in GUESTS:
            beat(orchestrator, host_id, 0, CAPTURE, waits)
        reconciler.reconcile()
        clock.now_s += STALL_S
    assert run_of(orchestrator, NEXT).state is RunState.TRANSFERRING


def test_the_end_of_another_run_is_no_sign_of_life(orchestrator: Orchestrator, clock: Clock) -> None:
    transferring(orchestrator, NEXT)
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    clock.now_s += STALL_S - 1
    change(orchestrator, state=RunState.RELEASING, kept=(), due_at=datetime.now(UTC) + timedelta(hours=1))
    beat(orchestrator, "host-b", 1, NEXT)
    reconciler.reconcile()
    clock.now_s += 2
    reconciler.reconcile()
    assert [fault.host for fault in run_of(orchestrator, NEXT).faults] == ["host-a"]


def test_a_run_that_has_left_its_transfers_is_asked_for_signs_of_life_no_longer_than_it_gives_any(
    orchestrator: Orchestrator, clock: Clock
) -> None:
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    change(orchestrator, state=RunState.RELEASING, kept=(), due_at=datetime.now(UTC) + timedelta(hours=1))
    reconciler.reconcile()
    clock.now_s += LEFT_S
    reconciler.reconcile()
    assert reconciler._left == [CAPTURE]
    clock.now_s += 1
    reconciler.reconcile()
    assert reconciler._left == []
