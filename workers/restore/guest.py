"""Restored guests made known to libvirt."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import uuid4

from workers.hypervisor.connection import Hypervisor
from workers.restore.definition import Definition, RestoredImage, definition
from workers.restore.disk import DiskPart
from workers.restore.errors import DefineNameError, DefinitionNotTrustedError, DefinitionUnfitError, GuestDefinedError
from workers.restore.identity import Identity
from workers.restore.image import ImageFormat
from workers.restore.place import BlockDevicePlace, NbdPlace
from workers.restore.plan import GuestPart
from workers.restore.reachable import check_reachable
from workers.restore.report import DefinedGuest
from workers.restore.rules import Host
from workers.restore.trust import named, reaches

PLACEHOLDER: Final = "{guest}"


@dataclass(frozen=True)
class Define:
    """The way to define restored guests: `name` with `{guest}` in it for several; None for as captured, UUID and all.

    `trust`: also with what reaches beyond the guest (`trust.py`).
    """

    hypervisor: Hypervisor
    name: str | None = None
    start: bool = False
    trust: bool = False

    def check_reachable(self, parts: Iterable[GuestPart], directory: Path) -> None:
        """Raise TargetUnreachableError if QEMU's user could not reach a disk that goes into `directory`."""
        if any(disk.place is None for part in parts for disk in part.disks):
            check_reachable(directory, self.hypervisor.qemu_user())

    def definitions(self, parts: Iterable[GuestPart]) -> dict[str, Definition]:
        """Return the definitions by the captured guests' UUIDs. libvirt is asked, but nothing is changed yet.

        Raises DefineNameError, GuestDefinedError, DefinitionUnfitError, DefinitionNotTrustedError and HypervisorError.
        """
        wanted = list(parts)
        if self.name is not None and PLACEHOLDER not in self.name and len(wanted) > 1:
            raise DefineNameError(f"{len(wanted)} guests cannot all be defined as {self.name!r}.")
        emulators = self.hypervisor.emulators()
        made = {part.guest.guest_uuid: self._definition(part, emulators) for part in wanted}
        self._check_free(made.values())
        return made

    def define(self, made: Definition, *, autostart: bool | None = None) -> DefinedGuest:
        """Define the guest, let it start with its host if it did so, and start it if so wished. Raises HypervisorError."""
        domain = self.hypervisor.define(made.xml)
        if autostart:
            domain.set_autostart(wanted=True)
        if self.start:
            domain.start()
        return DefinedGuest(name=domain.name, uuid=domain.uuid, started=self.start, autostart=bool(autostart))

    def _definition(self, part: GuestPart, emulators: Collection[str]) -> Definition:
        images = {disk.target: _image(disk) for disk in part.disks}
        identity = None
        if self.name is not None:
            identity = Identity(_checked(self.name.replace(PLACEHOLDER, part.guest.name)), str(uuid4()))
        made = definition(part.guest.domain_xml, images, identity, part.guest.live_xml)
        found = reaches(made.xml, Host(emulators, {str(image.path) for image in images.values()}))
        if found and not self.trust:
            raise DefinitionNotTrustedError(
                f"The definition of guest {part.guest.name} in the capture has what may reach beyond the guest and its disks: "
                f"{named(found)}."
            )
        trusted = tuple(f"Its definition is trusted with {one}." for one in found)
        return replace(made, warnings=(*made.warnings, *trusted))

    def _check_free(self, wanted: Iterable[Definition]) -> None:
        taken = {word: domain.name for domain in self.hypervisor.domains() for word in (domain.name, domain.uuid)}
        for one in wanted:
            for word in (one.name, one.uuid):
                if word in taken:
                    raise GuestDefinedError(f"libvirt has a guest {taken[word]} here, which is {word} too.")
                taken[word] = one.name


def _image(disk: DiskPart) -> RestoredImage:
    match disk.place:
        case None:
            return RestoredImage(disk.path, disk.format)
        case BlockDevicePlace(path):
            return RestoredImage(path, ImageFormat.RAW, device=True)
        case NbdPlace(uri):
            raise DefinitionUnfitError(f"A guest cannot be defined upon {uri}, to which its disk {disk.target} goes.")


def _checked(name: str) -> str:
    """A guest's name is put in front of files' names, so it must leave room for those."""
    if not name.strip() or "/" in name or not name.isprintable() or len(name.encode()) > 200:
        raise DefineNameError(f"{name!r} cannot be the name of a guest.", advice="Give another name with --define.")
    return name
