"""Small rules of the contract on which both sides rely: which queue, which part, which machine, which captures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from freezeframe.contract import names
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.machine import Machine
from freezeframe.contract.order import PrepareOrder, TransferOrder
from freezeframe.contract.request import CaptureRequest, HoldChoice
from freezeframe.contract.retention import Retention, Selection, SpanParts
from freezeframe.contract.words import CaptureKind, HoldKind, Method, RunState, Step

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("step", list(Step))
def test_no_short_task_waits_behind_a_transfer_and_no_hold_behind_a_prepare(step: Step) -> None:
    queue = {Step.TRANSFER: "data", Step.PREPARE: "control"}.get(step, "hold")
    assert names.step_queue(step, "a") == f"host.a.{queue}"
    assert names.step_queue(step, "a") in names.host_queues("a")


def test_a_run_has_ended_when_it_is_done_or_has_failed() -> None:
    assert {state for state in RunState if state.ended} == {RunState.DONE, RunState.FAILED}


def test_a_second_round_s_answer_is_not_the_first_s() -> None:
    orders = [
        PrepareOrder(
            capture_id=CAPTURE,
            epoch=1,
            host_id="a",
            not_after=NOW,
            method=Method.BACKUP_PULL,
            repository_id="r",
            chunk_bytes=4096,
            guests=(),
            round=number,
        )
        for number in range(3)
    ]
    assert [order.part for order in orders] == ["", "round1", "round2"]


def transfer(**changes: Any) -> TransferOrder:
    usual = {
        "capture_id": CAPTURE,
        "epoch": 1,
        "host_id": "a",
        "not_after": NOW,
        "guest_uuid": "00000000-0000-4000-8000-00000000000a",
        "guest_name": "a",
        "target": "vda",
        "size_bytes": 1,
        "chunk_bytes": 4096,
        "kind": CaptureKind.FULL,
        "checkpoint": None,
        "parent_index": None,
    }
    return TransferOrder.model_validate(usual | changes)


def test_an_incremental_order_names_its_parent_and_a_full_one_has_none() -> None:
    assert transfer().kind is CaptureKind.FULL
    assert transfer(kind=CaptureKind.INCREMENTAL, parent_index="1" * 64).parent_index == "1" * 64
    with pytest.raises(ValidationError, match="incremental capture without a parent"):
        transfer(kind=CaptureKind.INCREMENTAL)
    with pytest.raises(ValidationError, match="full capture with a parent"):
        transfer(parent_index="1" * 64)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("m", "u"), ("m", "u"), True),
        (("m", "u"), ("m", None), True),
        (("m", None), ("m", None), True),
        (("m", "u"), ("m", "v"), False),  # a clone, which kept its machine-id
        (("m", "u"), ("n", "u"), False),
        (("m", None), ("n", None), False),
    ],
)
def test_machines_are_the_same_unless_what_is_known_of_both_differs(
    one: tuple[str, str | None], other: tuple[str, str | None], *, same: bool
) -> None:
    a, b = (Machine(machine_id=machine_id, product_uuid=uuid) for machine_id, uuid in (one, other))
    assert a.is_same(b) is same
    assert b.is_same(a) is same


def request(hold: HoldKind = HoldKind.FREEZE, *choices: HoldChoice) -> CaptureRequest:
    return CaptureRequest(capture_id=CAPTURE, guests=("a",), hold=hold, guest_holds=choices)


def test_a_guest_is_held_as_all_are_unless_it_was_chosen_otherwise() -> None:
    usual = request(HoldKind.PAUSE)
    assert usual.hold_of(None) == GuestHold(kind=HoldKind.PAUSE)
    assert usual.hold_of(HoldChoice(guest="a", kind=HoldKind.FREEZE, mountpoints=("/a",))) == GuestHold(
        kind=HoldKind.FREEZE, mountpoints=("/a",)
    )
    assert request().hold_of(HoldChoice(guest="a", mountpoints=("/a",))) == GuestHold(
        kind=HoldKind.FREEZE, mountpoints=("/a",)
    )


@pytest.mark.parametrize(
    ("hold", "own", "refused"),
    [
        (HoldKind.FREEZE, None, False),
        (HoldKind.PAUSE, HoldKind.FREEZE, False),
        (HoldKind.NONE, HoldKind.FREEZE_PAUSE, False),
        (HoldKind.PAUSE, None, True),
        (HoldKind.FREEZE, HoldKind.PAUSE, True),
        (HoldKind.FREEZE, HoldKind.NONE, True),
    ],
)
def test_mount_points_need_a_hold_that_freezes(hold: HoldKind, own: HoldKind | None, *, refused: bool) -> None:
    assert request(hold, HoldChoice(guest="a", kind=own)).guest_holds[0].kind is own  # without any
    if refused:
        with pytest.raises(ValidationError, match="mount points of a are named"):
            request(hold, HoldChoice(guest="a", kind=own, mountpoints=("/srv",)))
    else:
        request(hold, HoldChoice(guest="a", kind=own, mountpoints=("/srv",)))


def test_a_span_is_read_by_its_units() -> None:
    assert SpanParts.of("1y2m3w4d5h") == SpanParts(years=1, months=2, weeks=3, days=4, hours=5)
    assert SpanParts.of("36h") == SpanParts(years=0, months=0, weeks=0, days=0, hours=36)
    for text in ("1h1y", "7", "d", "1y "):
        with pytest.raises(ValueError, match="no length of time"):
            SpanParts.of(text)


@pytest.mark.parametrize(
    "rule",
    [
        {"keep_last": 1},
        {"keep_hourly": 1},
        {"keep_daily": 1},
        {"keep_weekly": 1},
        {"keep_monthly": "unlimited"},
        {"keep_yearly": 1},
        {"keep_within": "7d"},
        {"keep_tags": ("a",)},
    ],
)
def test_any_rule_alone_is_enough(rule: dict[str, Any]) -> None:
    assert Retention.model_validate(rule).model_dump(include=set(rule)) == rule


@pytest.mark.parametrize("rules", [{}, {"keep_last": 0, "keep_daily": 0}, {"keep_tags": ()}])
def test_without_a_rule_everything_would_be_forgotten(rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="no rule that keeps anything"):
        Retention.model_validate(rules)


@pytest.mark.parametrize(
    ("selection", "has"),
    [
        (Selection(), True),
        (Selection(guests=("web",)), True),
        (Selection(guests=("other", "web")), True),
        (Selection(guests=("other",)), False),
        (Selection(groups=("g",)), True),
        (Selection(groups=("h",)), False),
        (Selection(groups=("h", "g")), True),
        (Selection(tags=(frozenset({"t"}),)), True),
        (Selection(tags=(frozenset({"t", "u"}),)), True),
        (Selection(tags=(frozenset({"t", "x"}),)), False),
        (Selection(tags=(frozenset({"x"}), frozenset({"u"}))), True),
        (Selection(guests=("web",), groups=("h",)), False),
        (Selection(guests=("other",), groups=("g",)), False),
        (Selection(groups=("g",), tags=(frozenset({"x"}),)), False),
        (Selection(guests=("web",), groups=("g",), tags=(frozenset({"t"}),)), True),
    ],
)
def test_a_capture_is_selected_by_any_of_its_guests_its_group_and_all_tags_of_a_set(
    selection: Selection, *, has: bool
) -> None:
    """What is selected too much is forgotten too much."""
    assert selection.has(("web", "db"), "g", ("t", "u")) is has


def test_every_guest_is_any_guest() -> None:
    assert Selection(guests=("other",)).has(None, None, ())
    assert not Selection(guests=("other",), groups=("g",)).has(None, None, ())
