from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import TransferOrder
from freezeframe.contract.plan import GuestPlan, HostPlan, Plan
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult
from freezeframe.contract.words import CaptureKind, HoldKind, Method, RunState
from orchestrator.path import orders_of
from orchestrator.run import Run

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
GUEST = "00000000-0000-4000-8000-00000000000a"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("limit_bytes_s", [None, 50 << 20])
def test_a_limit_that_was_asked_for_reaches_every_transfer(limit_bytes_s: int | None) -> None:
    guests = (GuestPlan(guest_uuid=GUEST, name="alpha", hold=GuestHold(kind=HoldKind.FREEZE)),)
    run = Run(
        capture_id=CAPTURE,
        request=CaptureRequest(capture_id=CAPTURE, guests=("alpha",), limit_bytes_s=limit_bytes_s),
        asked_at=NOW,
        state=RunState.TRANSFERRING,
        plan=Plan(
            capture_id=CAPTURE,
            epoch=1,
            method=Method.BACKUP_PULL,
            chunk_bytes=1 << 20,
            repository_id="r",
            hosts=(HostPlan(host_id="host-a", guests=guests),),
        ),
        entered_at=NOW,
        due_at=NOW + timedelta(seconds=60),
        kept=(GUEST,),
    )
    disks = tuple(
        PreparedDisk(target=target, source="/disk", source_format="qcow2", size_bytes=1 << 30, kind=CaptureKind.FULL)
        for target in ("vda", "vdb")
    )
    prepared = PrepareResult(
        capture_id=CAPTURE, host_id="host-a", guests=(PreparedGuest(guest_uuid=GUEST, name="alpha", disks=disks),)
    )
    orders = orders_of(run, [prepared], NOW)
    assert [order.limit_bytes_s for order in orders if isinstance(order, TransferOrder)] == [limit_bytes_s] * 2
