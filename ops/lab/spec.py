"""What a lab, a guest and a disk shall be."""

from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ops.lab.profile import ProfileName

_GREEK = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu")


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DiskSpec(_Spec):
    """A disk, CD-ROM or floppy; its bus follows from its target: vd* virtio, sd* SATA, hd* IDE, fd* floppy.

    `source` is an image made by somebody else, used as it is; without it a blank one is made in the guest's folder.
    """

    target: str = "vda"
    size_mib: int = 512
    format: Literal["qcow2", "raw"] = "qcow2"
    device: Literal["disk", "cdrom", "floppy"] = "disk"
    #: libvirt throws away at shutdown what was written; only on device="disk".
    transient: bool = False
    source: Path | None = None


class WorkloadSpec(_Spec):
    """What each disk's writer does from boot on; Guest.set_workload changes all but `fill_mib` while it runs."""

    running: bool = True
    #: A record every 0.2 s leaves an emulated guest mostly idle: two cores carry half a dozen writers.
    interval_s: float = 0.2
    #: Half incompressible, half text; written at the first boot.
    fill_mib: int = 8
    #: Of 4 KiB, at every fifth record, at a pseudo-random place of a file of 4 MiB.
    rewrite_blocks: int = 4


class GuestSpec(_Spec):
    name: str
    #: None: one of libvirt's choice.
    uuid: str | None = None
    disks: tuple[DiskSpec, ...] = (DiskSpec(),)
    agent: bool = True
    #: Virtio ports besides the agent's: /dev/virtio-ports/<name> in the guest, <name>.sock in its folder.
    ports: tuple[str, ...] = ()
    memory_mib: int = 192
    vcpus: int = 1
    workload: WorkloadSpec = WorkloadSpec()


class Placement(_Spec):
    """A guest and the host it is made on."""

    host: str
    guest: GuestSpec


class LabSpec(_Spec):
    hosts: tuple[str, ...] = ("host-a", "host-b")
    guests: tuple[Placement, ...] = ()
    #: Of each host, in their order; the last one's is that of all that follow.
    profiles: tuple[ProfileName, ...] = ("machine",)
    #: None: the first of network.SUBNETS that is free.
    subnet: IPv4Network | None = None
    #: Where guest image kits are kept between labs; None: kit.default_cache().
    kit_cache: Path | None = None
    #: None: what a probe guest shows to work.
    accelerator: Literal["kvm", "qemu"] | None = None

    def profile(self, host: str) -> ProfileName:
        return self.profiles[min(self.hosts.index(host), len(self.profiles) - 1)]

    @classmethod
    def of(cls, hosts: int = 2, guests: int = 3, disks: int = 2, *, size_mib: int = 512) -> "LabSpec":
        """host-a, host-b, … with guests alpha, beta, … shared out in order, the earlier hosts getting more."""
        names = tuple(f"host-{_letters(number)}" for number in range(hosts))
        placements = tuple(
            Placement(host=names[number * hosts // guests], guest=GuestSpec(name=name, disks=blank(disks, size_mib)))
            for number, name in enumerate(_guest_names(guests))
        )
        return cls(hosts=names, guests=placements)


def blank(disks: int, size_mib: int = 512) -> tuple[DiskSpec, ...]:
    """vda, vdb, …"""
    return tuple(DiskSpec(target=f"vd{_letters(number)}", size_mib=size_mib) for number in range(disks))


def _letters(number: int) -> str:
    if number >= 26:
        raise ValueError("more than 26 of a kind is no lab for one machine")
    return chr(ord("a") + number)


def _guest_names(count: int) -> Sequence[str]:
    return [_GREEK[number] if number < len(_GREEK) else f"guest-{number + 1}" for number in range(count)]
