"""Manifests and disks to test with."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy
from freezeframe.repository import ChunkBuffer, DiskCapture, GuestCapture, Instant, Manifest
from freezeframe.repository.sealing import seal as seal_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from freezeframe.repository import DiskWriter, IndexReceipt, Repository

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

CHUNK = 4096
GUEST = "6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e"
OTHER_GUEST = "11111111-2222-3333-4444-555555555555"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def one_at_a_time(
    items: Iterable[ItemT], read: Callable[[ItemT], ResultT], size_of: object = None
) -> Iterator[ResultT]:
    """Stand in for `read_ahead`: nothing is read before its turn, and in no other thread. It takes what `read_ahead` takes."""
    return map(read, items)


def capture_id(number: int) -> str:
    """Sorts as `number` does."""
    return f"01HZ{number:022d}"


def disk_of(*chunks: bytes) -> bytes:
    """A disk: each of `chunks` filled up to a whole chunk by repeating it; b"" is a hole."""
    return b"".join((chunk * CHUNK)[:CHUNK] if chunk else bytes(CHUNK) for chunk in chunks)


def envelope_of(data: bytes) -> bytes:
    """As a writer stores a chunk."""
    buffer = ChunkBuffer(len(data))
    buffer.chunk(len(data))[:] = data
    return bytes(seal_chunk(buffer, len(data)))


def random_disk(chunks: int) -> bytes:
    return os.urandom(chunks * CHUNK)


def write(writer: DiskWriter, disk: bytes) -> IndexReceipt:
    for offset in range(0, len(disk), CHUNK):
        writer.write_chunk(offset // CHUNK, disk[offset : offset + CHUNK])
    return writer.finish()


def store_disk(repository: Repository, disk: bytes, parent: str | None = None, checkpoint: str | None = None) -> str:
    """The digest of the disk's index."""
    with repository.disk_writer(len(disk), CHUNK, parent_index_digest=parent, checkpoint=checkpoint) as writer:
        return write(writer, disk).digest


def read_disk(repository: Repository, index: str) -> bytes:
    with repository.disk_reader(index) as reader:
        return b"".join(bytes(extent.length) if extent.data is None else extent.data for extent in reader)


def disk_capture(index: str, size_bytes: int, *, target: str = "vda", checkpoint: str | None = None) -> DiskCapture:
    return DiskCapture(
        target=target,
        source="/images/disk.qcow2",
        source_format="qcow2",
        size_bytes=size_bytes,
        chunk_bytes=CHUNK,
        kind=CaptureKind.FULL,
        checkpoint=checkpoint,
        index=index,
        bytes_read=size_bytes,
        bytes_stored=size_bytes,
        chunks_new=1,
        chunks_known=0,
    )


def manifest_of(number: int, *disks: DiskCapture, guest: str = GUEST) -> Manifest:
    return Manifest(
        capture_id=capture_id(number),
        created_at=NOW,
        group="shop",
        tags=("nightly",),
        instant=Instant(at=NOW),
        hold=HoldKind.FREEZE,
        policy=Policy.ALL,
        consistency=Consistency.GUEST,
        kind=CaptureKind.FULL,
        guests=(
            GuestCapture(
                guest_uuid=guest,
                name="db1",
                host_id="host-a.example",
                domain_xml="<domain/>",
                consistency=Consistency.GUEST,
                hold_ms=52.5,
                disks=disks,
            ),
        ),
        proof=None,
    )


def seal(repository: Repository, number: int, disk: bytes) -> Manifest:
    """Write a disk and seal a capture of it."""
    manifest = manifest_of(number, disk_capture(store_disk(repository, disk), len(disk)))
    repository.write_manifest(manifest)
    return manifest
