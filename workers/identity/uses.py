"""Which storage each disk of the running guests of this host uses, by keys that are equal for the same storage on this host.

Unlike an identity, a key need not outlive a reboot, and it must be the same whichever name leads to the storage: a second
path, a hard link, a second node of one device, a loop device over the file, a second path to a LUN.

A device has the keys of all that lies on it too, and lies *within* all that it lies on itself (`stack`): a whole disk shares
with each of its partitions and volumes, and two partitions share nothing. A file lies within the device that its file system
is on, and so does every other file there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from freezeframe.network_key import iscsi_key, network_keys
from freezeframe.storage_key import everywhere_key
from workers.fitness.sharing import DiskUse
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.disk import disks_of
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError
from workers.hypervisor.passed_through import PassedDevice, passed_devices
from workers.identity import rbd, stack
from workers.identity.asking import Question, ask_all
from workers.identity.data_file import data_file_of
from workers.identity.network_file import keys_of_file, keys_on_device
from workers.identity.sources import Source, sources_of
from workers.identity.storage import SYS, facts_at

#: Seconds for all storage together to say what it is; less than those who ask have for one guest (`steps/sole_writer.ONE_S`).
PATIENCE_S = 8.0


def disk_uses(hypervisor: Hypervisor) -> list[DiskUse]:
    """Return the storage of every disk and passed-through device of the running guests of this host. Raises HypervisorError.

    All storage is asked side by side: what hangs is not known, and keeps nothing else waiting.
    """
    found: list[_Disk] = []
    for domain in hypervisor.domains():
        try:
            if domain.active():
                found += _disks_in_use(hypervisor, domain)
        except GuestGoneError:  # it was undefined, or its transient guest ended, since it was listed
            continue
    return _uses(found)


def uses_of_guest(hypervisor: Hypervisor, guest_uuid: str) -> list[DiskUse]:
    """Return the storage of every disk and device of one guest; nothing if it does not run. Raises HypervisorError."""
    domain = hypervisor.domain(guest_uuid)
    return _uses(list(_disks_in_use(hypervisor, domain))) if domain.active() else []


@dataclass(frozen=True)
class _Disk:
    """A disk or device of a running guest, and the questions about its storage."""

    domain: Domain
    target: str
    own: tuple[Question[Places], ...]
    below: tuple[Question[Places], ...] = ()
    readonly: bool = False
    if_known: bool = False  # it counts only where this host has its storage as a device or file


def _uses(disks: Sequence[_Disk]) -> list[DiskUse]:
    """Ask for the storage of all disks side by side."""
    answers = iter(ask_all([one for disk in disks for one in (*disk.own, *disk.below)], PATIENCE_S))
    uses = []
    for disk in disks:
        own = _joined(next(answers) for _ in disk.own)
        shown = _joined([own, *(next(answers) for _ in disk.below)])
        if shown.keys or not disk.if_known:
            uses.append(_use(disk.domain, disk.target, shown, Places() if disk.readonly else own))
    return uses


def _disks_in_use(hypervisor: Hypervisor, domain: Domain) -> Iterator[_Disk]:
    xml = domain.live_xml()
    sources = sources_of(xml)
    for disk in disks_of(xml):
        if (behind := sources.get(disk.target)) is None:
            continue
        ask = partial(_question, hypervisor, domain.uuid)
        written = (source for source in (behind.active, behind.data_file, behind.mirror) if source is not None)
        own = tuple(map(ask, written))
        yield _Disk(domain, disk.target, own, tuple(map(ask, behind.backing)), disk.readonly)
    for device in passed_devices(xml):
        yield _Disk(domain, device.name, tuple(_passed_questions(device, SYS)), readonly=device.readonly, if_known=True)


def _use(domain: Domain, target: str, shown: Places, written: Places) -> DiskUse:
    return DiskUse(domain.uuid, domain.name, target, shown.keys, written.keys, shown.within, written.within)


def passed_places(device: PassedDevice, sys: Path = SYS) -> Places:
    """Return where a SCSI device, vhost-scsi target or persistent memory of a guest is; nowhere if the host gave it away."""
    return _joined(ask_all(list(_passed_questions(device, sys)), PATIENCE_S))


def _passed_questions(device: PassedDevice, sys: Path) -> Iterator[Question[Places]]:
    if device.iscsi:
        yield _known(Places(frozenset({iscsi_key(device.iscsi)})))
    elif device.kind == "scsi" and device.address:
        blocks = stack.entries(sys / "bus/scsi/devices" / device.address / "block")
        yield _known(_joined(_of_device(block.resolve(), sys) for block in blocks))
    elif device.kind == "memory" and device.address:
        yield _at(device.address, sys)
    elif device.kind == "scsi_host" and device.address:
        yield from (_at(path, sys) for path in _exported(device.address, sys))


def _known(places: Places) -> Question[Places]:
    return Question(None, lambda: places, places)


def _at(path: str, sys: Path, *, is_qcow2: bool = False) -> Question[Places]:
    """Ask for the storage at a path. One that does not answer is known by its name alone."""
    directory = os.path.dirname(path)  # noqa: PTH120  a pathlib.Path would not keep a path as it is written
    by_name = Places(frozenset({f"path {path}"}))
    return Question(f"The storage in {directory}", lambda: places_of(path, is_qcow2=is_qcow2, sys=sys), by_name)


def _exported(wwpn: str, sys: Path) -> Iterator[str]:
    """Yield the devices and files behind the LUNs of a vhost-scsi target of this host's kernel.

    A LUN's directory has a link to its storage's, in which `udev_path` is what the administrator named. [linux drivers/target]
    """
    for group in stack.entries(sys / "kernel/config/target/vhost" / wwpn):
        links = [link for lun in stack.entries(group / "lun") for link in stack.entries(lun) if link.is_symlink()]
        for link in links:
            with suppress(OSError):
                if path := (link / "udev_path").read_text(encoding="utf-8", errors="surrogateescape").strip():
                    yield path


@dataclass(frozen=True)
class Places:
    """The keys of some storage, and those of what it lies within."""

    keys: frozenset[str] = frozenset()
    within: frozenset[str] = frozenset()


def _joined(found: Iterable[Places]) -> Places:
    known = list(found)
    return Places(
        frozenset(key for one in known for key in one.keys), frozenset(key for one in known for key in one.within)
    )


def _question(hypervisor: Hypervisor, guest_uuid: str, source: Source) -> Question[Places]:
    """Ask for the storage behind a source; libvirt first, over a connection of its own, where it is a pool's volume."""
    if source.volume:
        pool, volume = source.volume
        return Question(
            f"Storage pool {pool}",
            lambda: _in_pool(hypervisor.domain(guest_uuid).volume_path(pool, volume), source),
            Places(_named_keys(source, None)),  # also a pool that is not there any more, while its guest runs on
        )
    if source.path is None or not source.path.startswith("/"):
        return _known(Places(_named_keys(source, source.path)))
    return _at(source.path, SYS, is_qcow2=source.is_qcow2)


