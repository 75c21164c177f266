"""Captures to look at: real indexes in a real repository, and proofs that do or do not show one instant."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.proof import Arrival, GuestProof, HostProof, Proof
from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy
from freezeframe.repository import DiskCapture, GuestCapture, Instant, Manifest, Repository, SkippedDisk

GUEST = "6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e"
HOST = "host-a.example"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CHUNK = 4096


def capture_id(number: int) -> str:
    """Sorts as `number` does."""
    return f"01HZ{number:022d}"


def proof_of(*, released: bool = True) -> Proof:
    """Of one host and one guest; without a release it shows less than one instant."""
    guest = GuestProof(
        guest_uuid=GUEST,
        hold=GuestHold(kind=HoldKind.FREEZE),
        frozen_filesystems=1,
        hold_start_ns=0,
        held_ns=10,
        begun_ns=20,
        thaw_start_ns=50,
        thawed_ns=52_500_000,
    )
    host = HostProof(host_id=HOST, boot_id="boot", report_ns=30, woken_ns=40, guests=(guest,))
    arrival = Arrival(host_id=HOST, redis_us=1000)
    return Proof(epoch=1, members=(HOST,), arrivals=(arrival,), release_us=1500 if released else None, hosts=(host,))


def manifest_of(
    repository: Repository,
    wanted_id: str,
    *,
    name: str = "db1",
    group: str | None = "shop",
    tags: tuple[str, ...] = ("nightly",),
    skipped: tuple[SkippedDisk, ...] = (),
    proof: Proof | None = None,
    consistency: Consistency = Consistency.GROUP,
) -> Manifest:
    """A manifest of one disk of two chunks, whose index is in the repository; not sealed yet."""
    with repository.disk_writer(2 * CHUNK, CHUNK) as writer:
        for slot in range(2):
            writer.write_chunk(slot, os.urandom(CHUNK))
        index = writer.finish().digest
    disk = DiskCapture(
        target="vda",
        source="/images/db1.qcow2",
        source_format="qcow2",
        size_bytes=2 * CHUNK,
        chunk_bytes=CHUNK,
        kind=CaptureKind.FULL,
        full_reason="no checkpoint yet",
        index=index,
        bytes_read=2 * CHUNK,
        bytes_stored=2 * CHUNK,
        chunks_new=2,
        chunks_known=0,
    )
    guest = GuestCapture(
        guest_uuid=GUEST,
        name=name,
        host_id=HOST,
        domain_xml="<domain/>",
        consistency=consistency,
        hold_ms=52.5,
        disks=(disk,),
        skipped=skipped,
    )
    return Manifest(
        capture_id=wanted_id,
        created_at=NOW,
        group=group,
        tags=tags,
        instant=Instant(at=NOW),
        hold=HoldKind.FREEZE,
        policy=Policy.ALL,
        consistency=consistency,
        kind=CaptureKind.FULL,
        guests=(guest,),
        proof=proof or proof_of(),
    )
