"""Which storage each disk of the running guests of this host uses, by keys that are equal for the same storage on this host.

Unlike an identity, a key need not outlive a reboot, and it must be the same whichever name leads to the storage: a second
path, a hard link, a second node of one device, a loop device over the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from freezeframe.errors import FreezeframeError
from workers.bounded import answered
from workers.fitness.sharing import DiskUse
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.disk import disks_of
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError
from workers.identity.data_file import data_file_of
from workers.identity.sources import DiskSources, Source, sources_of
from workers.identity.storage import SYS

#: Seconds for the storage in one directory to say what it is.
PATIENCE_S = 10.0

FindVolume = Callable[[str, str], str | None]


def disk_uses(hypervisor: Hypervisor) -> list[DiskUse]:
    """Return every disk that a running guest of this host has a source for. Raises HypervisorError."""
    found: list[DiskUse] = []
    for domain in hypervisor.domains():
        try:
            if domain.active():
                found += _uses_of(hypervisor, domain)
        except GuestGoneError:  # it was undefined, or its transient guest ended, since it was listed
            continue
    return found


def _uses_of(hypervisor: Hypervisor, domain: Domain) -> Iterator[DiskUse]:
    xml = domain.live_xml()
    sources = sources_of(xml)
    for disk in disks_of(xml):
        if (behind := sources.get(disk.target)) is None:
            continue
        volume_path = _volume_finder(hypervisor, domain.uuid)
        own = _own_keys(volume_path, behind)
        below = frozenset(key for source in behind.backing for key in _keys(volume_path, source))
        writes = frozenset[str]() if disk.readonly else own
        yield DiskUse(domain.uuid, domain.name, disk.target, own | below, writes)


def _volume_finder(hypervisor: Hypervisor, guest_uuid: str) -> FindVolume:
    """Ask libvirt over a connection of its own: a pool whose storage is away may keep it waiting."""

    def find(pool: str, volume: str) -> str | None:
        call = partial(_volume_path, hypervisor, guest_uuid, pool, volume)
        return answered(f"Storage pool {pool}", PATIENCE_S, call)

    return find


def _volume_path(hypervisor: Hypervisor, guest_uuid: str, pool: str, volume: str) -> str | None:
    return hypervisor.domain(guest_uuid).volume_path(pool, volume)


def _own_keys(volume_path: FindVolume, behind: DiskSources) -> frozenset[str]:
    found = {*_keys(volume_path, behind.active), *(_keys(volume_path, behind.data_file) if behind.data_file else ())}
    return frozenset(found)


def _keys(volume_path: FindVolume, source: Source) -> set[str]:
    try:
        path = volume_path(*source.volume) if source.volume else source.path
    except FreezeframeError:  # a pool that is not there any more, while its guest runs on
        path = None
    if path is None or not path.startswith("/"):
        return {f"named {source.kind} {source.place} {source.facts}"}
    directory = os.path.dirname(path)  # noqa: PTH120  a pathlib.Path would not keep a path as it is written
    try:
        return answered(f"The storage in {directory}", PATIENCE_S, lambda: keys_of(path, is_qcow2=source.is_qcow2))
    except (OSError, FreezeframeError):  # a storage that does not answer is known by its name alone
        return {f"path {path}"}


def keys_of(path: str, *, is_qcow2: bool = False, sys: Path = SYS) -> set[str]:
    """Return the keys of what is at `path`, with the data file that a qcow2 names. Raises OSError."""
    found = {f"path {path}", *_stat_keys(path, sys)}
    if is_qcow2 and (data_file := data_file_of(path)) is not None and data_file.startswith("/"):
        found |= _stat_keys(data_file, sys)
    return found


def _stat_keys(path: str, sys: Path) -> set[str]:
    seen = Path(path).stat()
    if not stat.S_ISBLK(seen.st_mode):
        return {f"file {seen.st_dev}:{seen.st_ino}"}
    number = f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}"
    backing = sys / "dev/block" / number / "loop/backing_file"
    try:
        behind = _stat_keys(backing.read_text(encoding="utf-8").strip(), sys)
    except OSError:  # no loop device, or its file was deleted
        behind = set()
    return {f"device {number}", *behind}
