"""Which storage each disk of the running guests of this host uses, by keys that are equal for the same storage (`places`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from freezeframe.network_key import iscsi_key, network_keys
from workers.fitness.sharing import DiskUse
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.disk import disks_of
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError
from workers.hypervisor.passed_through import PassedDevice, passed_devices
from workers.identity import rbd, stack
from workers.identity.asking import Question, ask_all
from workers.identity.places import Places, joined, of_device, places_of
from workers.identity.sources import Source, sources_of
from workers.identity.storage import SYS

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
    """Return the storage of every disk and device of one running guest. Raises HypervisorError, GuestGoneError if it is off."""
    domain = hypervisor.domain(guest_uuid)
    if not domain.active():
        raise GuestGoneError(f"Guest {domain.name} does not run.")
    return _uses(list(_disks_in_use(hypervisor, domain)))


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
        own = joined(next(answers) for _ in disk.own)
        shown = joined([own, *(next(answers) for _ in disk.below)])
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
    return joined(ask_all(list(_passed_questions(device, sys)), PATIENCE_S))


def _passed_questions(device: PassedDevice, sys: Path) -> Iterator[Question[Places]]:
    if device.iscsi:
        yield _known(Places(frozenset({iscsi_key(device.iscsi)})))
    elif device.kind == "scsi" and device.address:
        blocks = stack.entries(sys / "bus/scsi/devices" / device.address / "block")
        yield _known(joined(of_device(block.resolve(), sys) for block in blocks))
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
