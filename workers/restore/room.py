"""Checks on where a restore goes to, all made before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from freezeframe.repository import Manifest, Repository
from workers import durable
from workers.restore.apart import check_apart
from workers.restore.disk import DiskPart, extent_of
from workers.restore.errors import NoRoomError, TargetUnfitError
from workers.restore.image import ImageFormat
from workers.restore.opening import check_place
from workers.restore.partial import SUFFIX, check_free, writing
from workers.restore.plan import GuestPart
from workers.restore.report import PlannedDisk, RestorePlan

#: For names, XML and the first clusters of an image.
_SPARE_BYTES: Final = 1 << 20

#: qcow2 keeps 10 bytes of tables for each cluster of 64 KiB; rounded up.
_TABLES_SHARE: Final = 4096


def check_room(repository: Repository, parts: Sequence[GuestPart], directory: Path, *, overwrite: bool) -> None:
    """Raises TargetUnfitError, TargetExistsError, TargetInUseError, NoRoomError, DiskDamagedError for a bad index,
    and DeviceUnfitError, SamePlaceError or DeviceTooSmallError for a place that is no file.
    """
    check_apart(disk for part in parts for disk in part.disks)
    place = _existing(directory)
    if not place.is_dir():
        raise TargetUnfitError(f"{place} is not a directory.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise TargetUnfitError(f"This user cannot write to {place}.")
    wanted_bytes = _SPARE_BYTES
    for part in parts:
        for path in part.paths:
            check_free(path, overwrite=overwrite)
        wanted_bytes += sum(_needed_bytes(repository, disk) for disk in part.disks)
        for disk in part.disks:
            if disk.place is not None:
                check_place(disk.place, extent_of(repository, disk).size_bytes)
    status = os.statvfs(place)
    free_bytes = status.f_bavail * status.f_frsize
    if free_bytes < wanted_bytes:
        raise NoRoomError(
            f"{directory} has {free_bytes >> 20} MiB free; up to {-(-wanted_bytes >> 20)} MiB are needed."
        )


def planned(repository: Repository, manifest: Manifest, parts: Iterable[GuestPart], directory: Path) -> RestorePlan:
    """What would be done, as far as that can be told by looking."""
    disks = tuple(_planned(repository, disk) for part in parts for disk in part.disks)
    return RestorePlan(capture_id=manifest.capture_id, directory=directory, disks=disks)


def _planned(repository: Repository, disk: DiskPart) -> PlannedDisk:
    extent = extent_of(repository, disk)
    return PlannedDisk(
        guest=disk.guest_name,
        target=disk.target,
        where=disk.where,
        overwritten=disk.place is not None or os.path.lexists(disk.path),
        resumed_bytes=disk.progress.seen(disk.index),
        size_bytes=extent.size_bytes,
        data_bytes=extent.data_bytes,
    )


def make_directory(directory: Path) -> None:
    """Others may pass through but not look: QEMU's own user must reach a disk that libvirt gives to it."""
    with writing(directory):
        durable.make_directory(directory, durable.PASSABLE)


def _existing(directory: Path) -> Path:
    """The directory, or the nearest above it that is there."""
    return next(one for one in (directory, *directory.parents) if os.path.lexists(one))


def _needed_bytes(repository: Repository, disk: DiskPart) -> int:
    """Less what an interrupted restore of it takes already."""
    if disk.place is not None:
        return 0
    extent = extent_of(repository, disk)
    tables_bytes = extent.size_bytes // _TABLES_SHARE if disk.format is ImageFormat.QCOW2 else 0
    return max(0, extent.data_bytes + tables_bytes - _left_bytes(disk))


def _left_bytes(disk: DiskPart) -> int:
    """What a partial file takes: it is gone on with, or makes way."""
    try:
        return disk.path.with_name(disk.path.name + SUFFIX).lstat().st_blocks * 512
    except OSError:
        return 0