def _in_pool(path: str, source: Source) -> Places:
    if not path.startswith("/"):
        return Places(_named_keys(source, path))
    (found,) = ask_all(
        [_at(path, SYS, is_qcow2=source.is_qcow2)], PATIENCE_S / 2
    )  # its path is known, though it may hang
    return found


def _named_keys(source: Source, path: str | None) -> frozenset[str]:
    """Return the keys of storage that is no path here; `path` is that of a volume in a pool of RBD images."""
    facts = dict(source.facts)
    image = frozenset({f"image {path}"}) if path else frozenset[str]()
    if facts.get("protocol") == "rbd":
        snapshot = f"@{facts['snapshot']}" if facts.get("snapshot") else ""
        return image | rbd.keys_of_source(f"{facts.get('name', '')}{snapshot}", source.servers, source.config)
    return image | (network_keys(facts) or frozenset({f"named {source.kind} {source.place} {source.facts}"}))


def keys_of(path: str, *, is_qcow2: bool = False, sys: Path = SYS) -> frozenset[str]:
    """Return the keys of what is at `path`, with the data file that a qcow2 names. Raises OSError."""
    return places_of(path, is_qcow2=is_qcow2, sys=sys).keys


def places_of(path: str, *, is_qcow2: bool = False, sys: Path = SYS) -> Places:
    """Return where the storage at `path` is, with the data file that a qcow2 names. Raises OSError."""
    found = [Places(frozenset({f"path {path}"})), _place(path, sys)]
    if is_qcow2 and (data_file := data_file_of(path)) is not None and data_file.startswith("/"):
        found.append(_place(data_file, sys))
    return _joined(found)


def _place(path: str, sys: Path) -> Places:
    seen = Path(path).stat()
    if not stat.S_ISBLK(seen.st_mode):
        return _of_file(path, seen, sys)
    number = frozenset({f"number {os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}"})
    directory = stack.directory_of(seen.st_rdev, sys)
    if directory is None:
        return Places(number)
    return _joined([Places(number), _of_device(directory, sys)])


def _of_device(directory: Path, sys: Path) -> Places:
    own = _of_loop(directory, sys)
    return Places(own.keys | _names(stack.above(directory), sys), own.within | _below(directory, sys))


def _of_file(path: str, seen: os.stat_result, sys: Path) -> Places:
    own = frozenset({f"file {seen.st_dev}:{seen.st_ino}"})
    under = stack.directory_of(seen.st_dev, sys)
    if under is None:
        return Places(own | keys_of_file(path, seen))
    named = keys_on_device(path, seen.st_ino, everywhere_key(facts_at(under, sys)))
    return Places(own | named, _names({under}, sys) | _below(under, sys))


def _of_loop(directory: Path, sys: Path) -> Places:
    """Return the places of the file behind a loop device, which is the same storage; none if it is no loop device."""
    with suppress(OSError):  # its file was deleted
        if (file := stack.loop_file(directory)) is not None:
            return _of_file(file, Path(file).stat(), sys)
    return Places()


def _below(directory: Path, sys: Path) -> frozenset[str]:
    """Return the keys of all devices that one lies on, and of the files behind loop devices among them."""
    devices = stack.below(directory, sys)
    files = (_of_loop(one, sys).keys for one in devices)
    return _names(devices, sys).union(*files)


def _names(devices: Iterable[Path], sys: Path) -> frozenset[str]:
    """Return the keys of devices: the kernel's names, and those that a second path to the same storage has too."""
    known = list(devices)
    facts = [facts_at(one, sys) for one in known]
    found = [*map(everywhere_key, facts), *(_iscsi(one) for one in known)]
    images = (rbd.keys_of_device(own, one, sys) for own, one in zip(facts, known, strict=True))
    kernel = frozenset(f"device {one.name}" for one in known)
    return kernel.union({key for key in found if key is not None}, *images)


def _iscsi(directory: Path) -> str | None:
    """Return the key of a LUN to which the kernel has a session, as QEMU's own access to it has."""
    device = (directory / "device").resolve()
    session = next((one for one in device.parents if one.name.startswith("session")), None)
    if session is None:
        return None
    with suppress(OSError):
        target = (session / "iscsi_session" / session.name / "targetname").read_text(encoding="utf-8").strip()
        return iscsi_key(f"{target}/{device.name.rpartition(':')[2]}")
    return None
