"""Receipts: how a capture ended, for whoever asked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from freezeframe.contract.request import HeldGuest, Receipt, SkippedGuestDisk
from freezeframe.contract.result import TransferResult
from freezeframe.contract.words import Consistency
from freezeframe.repository import Manifest
from orchestrator.run import Run


def receipt_of(
    run: Run, ended_at: datetime, manifest: Manifest | None, transferred: Sequence[TransferResult]
) -> Receipt:
    """The receipt of a run that has ended. Pure. `manifest` is None if nothing was sealed."""
    consistency: Consistency | None = manifest.consistency if manifest else None
    guests = manifest.guests if manifest else ()
    return Receipt(
        capture_id=run.capture_id,
        state=run.state,
        asked_at=run.asked_at,
        ended_at=ended_at,
        consistency=consistency,
        guests=tuple(
            HeldGuest(guest=guest.name, host=guest.host_id, hold_ms=guest.hold_ms, consistency=guest.consistency)
            for guest in guests
        ),
        skipped_disks=tuple(
            SkippedGuestDisk(guest=guest.name, target=disk.target, reason=disk.reason)
            for guest in guests
            for disk in guest.skipped
        ),
        left_out=run.plan.left_out if run.plan else (),
        bytes_read=sum(result.bytes_read for result in transferred),
        bytes_stored=sum(result.bytes_stored for result in transferred),
        faults=run.faults,
        # of the guests first; the run has some of them too, for a capture that was not sealed
        warnings=tuple(dict.fromkeys((*(text for guest in guests for text in guest.warnings), *run.warnings))),
    )
