"""What a restore did, as JSON for programs."""

from __future__ import annotations

from pathlib import Path

from freezeframe.contract.message import CaptureId, DiskTarget, GuestUuid, Message, Shape
from freezeframe.contract.words import Consistency
from workers.restore.image import ImageFormat


class RestoredDisk(Shape):
    target: DiskTarget
    path: Path | None  # None where it went to a place that is no file of ours
    place: str | None = None  # the block device or the export that it went to instead
    format: ImageFormat
    size_bytes: int
    data_bytes: int  # what the repository holds of it, in whole chunks
    bytes_written: int  # less where a chunk has zeros in it
    bytes_kept: int = 0  # what an interrupted restore had written already
    resumed_bytes: int = 0  # how far that one had come, in bytes of the disk
    seconds: float


class DefinedGuest(Shape):
    """The guest that libvirt knows now."""

    name: str
    uuid: GuestUuid
    started: bool
    autostart: bool = False  # it starts with this host, as it did with the one it was captured on


class RestoredGuest(Shape):
    guest_uuid: GuestUuid
    name: str
    xml_path: Path  # the domain XML as captured
    disks: tuple[RestoredDisk, ...]
    defined: DefinedGuest | None = None
    warnings: tuple[str, ...] = ()


class PlannedDisk(Shape):
    """What a restore would do about a disk."""

    guest: str
    target: DiskTarget
    where: str  # a file that would be made, or a device or an export that would be written over
    overwritten: bool  # something is there, and would be lost
    resumed_bytes: int  # how far an interrupted restore has come
    size_bytes: int
    data_bytes: int


class RestorePlan(Message):
    """A dry run: all checks have passed, nothing was written."""

    capture_id: CaptureId
    directory: Path
    disks: tuple[PlannedDisk, ...]


class RestoreReport(Message):
    capture_id: CaptureId
    consistency: Consistency
    directory: Path
    seconds: float
    guests: tuple[RestoredGuest, ...]
