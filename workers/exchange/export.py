"""Export: a capture as an image set."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from freezeframe import __version__
from freezeframe.contract.message import CaptureId, Message
from freezeframe.repository import GuestCapture, Manifest, Repository
from workers.durable import sync_directory
from workers.exchange import sums
from workers.exchange.description import (
    DEFINE,
    FILE,
    README,
    SUMS,
    Description,
    ExportedDisk,
    ExportedGuest,
)
from workers.exchange.readme import readme
from workers.exchange.staging import SUFFIX, check_free, staging
from workers.restore.capture import OnDiskProgress, absolute, restore_capture
from workers.restore.definition import RestoredImage, definition
from workers.restore.errors import DefinitionUnfitError
from workers.restore.image import ImageFormat
from workers.restore.opening import reopen
from workers.restore.partial import PartialFile, writing
from workers.restore.plan import GuestPart, plan
from workers.restore.rules import Host
from workers.restore.trust import named, reaches


class ExportReport(Message):
    capture_id: CaptureId
    directory: Path
    files: tuple[str, ...]
    data_bytes: int  # of disks, in whole chunks
    seconds: float


def export_capture(
    repository: Repository,
    manifest: Manifest,
    directory: Path,
    *,
    image_format: ImageFormat = ImageFormat.QCOW2,
    guests: Collection[str] | None = None,
    on_progress: OnDiskProgress = lambda _disk, _done, _total: None,
) -> ExportReport:
    """Export a capture's guests (names or UUIDs; None for all) to `directory`, which is there, whole, when this returns; else
    not at all. What an interrupted export of the same capture left is gone on with.

    Raises ExportTargetError, and what `restore_capture` raises.
    """
    began = time.monotonic()
    directory = absolute(directory)
    check_free(directory)
    filling = directory.with_name(directory.name + SUFFIX)
    parts = plan(manifest, filling, image_format, guests)
    with staging(directory):
        for disk in (disk for part in parts for disk in part.disks):
            reopen(repository, disk)
        report = restore_capture(
            repository,
            manifest,
            filling,
            image_format=image_format,
            guests=guests,
            overwrite=True,
            on_progress=on_progress,
        )
        with writing(filling / DEFINE):
            (filling / DEFINE).mkdir(mode=0o711, exist_ok=True)
        description = _description(manifest, parts, directory, filling)
        files = _finish(description, directory, filling)
    return ExportReport(
        capture_id=manifest.capture_id,
        directory=directory,
        files=files,
        data_bytes=sum(disk.data_bytes for guest in report.guests for disk in guest.disks),
        seconds=round(time.monotonic() - began, 3),
    )


def _description(manifest: Manifest, parts: tuple[GuestPart, ...], directory: Path, filling: Path) -> Description:
    return Description(
        program=__version__,
        capture_id=manifest.capture_id,
        created_at=manifest.created_at,
        instant=manifest.instant.at,
        group=manifest.group,
        tags=manifest.tags,
        hold=manifest.hold,
        policy=manifest.policy,
        consistency=manifest.consistency,
        guests=tuple(_guest(part, directory, filling) for part in parts),
    )


def _guest(part: GuestPart, directory: Path, filling: Path) -> ExportedGuest:
    guest = part.guest
    define, warnings = _define(part, directory, filling)
    captured = {disk.target: disk for disk in guest.disks}
    disks = tuple(
        ExportedDisk(
            target=disk.target,
            file=disk.path.name,
            format=disk.format,
            size_bytes=captured[disk.target].size_bytes,
            sha256=_sum(disk.path),
            source=captured[disk.target].source,
            source_format=captured[disk.target].source_format,
        )
        for disk in part.disks
    )
    return ExportedGuest(
        **_captured(guest),
        xml=part.xml_path.name,
        define=define,
        disks=disks,
        skipped=guest.skipped,
        warnings=(*guest.warnings, *warnings),
    )


def _captured(guest: GuestCapture) -> dict[str, object]:
    return guest.model_dump(
        include={"guest_uuid", "name", "host_id", "consistency", "hold_ms", "live_xml", "autostart"}
    )


def _define(part: GuestPart, directory: Path, filling: Path) -> tuple[str | None, tuple[str, ...]]:
    """Write what `virsh define` takes, its disks in the set's own directory; where it is, and what to know of it."""
    images = {disk.target: RestoredImage(directory / disk.path.name, disk.format) for disk in part.disks}
    try:
        made = definition(part.guest.domain_xml, images, live_xml=part.guest.live_xml)
    except DefinitionUnfitError as error:
        return None, (f"It has no definition to define it by: {error.message}",)
    name = f"{DEFINE}/{part.xml_path.name}"
    _write(filling / name, made.xml + "\n")
    return name, (*made.warnings, *_beyond(name, made.xml, images.values()))


def _beyond(name: str, xml: str, images: Iterable[RestoredImage]) -> Iterator[str]:
    """Yield a warning of a definition that reaches beyond its guest: virsh defines it without a question."""
    found = reaches(xml, Host(None, {str(image.path) for image in images}))
    if found:
        yield f"Look at {name} before you define it: it has what may reach beyond the guest and its disks: {named(found)}."


def _finish(description: Description, directory: Path, filling: Path) -> tuple[str, ...]:
    """Write what stands beside the guests' files; all paths of the set."""
    _write(filling / FILE, description.model_dump_json(indent=2) + "\n")
    _write(filling / README, readme(description, directory))
    known = {disk.file: disk.sha256 for guest in description.guests for disk in guest.disks}
    others = [FILE, README]
    for guest in description.guests:
        others += [guest.xml, *([guest.define] if guest.define else [])]
    _write(filling / SUMS, sums.listing({**known, **{path: _sum(filling / path) for path in others}}))
    _clear(filling, {*known, *others, SUMS})
    with writing(filling):
        sync_directory(filling / DEFINE)
    return tuple(sorted([*known, *others, SUMS]))


def _clear(filling: Path, wanted: set[str]) -> None:
    """Take out what an interrupted export of other guests, or to another format, has left."""
    with writing(filling):
        for path in (*filling.iterdir(), *(filling / DEFINE).iterdir()):
            if str(path.relative_to(filling)) not in wanted and path.name != DEFINE:
                path.unlink()


def _write(path: Path, text: str) -> None:
    with PartialFile(path, overwrite=True) as file:
        with writing(file.path), os.fdopen(os.dup(file.fd), "wb") as out:
            out.write(text.encode())
        file.commit()


def _sum(path: Path) -> str:
    with writing(path):
        return sums.sha256_of(path)
