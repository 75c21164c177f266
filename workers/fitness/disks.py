"""Decide which disks of a guest are captured, which are left out, and which refuse the capture. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from freezeframe.contract.result import SkippedDisk
from freezeframe.naming import NamedGuest
from workers.fitness.encryption import encryption_refusal
from workers.fitness.leaving_out import left_out, not_capturable
from workers.fitness.passed_through import Passed, left_out_devices
from workers.hypervisor.disk import DomainDisk
from workers.refusal import DiskNotCapturableError, NoDiskError

_DRIVES: Final = {"cdrom": "CD-ROM", "floppy": "floppy"}


@dataclass(frozen=True)
class Obstacle:
    """Why a disk cannot be captured. A harmless one has no state of the guest's own, so leaving it out loses nothing."""

    reason: str
    harmless: bool


def obstacle(disk: DomainDisk) -> Obstacle | None:
    """Return the reason why this disk cannot be captured, None if it can."""
    if disk.device in _DRIVES:
        return Obstacle(f"it is a {_DRIVES[disk.device]} drive, whose medium is not the guest's own", harmless=True)
    reason = _hindrance(disk)
    if reason is not None:
        return Obstacle(reason, harmless=False)
    return None if disk.source else Obstacle("it has no source", harmless=True)


def _hindrance(disk: DomainDisk) -> str | None:
    """Return the reason why a disk with data of the guest's own cannot be captured."""
    if disk.device == "lun":
        return "it is a SCSI device passed through, which QEMU cannot back up"
    if disk.transient:
        return "it is transient: libvirt throws its content away when the guest stops"
    if disk.source_type.startswith("vhost"):
        return f"it is a {disk.source_type} device, whose data does not pass through QEMU"
    if disk.shareable:
        # Copy-before-write sees the writes of one QEMU only. QEMU refuses such a backup when it begins, and libvirtd 9.0
        # exits by SIGSEGV on that refusal, so it must not come so far. [seen in the lab]
        return "it is shareable: other guests may write to it past this guest's QEMU"
    return None


def choose_disks(
    guest: NamedGuest,
    disks: Sequence[DomainDisk],
    skip: Sequence[str],
    decrypt: Sequence[str] = (),
    *,
    repository_encrypted: bool = False,
    passed: Passed | None = None,
) -> tuple[list[DomainDisk], list[SkippedDisk]]:
    """Return the disks that are captured, and those that are left out with the reason.

    `passed` are the guest's other devices on which data may lie. Raises DiskNotCapturableError for a disk or device with data
    of the guest's own that cannot be captured and that the caller has not agreed to leave out, DiskEncryptedError for an
    encrypted one that is not in `decrypt` and would lie in the repository as plain text.
    """
    targets = [disk.target for disk in disks]
    _check_known(guest, [*targets, *(device.name for device in passed or {})], skip, "leave out")
    _check_known(guest, targets, decrypt, "capture decrypted")
    taken, skipped = [], []
    for disk in disks:
        found = obstacle(disk)
        if disk.target in skip:
            skipped.append(left_out(disk.target))
        elif found is None:
            if (
                refusal := encryption_refusal(guest, disk, decrypt, repository_encrypted=repository_encrypted)
            ) is not None:
                raise refusal
            taken.append(disk)
        elif found.harmless:
            skipped.append(SkippedDisk(target=disk.target, reason=found.reason))
        else:
            raise not_capturable(guest, disk.target, found.reason)
    skipped += left_out_devices(guest, passed or {}, skip)
    if not taken:
        raise NoDiskError(f"Guest {guest} has no disk that can be captured.")
    return taken, skipped


def _check_known(guest: NamedGuest, known: Sequence[str], targets: Sequence[str], purpose: str) -> None:
    unknown = set(targets) - set(known)
    if unknown:
        raise DiskNotCapturableError(
            f"Guest {guest} has no disk {', '.join(sorted(unknown))} to {purpose}.",
            advice=f"Its disks are {', '.join(known) or 'none'}.",
        )
