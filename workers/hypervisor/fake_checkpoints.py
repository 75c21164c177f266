# ruff: noqa: S101  a caller that asks wrongly is a failed test
"""A guest with checkpoints and bitmaps, without libvirt: what libvirt 9.0 answers and refuses while it runs and is off."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt

from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError

METADATA_ONLY = libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY


class FakeLibvirtError(libvirt.libvirtError):  # type: ignore[misc]  # libvirt has no types
    """As libvirt's own; one that is made by hand has no code."""

    def __init__(self, text: str, code: int = libvirt.VIR_ERR_OPERATION_INVALID, domain: int = 10) -> None:
        super().__init__(text)
        self.err = (code, domain, text, 2, "", None, None, 0, 0)


@dataclass
class Checkpoint:
    """One of libvirt's checkpoints."""

    guest: CheckpointedGuest
    name: str

    def getName(self) -> str:  # noqa: N802  libvirt's name
        return self.name

    def getXMLDesc(self) -> str:  # noqa: N802
        return "<domaincheckpoint/>"

    def delete(self, flags: int = 0) -> None:
        assert flags in {0, METADATA_ONLY}
        if self.guest.refusal is not None:
            raise self.guest.refusal
        if not flags:
            if not self.guest.running:
                raise FakeLibvirtError("cannot delete checkpoint for inactive domain")
            if self.guest.passing:
                raise FakeLibvirtError(self.guest.passing.pop())
            assert self.name in self.guest.memory, "bitmap not found"
            self.guest.memory.remove(self.name)
        self.guest.checkpoints.remove(self.name)


@dataclass
class CheckpointedGuest(Domain):
    """A guest: libvirt's checkpoints, the bitmaps in QEMU's memory while it runs, and those in its image."""

    image: Path
    running: bool = True
    checkpoints: list[str] = field(default_factory=list)
    memory: list[str] = field(default_factory=list)
    passing: list[str] = field(default_factory=list)  # why the next deletions fail
    refusal: Exception | None = None
    monitor_refuses: bool = False
    backup: str | None = None  # its XML
    pool: str = ""  # of which its image is a volume
    pool_is_gone: bool = False

    def __post_init__(self) -> None:
        self.uuid, self.name, self.handle = "00000000-0000-4000-8000-00000000000a", "alpha", self

    def active(self) -> bool:
        return self.running

    def state(self) -> str:
        return "running" if self.running else "shut off"

    def backupGetXMLDesc(self) -> str:  # noqa: N802  libvirt's name
        if self.backup is None:
            raise FakeLibvirtError("no backup", libvirt.VIR_ERR_NO_DOMAIN_BACKUP)
        return self.backup

    def isActive(self) -> bool:  # noqa: N802  libvirt's name
        return self.running

    def jobStats(self) -> dict[str, int]:  # noqa: N802  libvirt's name
        return {"type": libvirt.VIR_DOMAIN_JOB_NONE if self.backup is None else libvirt.VIR_DOMAIN_JOB_UNBOUNDED}

    def abortJob(self) -> None:  # noqa: N802  libvirt's name
        self.backup = None

    def disks(self) -> list[DomainDisk]:
        return [
            DomainDisk(
                target="vda",
                source=f"{self.pool}/{self.image.name}" if self.pool else str(self.image),
                source_type="volume" if self.pool else "file",
                source_format="qcow2",
                device="disk",
                transient=False,
            )
        ]

    def volume_path(self, pool: str, volume: str) -> str:
        assert (pool, volume) == (self.pool, self.image.name)
        if self.pool_is_gone:
            raise HypervisorError(f"looking for volume {volume} of pool {pool} failed: no storage pool")
        return str(self.image)

    def checkpointLookupByName(self, name: str) -> Checkpoint:  # noqa: N802  libvirt's name
        if name not in self.checkpoints:
            raise FakeLibvirtError("no such checkpoint", libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT)
        return Checkpoint(self, name)

    def checkpointCreateXML(self, _xml: str, flags: int) -> None:  # noqa: N802
        assert flags == libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE

    def listAllCheckpoints(self) -> list[Checkpoint]:  # noqa: N802
        return [Checkpoint(self, name) for name in self.checkpoints]

    def monitor(self, command: str, **arguments: Any) -> Any:
        assert self.running
        if command == "query-named-block-nodes":
            return [{"node-name": "format", "drv": "qcow2", "dirty-bitmaps": [{"name": name} for name in self.memory]}]
        assert command == "block-dirty-bitmap-remove"
        assert arguments["node"] == "format"
        if self.monitor_refuses:
            raise HypervisorError("Bitmap is currently in use")
        self.memory.remove(arguments["name"])
        return {}
