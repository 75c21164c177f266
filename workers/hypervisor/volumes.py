"""Disks that are volumes of storage pools: a definition names pool and volume, and libvirt knows the path on this host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from workers.hypervisor import bitmaps
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError, HypervisorUnreachableError


@dataclass(frozen=True)
class Unlocated:
    """A disk in a volume of which libvirt does not tell where it is."""

    target: str
    pool: str
    volume: str
    why: str


@dataclass(frozen=True)
class Images:
    """The images of a guest's disks that can have bitmaps here, with their targets, and the volumes that nobody knows."""

    found: tuple[tuple[str, Path], ...] = ()
    unlocated: tuple[Unlocated, ...] = ()

    @property
    def paths(self) -> list[Path]:
        return [path for _, path in self.found]


def located(domain: Domain, disk: DomainDisk) -> DomainDisk:
    """Return a disk with its volume's path as its source; one that is no volume, or of no path, as it is.

    Raises HypervisorError if libvirt does not find the volume: its pool is gone, or not started.
    """
    if disk.source_type != "volume":
        return disk
    path = domain.volume_path(*_names(disk))
    return replace(disk, source=path, source_type="file") if path.startswith("/") else disk


def images_with_bitmaps(domain: Domain, disks: Iterable[DomainDisk]) -> Images:
    """Return where bitmaps of these disks may be stored. Raises HypervisorUnreachableError."""
    found: list[DomainDisk] = []
    unlocated = []
    for disk in disks:
        if not bitmaps.can_have(disk):
            continue
        try:
            found.append(located(domain, disk))
        except HypervisorUnreachableError:
            raise
        except HypervisorError as error:
            unlocated.append(Unlocated(disk.target, *_names(disk), error.message.rstrip(".")))
    return Images(tuple(bitmaps.images_with_bitmaps(found)), tuple(unlocated))


def _names(disk: DomainDisk) -> tuple[str, str]:
    """Return pool and volume. The name of a pool has no slash. [libvirt storage_conf.c: virStoragePoolDefParseXML]"""
    pool, _, volume = disk.source.partition("/")
    return pool, volume
