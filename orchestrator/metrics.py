"""What the orchestrator counts, for Prometheus. One process sees every run end, so one process counts."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter, Histogram

from freezeframe.contract.result import TransferResult
from orchestrator.run import Run

CAPTURES = Counter("freezeframe_captures", "Captures that have ended", ["state"])
BYTES_READ = Counter("freezeframe_bytes_read", "Guest data read by captures that have ended")
BYTES_STORED = Counter("freezeframe_bytes_stored", "What the repository grew by")
AUDITED_CHUNKS = Counter("freezeframe_audited_chunks", "Inherited chunks that were read again and compared")
AUDIT_FAILURES = Counter("freezeframe_audit_failures", "Disks that were not what their older captures have of them")
RUN_TROUBLES = Counter("freezeframe_run_troubles", "Looks at a run that failed: the log names the run, and why")
UNREADABLE_MANIFESTS = Counter(
    "freezeframe_unreadable_manifests", "Manifests that a plan passed over as they cannot be read, once for each plan"
)
#: From the floor of bare libvirt calls (60 ms) to what Windows VSS bears (10 s).
HOLD_SECONDS = Histogram(
    "freezeframe_hold_seconds",
    "Hold windows of guests in sealed captures",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)


def audited(results: Sequence[TransferResult]) -> None:
    """Count the audits of a run that has ended."""
    AUDITED_CHUNKS.inc(sum(result.audited_chunks for result in results))
    AUDIT_FAILURES.inc(sum(result.inherited_differs for result in results))


def ended(run: Run) -> None:
    """Count a run that has ended."""
    CAPTURES.labels(run.state).inc()
    if run.receipt is None:
        return
    BYTES_READ.inc(run.receipt.bytes_read)
    BYTES_STORED.inc(run.receipt.bytes_stored)
    for guest in run.receipt.guests:
        if guest.hold_ms is not None:
            HOLD_SECONDS.observe(guest.hold_ms / 1000)
