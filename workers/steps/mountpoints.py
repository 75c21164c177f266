"""Which disks of a guest a freeze of some of its filesystems leaves moving. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from workers.hypervisor.filesystem import Filesystem
from workers.steps.refusal import RefusedError


class MountpointError(RefusedError):
    """A filesystem that shall be frozen is not there."""

    code = "mountpoint"


def moving_disks(
    guest: str, filesystems: Sequence[Filesystem], mountpoints: Sequence[str], disks: Sequence[str]
) -> tuple[str, ...]:
    """The disks that are captured and not proven to be still while only `mountpoints` are frozen.

    Still is a disk that has a frozen filesystem, and none that is not. A disk of which the agent tells no filesystem counts as
    moving: nobody knows what writes to it. Raises MountpointError for a mount point that the guest does not have.
    """
    known = {filesystem.mountpoint for filesystem in filesystems}
    unknown = sorted(set(mountpoints) - known)
    if unknown:
        raise MountpointError(
            f"Guest {guest} has no filesystem mounted at {', '.join(unknown)}.",
            advice=f"It has: {', '.join(sorted(known)) or 'none that its agent tells of'}.",
        )
    frozen = {disk for one in filesystems if one.mountpoint in mountpoints for disk in one.disks}
    written = {disk for one in filesystems if one.mountpoint not in mountpoints for disk in one.disks}
    return tuple(disk for disk in disks if disk not in frozen or disk in written)
