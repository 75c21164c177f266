"""The block devices in a guest, as its agent lists them and libvirt maps them to the guest's disks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import libvirt

from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError, telling


@dataclass(frozen=True)
class GuestDevice:
    """One block device in a guest: a disk, a partition, or a volume of LVM, MD or dm-crypt.

    The agent of a Windows guest lists disks alone. [qga/commands-win32.c: qmp_guest_get_disks]
    """

    name: str  # in the guest's words: /dev/vda1
    partition: bool = False
    below: tuple[str, ...] = ()  # the devices that it lies on: a partition's disk, the parts of a volume
    disk: str | None = None  # the target of the disk that libvirt knows at its address; None for other devices


def guest_devices(domain: Domain, timeout_s: int) -> list[GuestDevice]:
    """Ask the agent for the guest's block devices (guest-get-disks, from QEMU 5.2 on). Raises AgentError."""
    with telling(f"asking {domain} for its block devices", AgentError):
        domain.handle.agentSetResponseTimeout(timeout_s)
        try:
            return devices_of(domain.handle.guestInfo(libvirt.VIR_DOMAIN_GUEST_INFO_DISKS, 0))
        finally:
            domain.handle.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK)


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
            )
        )
    return found
