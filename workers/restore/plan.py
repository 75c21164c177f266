"""The plan of a restore: which disks of which guests become which files. Pure; nothing is read, written or asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from freezeframe import naming
from freezeframe.repository import DiskCapture, GuestCapture, Manifest
from workers.restore.disk import DiskPart
from workers.restore.errors import AmbiguousGuestError, DeviceUnfitError, NotInCaptureError, UnsafeNameError
from workers.restore.image import ImageFormat
from workers.restore.partial import SUFFIX
from workers.restore.place import Place
from workers.restore.progress import NEW
from workers.restore.progress import SUFFIX as PROGRESS_SUFFIX

_TARGET: Final = re.compile(r"[a-z][a-z0-9]{1,15}")

#: No name of a guest: libvirt, or XML, cannot have it.
_IMPOSSIBLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\ud800-\udfff/]")
#: In a file's name: moves a terminal's cursor, hides the file or looks like an option.
_MISLEADING: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]|^[.-]")
#: A stem may be this long: the target, the format and the longest suffix still fit behind it.
_STEM_BYTES: Final = 200

#: What the file systems around us allow in a name, in bytes.
_NAME_BYTES: Final = 255
_LONGEST_SUFFIX: Final = max(len(SUFFIX), len(PROGRESS_SUFFIX + NEW))


@dataclass(frozen=True)
class GuestPart:
    """One guest of a restore. `xml_path` is where its domain XML goes, as captured."""

    guest: GuestCapture
    xml_path: Path
    disks: tuple[DiskPart, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that will be there."""
        return (*(disk.path for disk in self.disks if disk.place is None), self.xml_path)


def plan(
    manifest: Manifest,
    directory: Path,
    image_format: ImageFormat,
    guests: Collection[str] | None = None,
    disks: Collection[str] | None = None,
    places: Mapping[tuple[str, str], Place] | None = None,
) -> tuple[GuestPart, ...]:
    """The guests with those names or UUIDs, and their disks with those targets; None for all. Disks that `places` has, by a
    guest's name or UUID and a target, go there.

    Raises NotInCaptureError for a guest or a disk that the capture does not have, AmbiguousGuestError for a name that more than
    one guest has, DeviceUnfitError for a disk with two places, UnsafeNameError for a name that cannot be a file's.
    `directory` must be absolute.
    """
    chosen = _wanted_guests(manifest, guests)
    wanted = _by_uuid(chosen, places or {})
    parts = tuple(
        part
        for guest in chosen
        if (part := _part(manifest, guest, directory, image_format, disks, wanted)).disks or disks is None
    )
    if wanted:
        raise _not_restored(*next(iter(wanted)))
    found = {disk.target for part in parts for disk in part.disks}
    if missing := sorted(set(disks or ()) - found):
        raise NotInCaptureError(f"No guest that is to be restored from {manifest.capture_id} has a disk {missing[0]}.")
    _check_distinct(parts)
    return parts


def _wanted_guests(manifest: Manifest, wanted: Collection[str] | None) -> list[GuestCapture]:
    if wanted is None:
        return list(manifest.guests)
    chosen: set[str] = set()
    for one in wanted:
        found = naming.meant(one, manifest.guests, lambda guest: guest.guest_uuid, lambda guest: guest.name)
        if not found:
            raise NotInCaptureError(f"Capture {manifest.capture_id} has no guest {one!r}.")
        if len(found) > 1:
            named = [(guest.guest_uuid, guest.host_id) for guest in found]
            raise AmbiguousGuestError.of(f"Capture {manifest.capture_id}", one, named)
        chosen.add(found[0].guest_uuid)
    return [guest for guest in manifest.guests if guest.guest_uuid in chosen]


def _by_uuid(guests: Collection[GuestCapture], places: Mapping[tuple[str, str], Place]) -> dict[tuple[str, str], Place]:
    """Return the places by the UUID of their guest. A disk must never be written over another guest's device."""
    found: dict[tuple[str, str], Place] = {}
    for (word, target), place in places.items():
        meant = naming.meant(word, guests, lambda guest: guest.guest_uuid, lambda guest: guest.name)
        if not meant:
            raise _not_restored(word, target)
        if len(meant) > 1:
            ways = " or ".join(f"{guest.guest_uuid}:{target}=…" for guest in meant)
            named = naming.told_apart((guest.guest_uuid, guest.host_id) for guest in meant)
            raise AmbiguousGuestError(
                f"More than one guest to restore is named {word}: {named}.", advice=f"Write {ways}"
            )
        if found.setdefault((meant[0].guest_uuid, target), place) is not place:
            raise DeviceUnfitError(
                f"Disk {target} of guest {meant[0].name} is given two places.", advice="Name each disk once."
            )
    return found


def _not_restored(guest: str, target: str) -> NotInCaptureError:
    return NotInCaptureError(f"Disk {target} of guest {guest} is not among what is to be restored.")


def _part(
    manifest: Manifest,
    guest: GuestCapture,
    directory: Path,
    image_format: ImageFormat,
    targets: Collection[str] | None,
    places: dict[tuple[str, str], Place],
) -> GuestPart:
    """What has its place is taken out of `places`."""
    stem = _stem(manifest, guest)
    disks = tuple(
        _disk(manifest, guest, disk, directory / f"{stem}-{_checked_target(disk.target)}", image_format, places)
        for disk in guest.disks
        if targets is None or disk.target in targets
    )
    return GuestPart(guest, _path(directory, f"{stem}.xml"), disks)


def _disk(
    manifest: Manifest,
    guest: GuestCapture,
    disk: DiskCapture,
    stem: Path,
    image_format: ImageFormat,
    places: dict[tuple[str, str], Place],
) -> DiskPart:
    place = places.pop((guest.guest_uuid, disk.target), None)
    name = stem.name if place is not None else f"{stem.name}.{image_format.value}"
    return DiskPart(
        capture_id=manifest.capture_id,
        guest_name=guest.name,
        target=disk.target,
        index=disk.index,
        path=_path(stem.parent, name),
        format=image_format if place is None else ImageFormat.RAW,
        place=place,
    )


def _stem(manifest: Manifest, guest: GuestCapture) -> str:
    """Return how a guest's files begin: with its name, and with its UUID too where the name alone will not do.

    That is where hosts have guests of one name, and where the name would hide a file, look like an option or be too long.
    """
    if guest.name == "" or _IMPOSSIBLE.search(guest.name):
        raise UnsafeNameError(f"The guest name {guest.name!r} in {manifest.capture_id} cannot be the name of a file.")
    names = Counter(one.name for one in manifest.guests)
    if names[guest.name] == 1 and not _MISLEADING.search(guest.name) and len(guest.name.encode()) <= _STEM_BYTES:
        return guest.name
    kept = _MISLEADING.sub("_", guest.name).encode()[: _STEM_BYTES - len(guest.guest_uuid) - 1].decode(errors="ignore")
    return f"{kept}-{guest.guest_uuid}"


def _checked_target(target: str) -> str:
    if not _TARGET.fullmatch(target):
        raise UnsafeNameError(f"The disk name {target!r} cannot be part of a file's name.")
    return target


def _path(directory: Path, name: str) -> Path:
    if len(name.encode()) + _LONGEST_SUFFIX > _NAME_BYTES:
        raise UnsafeNameError(f"The file name {name!r} is too long.")
    return directory / name


def _check_distinct(parts: tuple[GuestPart, ...]) -> None:
    paths = Counter(path for part in parts for path in part.paths)
    twice = [path for path, count in paths.items() if count > 1]
    if twice:
        raise UnsafeNameError(f"Two disks or guests would both become {twice[0]}.")
