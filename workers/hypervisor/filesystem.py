"""A guest's mounted filesystems, as its agent lists them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Filesystem:
    """One mount. `disks` are the targets of the disks that it is on, as far as libvirt could map the agent's addresses.

    Behind LVM, dm-crypt or MD the agent lists the disks below. [qga build_guest_fsinfo_for_virtual_device] A filesystem that
    is mounted twice is listed twice, with one `name`.
    """

    mountpoint: str
    disks: tuple[str, ...]
    name: str = ""  # of the block device or volume, in the guest's words
    kind: str = ""  # ext4, xfs, vfat, NTFS, …
    unmapped: bool = False  # it is also on a device that libvirt could not map to a disk

    @property
    def mapped(self) -> bool:
        """Return True if all disks that it is on are known."""
        return bool(self.disks) and not self.unmapped

    @property
    def identity(self) -> str:
        """Return the same for two mounts of one filesystem: a freeze of one freezes the other."""
        return self.name or self.mountpoint
