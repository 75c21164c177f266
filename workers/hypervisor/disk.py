"""The disks of a guest, as its definition has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lxml import etree

#: Never resolve entities or fetch anything: the XML may come from a repository.
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True)


def parse(xml: str) -> etree._Element:
    """Parse libvirt XML. Raises ValueError, also for a document type, which libvirt never writes."""
    try:
        root = etree.fromstring(xml.encode(), _PARSER)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"not well-formed XML: {error}") from error
    document: Any = root.getroottree().docinfo  # its stubs do not know of a document without a type
    if document.doctype:
        raise ValueError("it has a document type")
    return root


def text(element: etree._Element) -> str:
    return etree.tostring(element, encoding="unicode")


@dataclass(frozen=True)
class DomainDisk:
    """One <disk> of a definition."""

    target: str
    device: str  # disk, cdrom, floppy, lun
    source_type: str  # file, block, network, volume, vhostuser, …
    source: str  # a path, or what stands for one; empty for a drive without a medium
    source_format: str  # qcow2, raw, …
    transient: bool
    has_data_file: bool = False
    bus: str = ""  # virtio, sata, scsi, …
    shareable: bool = False  # other guests may write to it
    readonly: bool = False  # this guest cannot write to it
    encryption: str | None = None  # the format by which QEMU decrypts it, such as luks


def disks_of(domain_xml: str) -> list[DomainDisk]:
    """All disks of a definition, in its order."""
    return [_disk(element) for element in parse(domain_xml).iterfind("./devices/disk")]


def _disk(element: etree._Element) -> DomainDisk:
    source = element.find("source")
    driver = element.find("driver")
    target = element.find("target")
    return DomainDisk(
        target=target.get("dev", "") if target is not None else "",
        device=element.get("device", "disk"),
        source_type=element.get("type", "file"),
        source=_source_name(source) if source is not None else "",
        source_format=driver.get("type", "raw") if driver is not None else "raw",
        transient=element.find("transient") is not None,
        has_data_file=element.find("source/dataStore") is not None,
        bus=target.get("bus", "") if target is not None else "",
        shareable=element.find("shareable") is not None,
        readonly=element.find("readonly") is not None,
        encryption=_encryption(element),
    )


def _encryption(disk: etree._Element) -> str | None:
    """Return the format of the <encryption>: the disk's own, or that of an image below it."""
    found = disk.find(".//encryption")
    return None if found is None else found.get("format", "default")


def _source_name(source: etree._Element) -> str:
    for attribute in ("file", "dev", "dir"):
        if value := source.get(attribute):
            return value
    if source.get("volume"):
        return f"{source.get('pool')}/{source.get('volume')}"
    if source.get("protocol"):
        return f"{source.get('protocol')}:{source.get('name', '')}"
    return source.get("type", "") or source.get("path", "")
