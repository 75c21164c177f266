"""One run of one guest, and the answers of its host, for tests that look at it. The fixtures are in `conftest`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import redis
from celery import Celery
from ulid import ULID

from freezeframe.contract import names
from freezeframe.contract.event import EndEvent, Event, StateEvent
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import Order
from freezeframe.contract.proof import GuestProof, HostProof
from freezeframe.contract.result import (
    HoldResult,
    PreparedDisk,
    PreparedGuest,
    PrepareResult,
    ReleaseResult,
    Result,
    TransferResult,
)
from freezeframe.contract.words import CaptureKind, HoldKind, Step
from orchestrator import admission
from orchestrator.board import Boards
from orchestrator.look import Orchestrator
from orchestrator.run import Run
from tests.unit.orchestrator.telling import tell
from tests.unit.repository.samples import CHUNK, GUEST, disk_of, store_disk

CAPTURE = str(ULID())
OTHER = str(ULID())
VALID_S = 4000.0
DISK = disk_of(b"a", b"", b"b")


class Sent:
    """What was sent instead of a chord."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.steps: list[Step] = []

    def __call__(self, app: Celery, step: Step, orders: Sequence[Order]) -> None:
        assert isinstance(app, Celery)
        assert orders
        self.steps.append(step)
        self.orders = list(orders)


def without_places(orchestrator: Orchestrator, capture_id: str, monkeypatch: pytest.MonkeyPatch) -> Orchestrator:
    """Have a run keep no guest from others."""
    admission.leave(orchestrator.redis, orchestrator.boards, capture_id)
    follow = admission.follow

    def followed(client: redis.Redis, boards: Boards, run: Run, *rest: Any) -> None:
        if run.capture_id != capture_id:
            follow(client, boards, run, *rest)

    monkeypatch.setattr(admission, "follow", followed)
    return orchestrator


def answer(orchestrator: Orchestrator, step: Step, result: Result, part: str = "") -> Run:
    """The run after the look that follows an answer."""
    field = names.result_field(step, "host-a", part)
    tell(orchestrator.redis, CAPTURE, field, result)
    run = orchestrator.look(CAPTURE)
    assert run is not None
    return run


def prepare(orchestrator: Orchestrator, *others: str) -> Run:
    disk = PreparedDisk(
        target="vda", source="/d", source_format="raw", size_bytes=len(DISK), kind=CaptureKind.FULL, checkpoint="cp"
    )
    guests = tuple(
        PreparedGuest(guest_uuid=one, name="web", domain_xml="<domain/>", disks=(disk,)) for one in (GUEST, *others)
    )
    return answer(orchestrator, Step.PREPARE, PrepareResult(capture_id=CAPTURE, host_id="host-a", guests=guests))


def hold(orchestrator: Orchestrator) -> Run:
    now_us = round(datetime.now(UTC).timestamp() * 1e6)
    guest = GuestProof(
        guest_uuid=GUEST,
        hold=GuestHold(kind=HoldKind.FREEZE),
        frozen_filesystems=1,
        hold_start_ns=1,
        held_ns=2,
        begun_ns=3,
        thaw_start_ns=6,
        thawed_ns=7,
    )
    result = HoldResult(
        capture_id=CAPTURE,
        host_id="host-a",
        proof=HostProof(host_id="host-a", boot_id="b", report_ns=4, woken_ns=5, guests=(guest,)),
        arrived_us=now_us,
        release_us=now_us,
        release_arrivals=1,
    )
    return answer(orchestrator, Step.HOLD, result)


def transfer(orchestrator: Orchestrator) -> Run:
    index = store_disk(orchestrator.repository, DISK, checkpoint="cp")
    result = TransferResult(
        capture_id=CAPTURE, host_id="host-a", guest_uuid=GUEST, target="vda", index=index, bytes_read=2 * CHUNK
    )
    return answer(orchestrator, Step.TRANSFER, result, f"{GUEST}.vda")


def release(orchestrator: Orchestrator) -> Run:
    return answer(orchestrator, Step.RELEASE, ReleaseResult(capture_id=CAPTURE, host_id="host-a"))


def told(orchestrator: Orchestrator) -> list[str]:
    """The states that callers were told of, and how it ended."""
    return told_of(orchestrator, CAPTURE)


def told_of(orchestrator: Orchestrator, capture_id: str) -> list[str]:
    """The same of another run."""
    entries = cast("list[tuple[str, dict[str, str]]]", orchestrator.redis.xrange(names.events_key(capture_id)))
    events = [Event.model_validate_json(entry["event"]).root for _, entry in entries]
    return [
        str(one.state) if isinstance(one, StateEvent) else f"end: {one.receipt.state}"
        for one in events
        if isinstance(one, StateEvent | EndEvent)
    ]
