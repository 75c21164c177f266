"""Captures to restore."""

from __future__ import annotations

import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy
from freezeframe.repository import DiskCapture, GuestCapture, Instant, Manifest, Repository
from freezeframe.repository.layout import locate
from workers.restore.disk import DiskPart
from workers.restore.image import ImageFormat

CHUNK = 256 << 10
CAPTURE = "01HZ0000000000000000000001"
ALPHA = "6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e"
BETA = "11111111-2222-3333-4444-555555555555"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)  # noqa: S311  the same noise each time


def disk_bytes(size: int, *data: tuple[int, int]) -> bytes:
    """A disk of `size` bytes, zero but for noise at each (offset, length)."""
    disk = bytearray(size)
    for offset, length in data:
        disk[offset : offset + length] = noise(length, offset)
    return bytes(disk)


def store(repository: Repository, disk: bytes) -> str:
    """The digest of the disk's index."""
    with repository.disk_writer(len(disk), CHUNK) as writer:
        for slot, offset in enumerate(range(0, len(disk), CHUNK)):
            writer.write_chunk(slot, disk[offset : offset + CHUNK])
        return writer.finish().digest


def disk_capture(repository: Repository, disk: bytes, target: str = "vda") -> DiskCapture:
    return DiskCapture(
        target=target,
        source="/images/disk.qcow2",
        source_format="qcow2",
        size_bytes=len(disk),
        chunk_bytes=CHUNK,
        kind=CaptureKind.FULL,
        index=store(repository, disk),
        bytes_read=len(disk),
        bytes_stored=len(disk),
        chunks_new=1,
        chunks_known=0,
    )


def guest_capture(
    *disks: DiskCapture, name: str = "alpha", uuid: str = ALPHA, domain_xml: str = "<domain/>"
) -> GuestCapture:
    return GuestCapture(
        guest_uuid=uuid,
        name=name,
        host_id="host-a.example",
        domain_xml=domain_xml,
        consistency=Consistency.GUEST,
        hold_ms=52.5,
        disks=disks,
    )


def manifest_of(*guests: GuestCapture) -> Manifest:
    return Manifest(
        capture_id=CAPTURE,
        created_at=NOW,
        instant=Instant(at=NOW),
        hold=HoldKind.FREEZE,
        policy=Policy.ALL,
        consistency=Consistency.GUEST,
        kind=CaptureKind.FULL,
        guests=guests,
        proof=None,
    )


def part_of(repository: Repository, disk: bytes, path: Path, image_format: ImageFormat) -> DiskPart:
    return DiskPart(CAPTURE, "alpha", "vda", store(repository, disk), path, image_format)


def content(path: Path, image_format: ImageFormat) -> bytes:
    """What QEMU reads from an image, after it has checked it."""
    if image_format is ImageFormat.RAW:
        return path.read_bytes()
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path], check=True)
    raw = path.with_suffix(".converted")
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw], check=True)
    data = raw.read_bytes()
    raw.unlink()
    return data


def damage(repository: Repository, root: Path, index: str, nth: int) -> None:
    """Flip a byte in the file of the disk's nth chunk."""
    with repository.index(index) as opened:
        digest = [digest for _, digest in opened.used_slots()][nth]
    path = root / locate(digest)
    envelope = bytearray(path.read_bytes())
    envelope[len(envelope) // 2] ^= 1
    path.write_bytes(envelope)
