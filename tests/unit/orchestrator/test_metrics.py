"""What is counted of a run that has ended."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client import REGISTRY

from freezeframe.contract.request import CaptureRequest, HeldGuest, Receipt
from freezeframe.contract.result import TransferResult
from freezeframe.contract.words import Consistency, RunState
from orchestrator import metrics
from orchestrator.run import Run

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
GUEST = "00000000-0000-4000-8000-00000000000a"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SAMPLES: tuple[tuple[str, dict[str, str]], ...] = (
    ("freezeframe_captures_total", {"state": "done"}),
    ("freezeframe_captures_total", {"state": "failed"}),
    ("freezeframe_bytes_read_total", {}),
    ("freezeframe_bytes_stored_total", {}),
    ("freezeframe_hold_seconds_count", {}),
    ("freezeframe_hold_seconds_sum", {}),
    ("freezeframe_audited_chunks_total", {}),
    ("freezeframe_audit_failures_total", {}),
)


def counted() -> list[float]:
    return [REGISTRY.get_sample_value(name, labels) or 0.0 for name, labels in SAMPLES]


def since(before: list[float]) -> list[float]:
    return [round(now - then, 6) for now, then in zip(counted(), before, strict=True)]


def run(state: RunState, receipt: Receipt | None) -> Run:
    request = CaptureRequest(capture_id=CAPTURE, every_guest=True)
    return Run(
        capture_id=CAPTURE,
        request=request,
        asked_at=NOW,
        state=state,
        entered_at=NOW,
        due_at=NOW,
        receipt=receipt,
    )


def held(hold_ms: float | None) -> HeldGuest:
    return HeldGuest(guest="a", host="host-a", hold_ms=hold_ms, consistency=Consistency.GUEST)


def test_a_capture_is_counted_with_what_it_read_and_how_long_its_guests_were_held() -> None:
    receipt = Receipt(
        capture_id=CAPTURE,
        state=RunState.DONE,
        asked_at=NOW,
        guests=(held(250.0), held(None), held(1250.0)),  # the second was captured without a hold
        bytes_read=4096,
        bytes_stored=512,
    )
    before = counted()
    metrics.ended(run(RunState.DONE, receipt))
    assert since(before) == [1, 0, 4096, 512, 2, 1.5, 0, 0]


def test_a_run_without_a_receipt_is_counted_too() -> None:
    before = counted()
    metrics.ended(run(RunState.FAILED, None))
    assert since(before) == [0, 1, 0, 0, 0, 0, 0, 0]


def test_audits_are_counted_by_chunk_and_failures_by_disk() -> None:
    results = [
        TransferResult(
            capture_id=CAPTURE,
            host_id="host-a",
            guest_uuid=GUEST,
            target=target,
            index="0" * 64,
            audited_chunks=chunks,
            inherited_differs=differs,
        )
        for target, chunks, differs in (("vda", 3, False), ("vdb", 4, True))
    ]
    before = counted()
    metrics.audited(results)
    assert since(before) == [0, 0, 0, 0, 0, 0, 7, 1]
