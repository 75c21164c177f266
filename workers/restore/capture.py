"""A capture brought back: its guests' disks, their domain XML, and on request the guests themselves."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from freezeframe.errors import FreezeframeError
from freezeframe.repository import Manifest, Repository
from workers.restore.at_once import DisksAtOnce
from workers.restore.disk import DiskPart, restore_disk
from workers.restore.errors import DeviceNotConfirmedError
from workers.restore.image import ImageFormat
from workers.restore.partial import PartialFile, writing
from workers.restore.place import Places
from workers.restore.plan import GuestPart, plan
from workers.restore.report import RestoredDisk, RestoredGuest, RestorePlan, RestoreReport
from workers.restore.room import check_room, make_directory, planned
from workers.restore.running_guests import Libvirt, check_no_guest_has, written_over

if TYPE_CHECKING:
    from workers.restore.definition import Definition
    from workers.restore.guest import Define  # needs libvirt, which a restore to files does not

#: Called with a disk, bytes done and bytes in all, of data; first with none done. By any thread, also by two at once.
OnDiskProgress = Callable[[DiskPart, int, int], None]

#: Called for the libvirts that are asked whether a running guest has what would be written over; only if anything would be.
Libvirts = Callable[[], Sequence[Libvirt]]


def restore_capture(
    repository: Repository,
    manifest: Manifest,
    directory: Path,
    *,
    image_format: ImageFormat = ImageFormat.QCOW2,
    guests: Collection[str] | None = None,
    disks: Collection[str] | None = None,
    places: Places | None = None,
    overwrite_devices: bool = False,
    define: Define | None = None,
    overwrite: bool = False,
    libvirts: Libvirts = tuple,
    trust: bool = False,
    on_progress: OnDiskProgress = lambda _disk, _done, _total: None,
) -> RestoreReport:
    """Restore a capture's guests (names or UUIDs; None for all) and of them these disks (targets; None for all).

    Everything that can be known to fail is checked before anything is written: RestoreRefusedError, NotInCaptureError,
    DiskDamagedError, HypervisorError (see `plan_capture`). `places`: disks that go to block devices and NBD exports, which
    are written over only if `overwrite_devices` says that they may be. `libvirts` are asked whether a running guest has what is
    written over. Disks are restored two at once, `on_progress` is called by several threads. What fails later leaves whole what
    is whole already, and the error's hint names it.
    """
    began = time.monotonic()
    directory = absolute(directory)
    parts = plan(manifest, directory, image_format, guests, disks, places)
    check_room(repository, parts, directory, overwrite=overwrite)
    _check_guests(parts, libvirts)
    definitions = _definitions(define, parts, directory)
    if places and not overwrite_devices:
        named = ", ".join(map(str, places.values()))
        raise DeviceNotConfirmedError(f"All that is on {named} would be lost.")
    make_directory(directory)
    restored: list[RestoredGuest] = []
    restore_one = partial(_disk, repository, overwrite=overwrite, trust=trust, on_progress=on_progress)
    with _telling_whole() as whole, DisksAtOnce(parts, restore_one, whole) as at_once:
        for part in parts:
            done = at_once.wait_for(part)
            _write_xml(part, whole, overwrite=overwrite)
            made = definitions.get(part.guest.guest_uuid)
            restored.append(_guest(part, done, define, made))
    return RestoreReport(
        capture_id=manifest.capture_id,
        consistency=manifest.consistency,
        directory=directory,
        seconds=round(time.monotonic() - began, 3),
        guests=tuple(restored),
    )


def plan_capture(
    repository: Repository,
    manifest: Manifest,
    directory: Path,
    *,
    image_format: ImageFormat = ImageFormat.QCOW2,
    guests: Collection[str] | None = None,
    disks: Collection[str] | None = None,
    places: Places | None = None,
    define: Define | None = None,
    overwrite: bool = False,
    libvirts: Libvirts = tuple,
) -> RestorePlan:
    """All checks of `restore_capture`, and what it would do. Nothing is written."""
    directory = absolute(directory)
    parts = plan(manifest, directory, image_format, guests, disks, places)
    check_room(repository, parts, directory, overwrite=overwrite)
    _check_guests(parts, libvirts)
    _definitions(define, parts, directory)
    return planned(repository, manifest, parts, directory)


def _check_guests(parts: Sequence[GuestPart], libvirts: Libvirts) -> None:
    """Raises TargetInUseError and GuestsUnknownError."""
    if written := written_over(parts):
        check_no_guest_has(written, libvirts())


def _definitions(define: Define | None, parts: Sequence[GuestPart], directory: Path) -> dict[str, Definition]:
    """Nothing, if no guest is to be defined."""
    if define is None:
        return {}
    define.check_reachable(parts, directory)
    return define.definitions(parts)


def absolute(directory: Path) -> Path:
    """resolve() would follow what the user named on purpose."""
    return Path(os.path.abspath(directory))  # noqa: PTH100


def _disk(
    repository: Repository,
    disk: DiskPart,
    stop: threading.Event,
    *,
    overwrite: bool,
    trust: bool,
    on_progress: OnDiskProgress,
) -> RestoredDisk:
    return restore_disk(
        repository, disk, overwrite=overwrite, trust=trust, stop=stop, on_progress=partial(on_progress, disk)
    )


def _write_xml(part: GuestPart, whole: list[str], *, overwrite: bool) -> None:
    """After the disks: where a guest's XML lies, the guest is whole."""
    with PartialFile(part.xml_path, overwrite=overwrite) as file:
        with writing(file.path), os.fdopen(os.dup(file.fd), "wb") as out:
            out.write(part.guest.domain_xml.encode())
        file.commit()
    whole.append(str(part.xml_path))


def _guest(
    part: GuestPart, disks: tuple[RestoredDisk, ...], define: Define | None, made: Definition | None
) -> RestoredGuest:
    defined = define.define(made, autostart=part.guest.autostart) if define is not None and made is not None else None
    skipped = tuple(f"Disk {one.target} was not captured: {one.reason}." for one in part.guest.skipped)
    return RestoredGuest(
        guest_uuid=part.guest.guest_uuid,
        name=part.guest.name,
        xml_path=part.xml_path,
        disks=disks,
        defined=defined,
        warnings=skipped + (made.warnings if made is not None else ()),
    )


@contextmanager
def _telling_whole() -> Iterator[list[str]]:
    """A failure does not take back what was restored beside it; say so. The list is for what is whole."""
    whole: list[str] = []
    try:
        yield whole
    except FreezeframeError as error:
        if whole:
            error.hint = f"{error.hint} Restored, and whole: {', '.join(sorted(whole))}.".strip()
        raise
