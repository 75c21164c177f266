"""What the orchestrator counts, for Prometheus. One process sees every run end, so one process counts."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from orchestrator.run import Run

CAPTURES = Counter("freezeframe_captures", "Captures that have ended", ["state"])
BYTES_READ = Counter("freezeframe_bytes_read", "Guest data read by captures that have ended")
BYTES_STORED = Counter("freezeframe_bytes_stored", "What the repository grew by")
#: From the floor of bare libvirt calls (60 ms) to what Windows VSS bears (10 s).
HOLD_SECONDS = Histogram(
    "freezeframe_hold_seconds",
    "Hold windows of guests in sealed captures",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)


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
