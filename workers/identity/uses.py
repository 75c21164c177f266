"""Which storage each disk of the running guests of this host uses, by keys that are equal for the same storage (`places`).

| the storage of a running guest                                | counts as                                                   |
|---------------------------------------------------------------|-------------------------------------------------------------|
| tells what it is                                              | that                                                        |
| hangs, or its path is gone, stale or unreadable               | what its QEMU has open that is no other disk of the guest   |
|                                                               | (`open_storage`): so its writes are known. What the disk    |
|                                                               | itself shows is not: its own label claims less              |
| the same, and the kernel has it open, not QEMU: a LUN of a    | unknown, as below                                           |
| vhost-scsi target                                             |                                                             |
| the same, and its QEMU's descriptors do not tell; a pool that | unknown, as any storage of this host: all captured disks    |
| does not tell                                                 | count as moving (`DiskUse.writes_unseen`)                   |

Another name proves nothing: a path that is gone, or does not answer, may have led to any storage. Nor does trouble with one
guest's storage cost other guests their labels, as long as its QEMU's descriptors tell that it is not theirs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
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
from workers.identity.open_storage import OpenStorage, apart_from, of_guest
from workers.identity.places import Places, joined, of_device, places_of
from workers.identity.sources import Source, sources_of, variables_of
from workers.identity.storage import SYS

#: Seconds for all storage together to say what it is, and for descriptors of those that have not; together less than those who
#: ask have for one guest (`steps/sole_writer.ONE_S`).
PATIENCE_S = 7.0
DESCRIPTORS_S = 1.0


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
    return _uses(found, hypervisor.run_dir)


def uses_of_guest(hypervisor: Hypervisor, guest_uuid: str) -> list[DiskUse]:
    """Return the storage of every disk and device of one running guest. Raises HypervisorError, GuestGoneError if it is off."""
    domain = hypervisor.domain(guest_uuid)
    if not domain.active():
        raise GuestGoneError(f"Guest {domain.name} does not run.")
    return _uses(list(_disks_in_use(hypervisor, domain)), hypervisor.run_dir)


@dataclass(frozen=True)
class _Disk:
    """A disk or device of a running guest, and the questions about its storage."""

    domain: Domain
    target: str
    own: tuple[Question[Places], ...]
    below: tuple[Question[Places], ...] = ()
    readonly: bool = False
    if_known: bool = False  # it counts only where this host has its storage as a device or file
    firmware: str | None = None  # the file with the variables of its guest's UEFI, which QEMU has open too


@dataclass(frozen=True)
class _Found:
    """A disk, and where it is: what it shows, its own layers and those below, and what it writes."""

    disk: _Disk
    shown: Places
    own: Places


def _uses(disks: Sequence[_Disk], run_dir: Path | None) -> list[DiskUse]:
    """Ask for the storage of all disks side by side, and for the descriptors of guests whose storage does not tell."""
    answers = iter(ask_all([one for disk in disks for one in (*disk.own, *disk.below)], PATIENCE_S))
    found = []
    for disk in disks:
        own = joined(next(answers) for _ in disk.own)
        shown = joined([own, *(next(answers) for _ in disk.below)])
        if shown.keys or not disk.if_known:
            found.append(_Found(disk, shown, Places() if disk.readonly else own))
    opened = _opened(found, run_dir)
    return [_use(one, opened.get(one.disk.domain.uuid, ())) for one in found]


def _opened(found: Sequence[_Found], run_dir: Path | None) -> dict[str, Sequence[OpenStorage]]:
    """Return, of each guest with writes that are not known, what its QEMU has open that is no other disk of it.

    Nothing for one that has fewer open than it has such disks: then they are not among them.
    """
    late: dict[str, list[_Found]] = {}
    for one in found:
        if one.own.unseen and one.own.is_open:
            late.setdefault(one.disk.domain.uuid, []).append(one)
    if run_dir is None:
        return {}
    questions = [_descriptors(run_dir, ones[0].disk.domain) for ones in late.values()]
    opened: dict[str, Sequence[OpenStorage]] = {}
    for (uuid, ones), storage in zip(late.items(), ask_all(questions, DESCRIPTORS_S), strict=True):
        known = {key for one in found if one.disk.domain.uuid == uuid for key in one.shown.keys}
        firmware = {one.disk.firmware for one in ones}
        rest = [one for one in apart_from(storage, frozenset(known)) if one.writes and one.name not in firmware]
        if len(rest) >= len(ones):
            opened[uuid] = rest
    return opened


def _descriptors(run_dir: Path, domain: Domain) -> Question[Sequence[OpenStorage]]:
    name, uuid = domain.name, domain.uuid
    return Question(f"The descriptors of guest {uuid}", lambda: of_guest(run_dir, name, uuid), ())


def _use(found: _Found, opened: Sequence[OpenStorage]) -> DiskUse:
    """Return the use of a disk, by what its QEMU has open where its storage does not tell."""
    domain, target, own, unseen = found.disk.domain, found.disk.target, found.own, found.shown.unseen
    if own.unseen and own.is_open and opened:
        own = joined([replace(own, unseen=""), *(one.places for one in opened)])
    shown = joined([replace(found.shown, unseen=""), own])
    what = f"disk {target} of guest {domain.name}: "
    return DiskUse(
        domain.uuid,
        domain.name,
        target,
        shown.keys,
        own.keys,
        shown.within,
        own.within,
        unseen=what + unseen if unseen else "",
        writes_unseen=what + own.unseen if own.unseen else "",
    )


def _disks_in_use(hypervisor: Hypervisor, domain: Domain) -> Iterator[_Disk]:
    xml = domain.live_xml()
    sources, firmware = sources_of(xml), variables_of(xml)
    for disk in disks_of(xml):
        if (behind := sources.get(disk.target)) is None:
            continue
        ask = partial(_question, hypervisor, domain.uuid)
        written = (source for source in (behind.active, behind.data_file, behind.mirror) if source is not None)
        own = tuple(map(ask, written))
        yield _Disk(domain, disk.target, own, tuple(map(ask, behind.backing)), disk.readonly, firmware=firmware)
    for device in passed_devices(xml):
        questions = tuple(_passed_questions(device, SYS))
        yield _Disk(domain, device.name, questions, readonly=device.readonly, if_known=True, firmware=firmware)


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
        # the kernel has it open, not QEMU: no descriptor of QEMU's is this
        yield from (_at(path, sys, is_open=False) for path in _exported(device.address, sys))


def _known(places: Places) -> Question[Places]:
    return Question(None, lambda: places, places)


def _at(path: str, sys: Path, *, is_qcow2: bool = False, is_open: bool = True) -> Question[Places]:
    """Ask for the storage at a path, which QEMU has open. One that does not answer has its name, and may be any storage."""
    directory = os.path.dirname(path)  # noqa: PTH120  a pathlib.Path would not keep a path as it is written
    by_name = Places(frozenset({f"path {path}"}), unseen=f"{path} does not tell which storage it is", is_open=is_open)
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
            Places(_named_keys(source, None), unseen=f"storage pool {pool} does not tell where volume {volume} is"),
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
