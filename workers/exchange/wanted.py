"""What is to be imported: guests with their images, from an image set or as somebody names them. Everything that can be known
to be wrong is found here, before a byte is stored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from freezeframe import naming
from freezeframe.contract.message import GuestUuid, HostId, Label
from freezeframe.repository import Imported, SkippedDisk
from freezeframe.repository.manifest import GuestName
from workers.exchange import description
from workers.exchange.description import Description, ExportedDisk, ExportedGuest
from workers.exchange.errors import (
    ImageSetDamagedError,
    ImageSetNotFoundError,
    ImageSetUnfitError,
    ImageUnfitError,
)
from workers.exchange.image_server import Image, inspect
from workers.exchange.sums import sha256_of
from workers.hypervisor.disk import parse
from workers.restore.errors import AmbiguousGuestError

_DISK: Final = re.compile(r"(?P<target>[a-z][a-z0-9]{1,15})=(?P<file>.+)", re.DOTALL)
_SECTOR: Final = 512

_guest_name: TypeAdapter[str] = TypeAdapter(GuestName)
_guest_uuid: TypeAdapter[str] = TypeAdapter(GuestUuid)


@dataclass(frozen=True)
class WantedDisk:
    target: str
    image: Image
    size_bytes: int
    source: str
    source_format: str


@dataclass(frozen=True)
class WantedGuest:
    guest_uuid: str
    name: str
    host_id: HostId
    domain_xml: str
    disks: tuple[WantedDisk, ...]
    skipped: tuple[SkippedDisk, ...] = ()
    warnings: tuple[str, ...] = ()
    live_xml: str = ""
    autostart: bool | None = None


@dataclass(frozen=True)
class Wanted:
    """One capture to be."""

    guests: tuple[WantedGuest, ...]
    imported: Imported
    instant: datetime
    group: Label | None = None
    tags: tuple[Label, ...] = ()


def from_set(directory: Path, guests: Collection[str] | None = None) -> Wanted:
    """The guests with those names or UUIDs of an image set; None for all. Every file of theirs is read and compared with its
    checksum. Raises ImageSetNotFoundError, ImageSetUnfitError, ImageSetDamagedError, ImageUnfitError, ImageToolError, and
    AmbiguousGuestError for a name that more than one guest has.
    """
    found = description.read(directory)
    chosen = list(found.guests) if guests is None else _named_guests(directory, found, guests)
    return Wanted(
        guests=tuple(_exported(directory, guest) for guest in chosen),
        imported=_imported(found),
        instant=found.instant,
        group=found.group,
        tags=found.tags,
    )


def _named_guests(directory: Path, found: Description, wanted: Collection[str]) -> list[ExportedGuest]:
    chosen: dict[str, ExportedGuest] = {}
    for one in wanted:
        meant = naming.meant(one, found.guests, lambda guest: guest.guest_uuid, lambda guest: guest.name)
        if not meant:
            raise ImageSetNotFoundError(f"The image set in {directory} has no guest {one!r}.", advice="")
        if len(meant) > 1:
            same = [(guest.guest_uuid, guest.host_id) for guest in meant]
            raise AmbiguousGuestError.of(f"The image set in {directory}", one, same)
        chosen[meant[0].guest_uuid] = meant[0]
    return list(chosen.values())


def _imported(found: Description) -> Imported:
    return Imported(source="export", capture_id=found.capture_id, consistency=found.consistency, program=found.program)


def _exported(directory: Path, guest: ExportedGuest) -> WantedGuest:
    return WantedGuest(
        guest_uuid=guest.guest_uuid,
        name=guest.name,
        host_id=guest.host_id,
        domain_xml=_text(_own(directory, guest.xml)),
        disks=tuple(_exported_disk(directory, disk) for disk in guest.disks),
        skipped=guest.skipped,
        warnings=guest.warnings,
        live_xml=guest.live_xml,
        autostart=guest.autostart,
    )


def _exported_disk(directory: Path, disk: ExportedDisk) -> WantedDisk:
    path = _own(directory, disk.file)
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise ImageSetDamagedError(f"{path} cannot be read: {error.strerror}.") from error
    if digest != disk.sha256:
        raise ImageSetDamagedError(f"{path} is not what was exported: its SHA-256 is {digest}.")
    image = inspect(path, disk.format.value)
    if not 0 <= image.size_bytes - disk.size_bytes < _SECTOR:
        raise ImageSetUnfitError(
            f"{path} holds {image.size_bytes} bytes; the set says that its disk has {disk.size_bytes}."
        )
    return WantedDisk(disk.target, image, disk.size_bytes, disk.source, disk.source_format)


def _own(directory: Path, name: str) -> Path:
    """A plain file of the set itself."""
    path = directory / name
    if path.is_symlink() or not path.is_file():
        raise ImageSetDamagedError(f"{path} is missing, or is no plain file.")
    return path


def from_images(
    xml: Path, disks: Iterable[str], host_id: str, *, image_format: str | None = None, tags: tuple[str, ...] = ()
) -> Wanted:
    """A guest by its domain XML, with images as `TARGET=FILE`. Raises as `from_set`."""
    domain_xml = _text(xml)
    try:
        root = parse(domain_xml)
        name = _guest_name.validate_python(root.findtext("name", ""))
        uuid = _guest_uuid.validate_python(root.findtext("uuid", ""))
    except (ValueError, ValidationError) as error:
        raise ImageUnfitError(
            f"{xml} is no domain XML with a name and a UUID.", advice="Give what `virsh dumpxml` prints."
        ) from error
    found = tuple(_named(one, image_format) for one in disks)
    if not found or len({disk.target for disk in found}) < len(found):
        raise ImageUnfitError("Each disk must be named once.", advice="Write --disk TARGET=FILE for each.")
    captured = {element.get("dev", "") for element in root.iterfind("./devices/disk/target")}
    if foreign := sorted({disk.target for disk in found} - captured):
        raise ImageUnfitError(f"{xml} has no disk {foreign[0]}.", advice="Name disks as their <target dev='…'/> does.")
    guest = WantedGuest(uuid, name, host_id, domain_xml, found)
    return Wanted((guest,), Imported(source="images"), datetime.now(UTC), tags=tags)


def _named(text: str, image_format: str | None) -> WantedDisk:
    match = _DISK.fullmatch(text)
    if match is None:
        raise ImageUnfitError(f"{text!r} does not say which disk is in which file.", advice="Write TARGET=FILE.")
    image = inspect(Path(match["file"]), image_format)
    if not image.size_bytes:
        raise ImageUnfitError(
            f"{image.path} is empty: a disk of 0 bytes cannot be stored.", advice="Leave that disk out."
        )
    return WantedDisk(match["target"], image, image.size_bytes, str(image.path), image.format)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageSetDamagedError(f"{path} cannot be read: {error}.", advice="") from error
