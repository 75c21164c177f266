"""Ask this host's kernel whether a device that a guest is given holds data. Reads /sys only, which waits for no device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from workers.hypervisor.passed_through import PassedDevice, passed_devices
from workers.identity.storage import SYS

#: SCSI's peripheral device types with a medium of blocks: disk, write-once, optical, reduced, zoned. /sys has them in decimal.
_SCSI_DISKS: Final = frozenset({"0", "4", "7", "14", "20"})
#: PCI's base class of mass storage controllers, and Fibre Channel's among the serial buses. [PCI Code and ID Assignment]
_PCI_STORAGE: Final = ("0x01", "0x0c04")
#: Buses to which drives may be connected: FireWire, USB, InfiniBand's and other serial buses.
_PCI_MAYBE: Final = "0x0c"
_USB_STORAGE: Final = "08"


def passed_of(domain_xml: str, sys: Path = SYS) -> dict[PassedDevice, bool | None]:
    """Return the devices of a running guest, beside its disks, on which data may lie, and whether each holds data."""
    return {device: holds_data(device, sys) for device in passed_devices(domain_xml)}


def holds_data(device: PassedDevice, sys: Path = SYS) -> bool | None:
    """Return True if the device is storage, False if it is none, None if that cannot be told."""
    match device.kind:
        case "scsi":
            kind = _read(sys / "bus/scsi/devices" / device.address / "type") if device.address else None
            return kind is None or kind in _SCSI_DISKS
        case "scsi_host" | "memory":
            return True
        case "pci":
            return _pci(sys / "bus/pci/devices" / device.address)
        case "usb":
            return _usb(device.address, sys)
        case "mdev":
            return _mediated(device, sys)
    return None


def _pci(directory: Path) -> bool | None:
    found = _read(directory / "class")
    if found is None or (found.startswith(_PCI_MAYBE) and not found.startswith(_PCI_STORAGE)):
        return None
    return found.startswith(_PCI_STORAGE)


def _mediated(device: PassedDevice, sys: Path) -> bool | None:
    """A channel of s390x is a DASD's, as far as anybody passes one on; others are part of the PCI device that makes them."""
    if device.model in {"vfio-ccw", "vfio-ap"}:
        return device.model == "vfio-ccw"
    return _pci((sys / "bus/mdev/devices" / device.address).resolve().parent)


def _usb(address: str, sys: Path) -> bool | None:
    found = [one for one in _usb_devices(sys) if address in _usb_addresses(one)]
    if not found:
        return None
    return any(_read(kind) == _USB_STORAGE for one in found for kind in one.glob("*/bInterfaceClass"))


def _usb_devices(sys: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (sys / "bus/usb/devices").iterdir()


def _usb_addresses(directory: Path) -> set[str]:
    names = ("busnum", "devnum", "idVendor", "idProduct")
    bus, device, vendor, product = (_read(directory / name) for name in names)
    return {f"{bus}/{device}", f"{vendor}:{product}"} if bus else set()


def _read(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    return None
