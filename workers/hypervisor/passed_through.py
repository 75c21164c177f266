"""The devices of a guest, beside its disks, on which data may lie that QEMU cannot back up. Pure.

| in the definition                  | data lies on                                                                     |
|------------------------------------|----------------------------------------------------------------------------------|
| `<hostdev type='scsi'>`            | a LUN of the host, or of an iSCSI target                                         |
| `<hostdev type='scsi_host'>`       | a vhost-scsi target of the host's kernel                                         |
| `<hostdev type='pci'>`             | an NVMe drive, a host adapter, …; or it is a network card: see `device_class`    |
| `<hostdev type='usb'>`             | a USB drive, or it is another device                                             |
| `<hostdev type='mdev'>`            | a DASD of s390x (vfio-ccw), or it is a virtual GPU                               |
| `<memory model='nvdimm'>` and pmem | a file or device of the host, as persistent memory                               |
| `<filesystem>`                     | a directory of the host                                                          |
| `<qemu:arg value='-drive'/>`, …    | a drive or device that libvirt does not know of: see `past_libvirt`              |

`<shmem>` and `<redirdev>` are left out: memory is not captured, and a redirected device is its viewer's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from lxml import etree

from workers.hypervisor.disk import parse
from workers.hypervisor.past_libvirt import told_to_qemu

_QEMU: Final = "{http://libvirt.org/schemas/domain/qemu/1.0}"
#: As a target name has to be, which a device is left out by. libvirt's own names are so; a user's begin with "ua-".
_NAME: Final = re.compile(r"[a-z][a-z0-9]{1,15}")
_MEMORY: Final = ("nvdimm", "virtio-pmem")


@dataclass(frozen=True)
class PassedDevice:
    """One device on which data may lie that no backup of the guest can read."""

    name: str  # libvirt's alias, such as hostdev0; the caller leaves it out by that
    kind: str  # scsi, scsi_host, pci, usb, mdev, memory, directory, option
    what: str  # for people
    address: str = ""  # by which this host's kernel knows it; the path of memory
    model: str = ""
    readonly: bool = False  # the guest cannot write to it
    iscsi: str = ""  # the target's name and LUN that QEMU itself connects to


def passed_devices(domain_xml: str) -> list[PassedDevice]:
    """Return the devices of a definition on which data may lie, beside its disks."""
    root = parse(domain_xml)
    taken = {target.get("dev", "") for target in root.iterfind("./devices/disk/target")}
    found = []
    for element, device in _devices(root):
        name = _alias(element)
        if name in taken or not _NAME.fullmatch(name):
            name = next(free for n in range(len(taken) + 1) if (free := f"{device.name}{n}") not in taken)
        taken.add(name)
        found.append(replace(device, name=name))
    return found


def _devices(root: etree._Element) -> Iterator[tuple[etree._Element, PassedDevice]]:
    """Yield each device, with the beginning of a name for one that has none."""
    for element in root.iterfind("./devices/hostdev"):
        if (device := _host_device(element)) is not None:
            yield element, device
    for element in root.iterfind("./devices/memory"):
        if element.get("model") in _MEMORY:
            place = element.findtext("source/path", "")
            readonly = element.find("target/readonly") is not None
            yield element, PassedDevice("memory", "memory", f"persistent memory {place}", place, readonly=readonly)
    for element in root.iterfind("./devices/filesystem"):
        source, target = element.find("source"), element.find("target")
        place = "" if source is None else source.get("dir") or source.get("file") or source.get("socket") or ""
        tag = "" if target is None else target.get("dir", "")
        readonly = element.find("readonly") is not None
        yield element, PassedDevice("fs", "directory", f"the host's directory {place} ({tag})", readonly=readonly)
    words = [one.get("value", "") for one in root.iterfind(f"./{_QEMU}commandline/{_QEMU}arg")]
    for what in told_to_qemu(words):
        yield root, PassedDevice("option", "option", f"{what}, past libvirt")


def _host_device(element: etree._Element) -> PassedDevice | None:
    kind, source = element.get("type", ""), element.find("source")
    if element.get("mode") == "capabilities":
        return PassedDevice("hostdev", "scsi", f"{kind} device") if kind == "storage" else None
    if source is None:
        return None
    readonly, iscsi = element.find("readonly") is not None, ""
    match kind:
        case "scsi":
            what, address = _scsi(source)
            iscsi = source.get("name", "") if source.get("protocol") == "iscsi" else ""
        case "scsi_host":
            address = source.get("wwpn", "")
            what = f"vhost-scsi target {address}"
        case "pci":
            address = "{:04x}:{:02x}:{:02x}.{:x}".format(*_numbers(source, "domain", "bus", "slot", "function"))
            what = f"PCI device {address}"
        case "usb":
            what, address = _usb(source)
        case "mdev":
            one = source.find("address")
            address = "" if one is None else one.get("uuid", "")
            what = f"mediated device {address}"
        case _:
            return None
    return PassedDevice("hostdev", kind, what, address, element.get("model", ""), readonly, iscsi)


def _scsi(source: etree._Element) -> tuple[str, str]:
    if source.get("protocol"):
        return f"{source.get('protocol')} LUN {source.get('name', '')}", ""
    adapter = source.find("adapter")
    host = "" if adapter is None else adapter.get("name", "").removeprefix("scsi_host")
    bus, target, unit = _numbers(source, "bus", "target", "unit")
    address = f"{host}:{bus}:{target}:{unit}"
    return f"SCSI device {address}", address


def _usb(source: etree._Element) -> tuple[str, str]:
    """Return the address as bus/device, or as vendor:product where the definition has only that."""
    if source.find("address") is not None:
        bus, device = _numbers(source, "bus", "device")
        return f"USB device {bus}/{device}", f"{bus}/{device}"
    vendor, product = source.find("vendor"), source.find("product")
    ids = ":".join(
        "" if one is None else one.get("id", "").removeprefix("0x").zfill(4).lower() for one in (vendor, product)
    )
    return f"USB device {ids}", ids


def _numbers(source: etree._Element, *names: str) -> list[int]:
    """Return numbers of the address, which libvirt writes in decimal or as 0x…."""
    address = source.find("address")
    found = [address.get(name, "0") if address is not None else "0" for name in names]
    return [int(text, 16 if text.startswith("0x") else 10) for text in found]


def _alias(element: etree._Element) -> str:
    alias = element.find("alias")
    return "" if alias is None else alias.get("name", "")
