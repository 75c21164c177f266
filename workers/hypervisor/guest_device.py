"""The block devices in a guest, as its agent lists them and libvirt maps them to the guest's disks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GuestDevice:
    """One block device in a guest: a disk, a partition, or a volume of LVM, MD or dm-crypt.

    The agent of a Windows guest lists disks alone. [qga/commands-win32.c: qmp_guest_get_disks]
    """

    name: str  # in the guest's words: /dev/vda1
    partition: bool = False
    below: tuple[str, ...] = ()  # the devices that it lies on: a partition's disk, the parts of a volume
    disk: str | None = None  # the target of the disk that libvirt knows at its address; None for other devices
    alias: str | None = None  # the device mapper's name, as vg-root; None for other devices

    def __str__(self) -> str:
        return self.name if self.alias is None else f"{self.name} ({self.alias})"


def devices_of(info: Mapping[str, Any]) -> list[GuestDevice]:
    """Return the devices in an answer of virDomainGetGuestInfo. Pure."""
    found = []
    for number in range(info.get("disk.count", 0)):
        own = f"disk.{number}"
        below = range(info.get(f"{own}.dependency.count", 0))
        found.append(
            GuestDevice(
                name=info[f"{own}.name"],
                partition=info.get(f"{own}.partition", False),
                below=tuple(info[f"{own}.dependency.{one}.name"] for one in below),
                disk=info.get(f"{own}.alias"),
                alias=info.get(f"{own}.guest_alias"),
            )
        )
    return found
