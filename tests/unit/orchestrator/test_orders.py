"""Each state's orders: to whom, with which guests, and until when they may begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import HoldOrder, PrepareOrder, ReleaseOrder, TransferOrder
from freezeframe.contract.plan import GuestPlan, HostPlan, Plan
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult
from freezeframe.contract.words import CaptureKind, HoldKind, Method, Policy, RunState
from orchestrator.path import orders_of
from orchestrator.run import Run
from orchestrator.search import moved_plan

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DUE = NOW + timedelta(hours=24)
UNTIL = NOW + timedelta(days=7)
ALPHA, BETA, GAMMA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "abc")
FREEZE, PAUSE = GuestHold(kind=HoldKind.FREEZE), GuestHold(kind=HoldKind.PAUSE)
MUSTER_S, HOLD_S = 7, 3
PLAN = Plan(
    capture_id=CAPTURE,
    epoch=5,
    method=Method.BACKUP_PULL,
    chunk_bytes=4096,
    repository_id="r",
    hosts=(
        HostPlan(
            host_id="host-a",
            guests=(
                GuestPlan(guest_uuid=ALPHA, name="alpha", hold=FREEZE),
                GuestPlan(guest_uuid=GAMMA, name="gamma", hold=FREEZE),
            ),
        ),
        HostPlan(host_id="host-b", guests=(GuestPlan(guest_uuid=BETA, name="beta", hold=PAUSE),)),
    ),
)


def run(state: RunState, policy: Policy = Policy.ALL, **changes: Any) -> Run:
    request = CaptureRequest(
        capture_id=CAPTURE, every_guest=True, policy=policy, muster_timeout_s=MUSTER_S, hold_timeout_s=HOLD_S
    )
    blank = Run(
        capture_id=CAPTURE,
        request=request,
        asked_at=NOW,
        state=state,
        plan=PLAN,
        entered_at=NOW,
        due_at=DUE,
        members=("host-a", "host-b"),
        kept=(ALPHA, BETA),  # gamma was refused
    )
    return blank.model_copy(update=changes)


def prepared(host_id: str, **expected_ms: float | None) -> PrepareResult:
    uuids = {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA}
    disk = PreparedDisk(target="vda", source="/d", source_format="raw", size_bytes=1, kind=CaptureKind.FULL)
    guests = tuple(
        PreparedGuest(guest_uuid=uuids[name], name=name, disks=(disk,), expected_hold_ms=expected)
        for name, expected in expected_ms.items()
    )
    return PrepareResult(capture_id=CAPTURE, host_id=host_id, guests=guests)


def hold_orders(one: Run, *results: PrepareResult) -> list[HoldOrder]:
    return [order for order in orders_of(one, results, UNTIL) if isinstance(order, HoldOrder)]


def test_each_host_holds_its_own_guests_that_are_kept() -> None:
    orders = hold_orders(run(RunState.HOLDING))
    assert {order.host_id: [(one.guest_uuid, one.hold) for one in order.guests] for order in orders} == {
        "host-a": [(ALPHA, FREEZE)],
        "host-b": [(BETA, PAUSE)],
    }
    assert {order.members for order in orders} == {2}
    assert {(order.muster_timeout_s, order.hold_timeout_s, order.epoch) for order in orders} == {(MUSTER_S, HOLD_S, 5)}


def test_nobody_begins_to_hold_when_the_muster_is_over() -> None:
    orders = hold_orders(run(RunState.HOLDING))
    assert {order.not_after for order in orders} == {NOW + timedelta(seconds=MUSTER_S)}


@pytest.mark.parametrize(("policy", "together"), [(Policy.ALL, True), (Policy.DEGRADE, False)])
def test_a_host_lets_all_go_for_one_only_if_all_was_asked_for(policy: Policy, *, together: bool) -> None:
    assert {order.all_or_nothing for order in hold_orders(run(RunState.HOLDING, policy))} == {together}


def test_all_hosts_wait_for_the_slowest_guest_that_is_held() -> None:
    """Gamma is slower, and is not held; of beta nothing is known."""
    results = [prepared("host-a", alpha=120.0, gamma=900.0), prepared("host-b", beta=None)]
    assert {order.slowest_hold_ms for order in hold_orders(run(RunState.HOLDING), *results)} == {120.0}
    results[1] = prepared("host-b", beta=340.0)
    assert {order.slowest_hold_ms for order in hold_orders(run(RunState.HOLDING), *results)} == {340.0}
    assert {order.slowest_hold_ms for order in hold_orders(run(RunState.HOLDING))} == {None}


def test_only_disks_of_guests_that_are_kept_are_transferred() -> None:
    results = [prepared("host-a", alpha=None, gamma=None), prepared("host-b", beta=None)]
    orders = orders_of(run(RunState.TRANSFERRING), results, UNTIL)
    assert [(order.host_id, order.guest_uuid) for order in orders if isinstance(order, TransferOrder)] == [
        ("host-a", ALPHA),
        ("host-b", BETA),
    ]
    assert {order.not_after for order in orders} == {DUE}


@pytest.mark.parametrize(("sealed", "guests"), [(True, (ALPHA, BETA)), (False, ())])
def test_a_release_keeps_the_checkpoints_of_sealed_guests_alone(sealed: bool, guests: tuple[str, ...]) -> None:  # noqa: FBT001
    """A checkpoint that is kept for what was not sealed would be a parent that is not there."""
    orders = orders_of(run(RunState.RELEASING, sealed=sealed), [], UNTIL)
    released = [order for order in orders if isinstance(order, ReleaseOrder)]
    own = [tuple(guest for guest in guests if guest == here) for here in (ALPHA, BETA)]  # each host is told of its own
    assert [(order.host_id, order.sealed_guests) for order in released] == [("host-a", own[0]), ("host-b", own[1])]
    assert {order.not_after for order in released} == {UNTIL}


def test_a_host_is_told_of_each_sealed_guest_that_it_was_asked_to_prepare() -> None:
    """Also of one that has moved since: the host has a journal of it."""
    plan, moved = moved_plan(PLAN, {ALPHA: "host-b"})
    sealing = run(RunState.RELEASING, sealed=True, plan=plan, moved=moved, round=1)
    results = [prepared("host-a", alpha=None, gamma=None), prepared("host-b", beta=None)]
    told = [
        (order.host_id, order.sealed_guests)
        for order in orders_of(sealing, results, UNTIL)
        if isinstance(order, ReleaseOrder)
    ]
    assert told == [("host-a", (ALPHA,)), ("host-b", (ALPHA, BETA))]


@pytest.mark.parametrize("state", list(RunState))
def test_a_run_without_a_plan_orders_nothing(state: RunState) -> None:
    assert orders_of(run(state, plan=None), [], UNTIL) == []
    assert run(state, plan=None).to_prepare == ()


@pytest.mark.parametrize("state", [RunState.SEALING, RunState.DONE, RunState.FAILED])
def test_nobody_has_anything_to_do_for_a_run_that_is_sealed_or_over(state: RunState) -> None:
    assert orders_of(run(state), [], UNTIL) == []


def test_a_guest_that_moved_is_planned_on_its_new_host_alone() -> None:
    """It would be held and transferred on both."""
    plan, moved = moved_plan(PLAN, {ALPHA: "host-b", GAMMA: "host-c"})
    assert {host.host_id: [guest.guest_uuid for guest in host.guests] for host in plan.hosts} == {
        "host-a": [],
        "host-b": [BETA, ALPHA],
        "host-c": [GAMMA],
    }
    assert {host.host_id: [guest.guest_uuid for guest in host.guests] for host in moved} == {
        "host-b": [ALPHA],
        "host-c": [GAMMA],
    }
    again = run(RunState.PREPARING, plan=plan, moved=moved, round=1)
    orders = orders_of(again, [], UNTIL)
    assert [(order.host_id, order.round) for order in orders if isinstance(order, PrepareOrder)] == [
        ("host-b", 1),
        ("host-c", 1),
    ]
