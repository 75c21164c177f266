"""Import: images into a repository, as a capture that claims nothing that is not known."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from freezeframe.contract.message import CaptureId, DiskTarget, Message, Shape
from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy
from freezeframe.repository import DiskCapture, GuestCapture, Instant, Manifest, Repository
from freezeframe.repository.temporary import check_temporary
from workers.exchange.reading import read_image
from workers.exchange.wanted import Wanted, WantedDisk, WantedGuest

_REASON = "it was imported"

#: Called with a guest's name, a disk's target, bytes done and bytes in all of the disk.
OnImportProgress = Callable[[str, str, int, int], None]


class ImportedDisk(Shape):
    guest: str
    target: DiskTarget
    size_bytes: int
    bytes_read: int
    bytes_stored: int
    chunks_new: int
    chunks_known: int


class ImportReport(Message):
    capture_id: CaptureId
    consistency: Consistency
    disks: tuple[ImportedDisk, ...]
    seconds: float


def import_capture(
    repository: Repository,
    wanted: Wanted,
    *,
    on_progress: OnImportProgress = lambda _guest, _target, _done, _total: None,
) -> ImportReport:
    """Store what is wanted and seal it, under a new id, in a session of its own.

    Raises ImageToolError, ExportError and the repository's errors; then nothing is sealed.
    """
    began = time.monotonic()
    repository.check_writable()
    check_temporary()
    with repository.session("freezeframe import") as capture_id:
        guests = tuple(_guest(repository, guest, on_progress) for guest in wanted.guests)
        manifest = _manifest(capture_id, wanted, guests)
        repository.seal(manifest)
    return ImportReport(
        capture_id=manifest.capture_id,
        consistency=manifest.consistency,
        disks=tuple(_imported(guest, disk) for guest, disk in manifest.disks()),
        seconds=round(time.monotonic() - began, 3),
    )


def _manifest(capture_id: str, wanted: Wanted, guests: tuple[GuestCapture, ...]) -> Manifest:
    return Manifest(
        capture_id=capture_id,
        created_at=datetime.now(UTC),
        group=wanted.group,
        tags=wanted.tags,
        instant=Instant(at=wanted.instant),
        hold=HoldKind.NONE,
        policy=Policy.ALL,
        consistency=Consistency.CRASH,
        kind=CaptureKind.FULL,
        guests=guests,
        proof=None,
        imported=wanted.imported,
    )


def _guest(repository: Repository, guest: WantedGuest, on_progress: OnImportProgress) -> GuestCapture:
    warnings = ("It was imported: that its disks show one instant is not known here.",) if len(guest.disks) > 1 else ()
    return GuestCapture(
        guest_uuid=guest.guest_uuid,
        name=guest.name,
        host_id=guest.host_id,
        domain_xml=guest.domain_xml,
        live_xml=guest.live_xml,
        autostart=guest.autostart,
        consistency=Consistency.CRASH,
        hold_ms=None,
        disks=tuple(_disk(repository, guest, disk, on_progress) for disk in guest.disks),
        skipped=guest.skipped,
        warnings=(*guest.warnings, *warnings),
    )


def _disk(repository: Repository, guest: WantedGuest, disk: WantedDisk, on_progress: OnImportProgress) -> DiskCapture:
    done = 0

    def on_read(length: int) -> None:
        nonlocal done
        done += length
        on_progress(guest.name, disk.target, done, disk.size_bytes)

    on_progress(guest.name, disk.target, 0, disk.size_bytes)
    receipt = read_image(repository, disk.image, disk.size_bytes, disk.target, on_read)
    return DiskCapture(
        target=disk.target,
        source=disk.source,
        source_format=disk.source_format,
        size_bytes=receipt.size_bytes,
        chunk_bytes=receipt.chunk_bytes,
        kind=CaptureKind.FULL,
        full_reason=_REASON,
        index=receipt.digest,
        bytes_read=receipt.bytes_read,
        bytes_stored=receipt.bytes_stored,
        chunks_new=receipt.chunks_new,
        chunks_known=receipt.chunks_known,
    )


def _imported(guest: GuestCapture, disk: DiskCapture) -> ImportedDisk:
    return ImportedDisk(
        guest=guest.name,
        target=disk.target,
        size_bytes=disk.size_bytes,
        bytes_read=disk.bytes_read,
        bytes_stored=disk.bytes_stored,
        chunks_new=disk.chunks_new,
        chunks_known=disk.chunks_known,
    )
