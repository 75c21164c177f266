"""The definition that a restored guest gets: the captured domain XML with what no longer holds taken out. Pure.

| in the captured XML          | in the definition                                                                    |
|------------------------------|--------------------------------------------------------------------------------------|
| a disk that was restored     | its file or block device; backing chain, mirror, credentials and encryption are gone    |
| a CD-ROM or floppy drive     | the drive, empty                                                                       |
| any other disk               | nothing, and a warning                                                                 |
| (a disk of the running guest) | as it was attached to it, if it was restored (live_disks.py)                            |
| a socket libvirt had chosen   | nothing: it chooses again                                                              |
| the generation id            | a new one: Windows domain controllers look at it to learn that they were restored       |
| with a new identity          | see identity.py                                                                        |

The XML comes from a repository and is believed by nobody: no entities, no document type. What gives a guest more of the host
than its disks is kept here; a guest is defined with it only if the definition is trusted (`trust.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lxml import etree

from workers.hypervisor.disk import parse, text
from workers.restore.chardev import forget_own_sockets
from workers.restore.errors import DefinitionUnfitError
from workers.restore.identity import Identity, adopt
from workers.restore.image import ImageFormat
from workers.restore.live_disks import with_live_disks

#: What belongs to a disk's old storage: in an image of our own none of it applies.
_OF_OLD_STORAGE: Final = ("backingStore", "mirror", "auth", "encryption", "transient")
_OF_PASSTHROUGH: Final = ("rawio", "sgio")

#: What <driver> can say of a qcow2 only, and libvirt refuses for a raw image.
_OF_QCOW2: Final = ("discard_no_unref",)


@dataclass(frozen=True)
class RestoredImage:
    """The file that a disk is in now, or the block device that it is on."""

    path: Path
    format: ImageFormat
    device: bool = False


@dataclass(frozen=True)
class Definition:
    """What to define, and what its owner should know of."""

    xml: str
    name: str
    uuid: str
    warnings: tuple[str, ...]


def definition(
    domain_xml: str, images: Mapping[str, RestoredImage], identity: Identity | None = None, live_xml: str = ""
) -> Definition:
    """The definition of a restored guest whose disks are `images`, by target; as captured without an `identity`.

    `live_xml` is the guest as it ran: disks that it had only then are taken from there.

    Raises DefinitionUnfitError if the XML is not a domain's, has a document type, or lacks a disk that was restored.
    """
    root = _domain(domain_xml)
    if live_xml:
        _domain(live_xml)
        with_live_disks(root, domain_xml, live_xml, images)
    warnings = list(_replace_disks(root, images))
    warnings += _warnings(root)
    for genid in root.iterfind("genid"):
        genid.text = None
    root.attrib.pop("id", "")
    forget_own_sockets(root)
    if identity is not None:
        warnings += adopt(root, identity)
    return Definition(
        xml=text(root),
        name=root.findtext("name", ""),
        uuid=root.findtext("uuid", ""),
        warnings=tuple(warnings),
    )


def _domain(domain_xml: str) -> etree._Element:
    try:
        root = parse(domain_xml)
    except ValueError as error:
        raise DefinitionUnfitError(f"The captured domain XML cannot be read: {error}.") from error
    if root.tag != "domain":
        raise DefinitionUnfitError(f"The captured XML is a {root.tag} and not a domain.")
    if not root.findtext("name") or not root.findtext("uuid"):
        raise DefinitionUnfitError("The captured domain XML has no name or no UUID.")
    return root


def _replace_disks(root: etree._Element, images: Mapping[str, RestoredImage]) -> Iterator[str]:
    """Point every disk to where it is now. Yields warnings."""
    missing = dict(images)
    for disk in root.findall("./devices/disk"):
        target = _attribute(disk, "target", "dev")
        image = missing.pop(target, None)
        if image is not None:
            yield from _point_to(disk, target, image)
        elif disk.get("device") in {"cdrom", "floppy"}:
            yield from _empty(disk, target)
        else:
            _remove(disk)
            yield f"Disk {target} was not restored; the definition is without it."
    if missing:
        raise DefinitionUnfitError(f"The captured domain XML has no disk {min(missing)}.")


def _point_to(disk: etree._Element, target: str, image: RestoredImage) -> Iterator[str]:
    if disk.find("encryption") is not None or disk.find("source/encryption") is not None:
        yield f"Disk {target} was encrypted by QEMU; the restored image is not."
    _forget_storage(disk)
    disk.set("type", "block" if image.device else "file")
    disk.set("device", "disk")
    try:
        source = etree.Element("source", {"dev" if image.device else "file": str(image.path)})
    except ValueError as error:
        raise DefinitionUnfitError(f"The path {str(image.path)!r} cannot be written in XML.") from error
    driver = disk.find("driver")
    if driver is None:
        driver = etree.Element("driver")
        disk.insert(0, driver)
    driver.addnext(source)
    _set_format(driver, image.format)


def _set_format(driver: etree._Element, image_format: ImageFormat) -> None:
    driver.set("name", "qemu")
    driver.set("type", image_format.value)
    if image_format is not ImageFormat.QCOW2:
        for attribute in _OF_QCOW2:
            driver.attrib.pop(attribute, "")
        for cache in driver.findall("metadata_cache"):
            driver.remove(cache)


def _empty(disk: etree._Element, target: str) -> Iterator[str]:
    if disk.find("source") is not None:
        yield f"Drive {target} is empty: its medium was not captured."
    _forget_storage(disk)
    disk.set("type", "file")
    driver = disk.find("driver")
    if driver is not None:
        driver.set("type", ImageFormat.RAW.value)


def _forget_storage(disk: etree._Element) -> None:
    for tag in ("source", *_OF_OLD_STORAGE):
        for element in disk.findall(tag):
            disk.remove(element)
    for attribute in _OF_PASSTHROUGH:
        disk.attrib.pop(attribute, "")


def _warnings(root: etree._Element) -> Iterator[str]:
    """Yield what was not captured."""
    if root.find("os/nvram") is not None or root.find("os[@firmware='efi']") is not None:
        yield "The UEFI variables were not captured; libvirt makes new ones where the old are not on this host."
    if root.find("./devices/tpm/backend[@type='emulator']") is not None:
        yield "The TPM's state was not captured: what is sealed with it cannot be opened."


def _attribute(parent: etree._Element, tag: str, attribute: str) -> str:
    element = parent.find(tag)
    return element.get(attribute, "") if element is not None else ""


def _remove(element: etree._Element) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)
