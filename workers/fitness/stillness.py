"""Decide which disks a hold keeps still. Pure.

    paused vCPUs                         every disk is still
    a freeze alone                       a disk is still if each partition and volume on it has a frozen filesystem
    no hold                              nothing is promised, so nothing is asked

A freeze reaches the mounted filesystems that the agent lists, and no raw device, ZFS pool or FUSE mount. A disk with a
partition or volume on which the agent shows no filesystem therefore counts as moving (`coverage`): nothing proves that the
guest does not write to it. So does every disk of a guest whose agent cannot tell, and every disk that an unfrozen filesystem
may be on. A disk that the guest cannot write to is still.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from freezeframe.contract.hold import GuestHold
from freezeframe.naming import NamedGuest
from workers.fitness.coverage import kernel_name, unreached_reason
from workers.fitness.exemption import READ_ONLY_KINDS
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.filesystem import Filesystem
from workers.hypervisor.guest_device import GuestDevice
from workers.refusal import MountpointError

#: Filesystems that are written to and cannot be frozen: the agent passes over what answers EOPNOTSUPP, and counts it not.
#: [qga/commands-posix.c; Linux: no freeze_fs in their super_operations] A kind that is on neither list counts as one that can
#: be frozen, and the number that the freeze answers tells whether it was.
_UNFREEZABLE_KINDS: Final = frozenset({"vfat", "msdos", "fat", "fat32", "exfat", "hfs", "hfsplus", "minix", "ntfs3"})


@dataclass(frozen=True)
class MovingDisk:
    """A disk that the hold does not keep still, and why."""

    target: str
    reason: str


@dataclass(frozen=True)
class Stillness:
    """The reach of a hold: `moving` are the disks it leaves moving, `filesystems` the least that a freeze must answer."""

    moving: tuple[MovingDisk, ...] = ()
    filesystems: int = 0

    def warnings(self, guest: NamedGuest) -> tuple[str, ...]:
        """Return a sentence for each moving disk, with the command that would keep it still."""
        choice = guest.option("freeze-pause")
        return tuple(
            f"Disk {disk.target} of guest {guest} is not kept still by the freeze: {disk.reason}. The guest's label is crash. "
            f"--guest-hold {choice} keeps it still."
            for disk in self.moving
        )


def stillness(
    guest: str,
    hold: GuestHold,
    disks: Sequence[DomainDisk],
    filesystems: Sequence[Filesystem] | None,
    devices: Sequence[GuestDevice] | None = None,
    harmless: Collection[str] = (),
) -> Stillness:
    """Return which of the captured `disks` the hold keeps still.

    `filesystems` and `devices`, the guest's block devices, are None if the agent cannot list them. `harmless` are devices that
    need no freeze (`exemption`). Raises MountpointError for a mount point that the guest does not have.
    """
    if not hold.kind.freezes:
        return Stillness()
    if filesystems is None:
        reason = "the guest's agent cannot say which filesystems are on it"
        return Stillness() if hold.kind.pauses else all_moving(disks, reason)
    _check_mountpoints(guest, hold, filesystems)
    if hold.kind.pauses:
        return Stillness()
    return _of_freeze(hold, disks, filesystems, devices, harmless)


def _of_freeze(
    hold: GuestHold,
    disks: Sequence[DomainDisk],
    filesystems: Sequence[Filesystem],
    devices: Sequence[GuestDevice] | None,
    harmless: Collection[str],
) -> Stillness:
    wanted = {one.identity for one in filesystems if not hold.mountpoints or one.mountpoint in hold.mountpoints}
    frozen = [one for one in filesystems if one.identity in wanted and _can_freeze(one)]
    written = [one for one in filesystems if one not in frozen and one.kind.lower() not in READ_ONLY_KINDS]
    for one in written:
        if not one.mapped:
            return all_moving(disks, f"{_named(one)} {_why_unfrozen(one)}, and which disks it is on is not known")
    reasons = {target: f"{_named(one)} on it {_why_unfrozen(one)}" for one in written for target in one.disks}
    frozen_on = {target for one in frozen for target in one.disks}
    reached = {one.name for one in filesystems if one not in written} | {kernel_name(path) for path in harmless}
    moving = []
    for disk in disks:
        reason = reasons.get(disk.target) or unreached_reason(disk.target, devices, reached)
        if reason is not None and disk.target not in reasons and disk.target not in frozen_on:
            reason = "the guest's agent shows no frozen filesystem on it"
        if reason is not None and not disk.readonly:
            moving.append(MovingDisk(disk.target, reason))
    return Stillness(tuple(moving), len({one.identity for one in frozen}))


def all_moving(disks: Sequence[DomainDisk], reason: str) -> Stillness:
    """Return that no disk which the guest can write to is kept still."""
    return Stillness(tuple(MovingDisk(disk.target, reason) for disk in disks if not disk.readonly))


def _check_mountpoints(guest: str, hold: GuestHold, filesystems: Sequence[Filesystem]) -> None:
    known = {filesystem.mountpoint for filesystem in filesystems}
    unknown = sorted(set(hold.mountpoints) - known)
    if unknown:
        raise MountpointError(
            f"Guest {guest} has no filesystem mounted at {', '.join(unknown)}.",
            advice=f"It has: {', '.join(sorted(known)) or 'none that its agent lists'}.",
        )


def _can_freeze(one: Filesystem) -> bool:
    kind = one.kind.lower()
    return kind not in READ_ONLY_KINDS | _UNFREEZABLE_KINDS and not kind.startswith("fuse")


def _named(one: Filesystem) -> str:
    return f"filesystem {one.mountpoint} ({one.kind})" if one.kind else f"filesystem {one.mountpoint}"


def _why_unfrozen(one: Filesystem) -> str:
    return "is not among the mount points to freeze" if _can_freeze(one) else "cannot be frozen"
