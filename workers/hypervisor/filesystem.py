"""A guest's mounted filesystems, as its agent tells them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Filesystem:
    """Where it is mounted, and the targets of the disks it is on; none where the agent or libvirt cannot tell."""

    mountpoint: str
    disks: tuple[str, ...]
