"""A host does no more than it does for anybody, whatever an order says."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from freezeframe.contract import names
from freezeframe.contract.epoch import MOST_SEEN
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import GuestToHold, HoldOrder, Order, PrepareOrder, ReleaseOrder, TransferOrder
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.result import HoldResult
from freezeframe.contract.words import HoldKind, Method, Step
from tests.unit.orders import transfer_order
from workers.host import Host
from workers.steps.frame import run_step
from workers.steps.order_bounds import LARGEST_DISK_BYTES, LEAST_LIMIT, MOST_GUESTS, MOST_HOSTS, check_bounds
from workers.steps.order_failure import OrderBoundsError
from workers.steps.table import HOLD, TRANSFER

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
GUEST = "00000000-0000-4000-8000-00000000000a"
DAY_US = 86_400 * 10**6


def later() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def hold_order(**changes: Any) -> HoldOrder:
    usual = HoldOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=later(),
        repository_id="r",
        members=2,
        guests=(GuestToHold(guest_uuid=GUEST, hold=GuestHold(kind=HoldKind.FREEZE)),),
        muster_timeout_s=60,
        hold_timeout_s=10,
        all_or_nothing=True,
    )
    return usual.model_copy(update=changes)


def prepare_order(**changes: Any) -> PrepareOrder:
    usual = PrepareOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=later(),
        method=Method.BACKUP_PULL,
        repository_id="r",
        chunk_bytes=4096,
        guests=(GuestPlan(guest_uuid=GUEST, name="web", hold=GuestHold(kind=HoldKind.FREEZE)),),
    )
    return usual.model_copy(update=changes)


TO_HOLD = GuestToHold(guest_uuid=GUEST, hold=GuestHold(kind=HoldKind.FREEZE))
PLANNED = GuestPlan(guest_uuid=GUEST, name="web", hold=GuestHold(kind=HoldKind.FREEZE))

AT_THE_BOUND: list[Order] = [
    hold_order(hold_timeout_s=600, muster_timeout_s=3600),
    hold_order(members=MOST_HOSTS),
    hold_order(guests=()),  # a host may meet the others without a guest
    hold_order(guests=(TO_HOLD,) * MOST_GUESTS),
    prepare_order(guests=(PLANNED,) * MOST_GUESTS),
    prepare_order(chunk_bytes=16 << 20),
    transfer_order(size_bytes=LARGEST_DISK_BYTES),
    transfer_order(size_bytes=0),
    transfer_order(limit_bytes_s=LEAST_LIMIT),
]
BEYOND: list[tuple[Order, str]] = [
    (hold_order(hold_timeout_s=600.1), "hold_timeout_s"),
    (hold_order(hold_timeout_s=0), "hold_timeout_s"),
    (hold_order(hold_timeout_s=-1), "hold_timeout_s"),
    (hold_order(muster_timeout_s=1e9), "muster_timeout_s"),
    (hold_order(muster_timeout_s=0), "muster_timeout_s"),
    (hold_order(members=MOST_HOSTS + 1), "members"),
    (hold_order(guests=(TO_HOLD,) * (MOST_GUESTS + 1)), "guests"),
    (prepare_order(guests=(PLANNED,) * (MOST_GUESTS + 1)), "guests"),
    (prepare_order(chunk_bytes=0), "chunk_bytes"),
    (prepare_order(chunk_bytes=4097), "chunk_bytes"),
    (transfer_order(chunk_bytes=32 << 20), "chunk_bytes"),
    (transfer_order(chunk_bytes=-4096), "chunk_bytes"),
    (transfer_order(size_bytes=-5), "size_bytes"),
    (transfer_order(size_bytes=LARGEST_DISK_BYTES + 1), "size_bytes"),
    (transfer_order(limit_bytes_s=LEAST_LIMIT - 1), "limit_bytes_s"),
    (transfer_order(limit_bytes_s=0), "limit_bytes_s"),
]


@pytest.mark.parametrize("order", AT_THE_BOUND, ids=lambda order: type(order).__name__)
def test_at_its_bounds_an_order_is_done(host: Host, order: Order) -> None:
    check_bounds(host, order)


@pytest.mark.parametrize(
    ("order", "field"), BEYOND, ids=lambda one: one if isinstance(one, str) else type(one).__name__
)
def test_beyond_them_it_is_refused_by_the_field(host: Host, order: Order, field: str) -> None:
    with pytest.raises(OrderBoundsError, match=rf"The order for host host-a has {field} ") as caught:
        check_bounds(host, order)
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_the_owner_of_a_host_may_set_tighter_ones(host: Host) -> None:
    tight = host.settings.model_copy(update={"longest_hold_s": 5.0, "longest_muster_s": 30.0})
    object.__setattr__(host, "settings", tight)
    check_bounds(host, hold_order(hold_timeout_s=5, muster_timeout_s=30))
    with pytest.raises(OrderBoundsError, match=r"hold_timeout_s 6, .* 5 at most") as caught:
        check_bounds(host, hold_order(hold_timeout_s=6, muster_timeout_s=30))
    assert "FREEZEFRAME_LONGEST_HOLD_S on host host-a" in caught.value.hint
    with pytest.raises(OrderBoundsError, match="muster_timeout_s 31"):
        check_bounds(host, hold_order(hold_timeout_s=5, muster_timeout_s=31))


def now_us() -> int:
    return round(time.time() * 1e6)


@pytest.mark.parametrize("make", [hold_order, prepare_order, transfer_order])
def test_an_epoch_that_is_far_ahead_bricks_no_guest(host: Host, make: Any) -> None:
    """A guest that had seen it would refuse every later capture, for ever."""
    with pytest.raises(OrderBoundsError, match="has epoch"):
        check_bounds(host, make(epoch=now_us() + 2 * DAY_US))
    with pytest.raises(OrderBoundsError, match="has epoch"):
        check_bounds(host, make(epoch=2**53 - 1))
    check_bounds(host, make(epoch=now_us() + DAY_US // 2))


def test_an_epoch_may_go_on_from_the_highest_that_was_seen(host: Host) -> None:
    """Redis's clock was ahead by years once, and the epochs have gone on from there."""
    seen = MOST_SEEN - 2 * DAY_US
    host.claims.fence(GUEST, seen)
    check_bounds(host, hold_order(epoch=seen + 1))
    check_bounds(host, hold_order(epoch=seen + DAY_US))
    with pytest.raises(OrderBoundsError, match="has epoch"):
        check_bounds(host, hold_order(epoch=seen + DAY_US + 1))


def test_a_release_is_done_whatever_its_epoch(host: Host) -> None:
    check_bounds(host, ReleaseOrder(capture_id=CAPTURE, epoch=2**53 - 1, host_id="host-a", not_after=later()))


def test_nothing_is_done_of_an_order_beyond_its_bounds_and_the_answer_says_why(host: Host) -> None:
    order = hold_order(hold_timeout_s=1e6, epoch=7)
    assert run_step(host, HOLD, order.model_dump(mode="json"))["ok"] is False
    text = host.redis.hget(names.results_key(CAPTURE), names.result_field(Step.HOLD, "host-a"))
    result = HoldResult.model_validate_json(str(text))
    assert result.fault is not None
    assert (result.fault.code, result.proof) == ("order-bounds", None)
    assert host.claims.highest_epoch() == 0


def test_so_is_a_transfer(host: Host) -> None:
    order: TransferOrder = transfer_order(size_bytes=-5)
    assert run_step(host, TRANSFER, order.model_dump(mode="json"))["ok"] is False
