"""Manifests of captures that a bench has made up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ulid import ULID

from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy
from freezeframe.repository import DiskCapture, GuestCapture, Instant, Manifest


def made_up(day: int, indexes: Sequence[str], size_bytes: int, chunk_bytes: int) -> Manifest:
    """Return the manifest of a capture of that day: guests with a disk each, which have these indexes."""
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return Manifest(
        capture_id=str(ULID.from_datetime(at)),
        created_at=at,
        instant=Instant(at=at),
        hold=HoldKind.NONE,
        policy=Policy.ALL,
        consistency=Consistency.CRASH,
        kind=CaptureKind.FULL,
        guests=tuple(_guest(number, index, size_bytes, chunk_bytes) for number, index in enumerate(indexes)),
        proof=None,
    )


def _guest(number: int, index: str, size_bytes: int, chunk_bytes: int) -> GuestCapture:
    disk = DiskCapture(
        target="vda",
        source="/images/disk.qcow2",
        source_format="qcow2",
        size_bytes=size_bytes,
        chunk_bytes=chunk_bytes,
        kind=CaptureKind.FULL,
        index=index,
        bytes_read=0,
        bytes_stored=0,
        chunks_new=0,
        chunks_known=0,
    )
    return GuestCapture(
        guest_uuid=f"00000000-0000-4000-8000-{number:012x}",
        name=f"bench-{number}",
        host_id="bench",
        domain_xml="<domain/>",
        consistency=Consistency.CRASH,
        hold_ms=None,
        disks=(disk,),
    )
