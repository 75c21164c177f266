"""Decide whether a disk can record its changes. Pure.

QEMU keeps a persistent bitmap in a writable qcow2 image of version 3 only. It refuses the checkpoint of any other when the
backup begins, with guests held; so such a disk is read in full, without a checkpoint.
[QEMU docs/interop/bitmaps, block/qcow2-bitmap.c]
"""

from __future__ import annotations

import shlex

from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.image import ImageHeader

#: The first qcow2 version that can store bitmaps; `qemu-img` calls it compat=1.1.
_BITMAP_VERSION = 3


def untracked_reason(disk: DomainDisk, header: ImageHeader | None) -> str | None:
    """Return the reason why this disk cannot record its changes, None if it can.

    `header` is what its image says of itself; None if that cannot be read from this host.
    """
    if disk.source_format != "qcow2":
        return f"a {disk.source_format} disk keeps no record of its changes"
    if disk.readonly:
        return "it is attached read-only, and a read-only image keeps no record of changes"
    if header is None:
        return f"the version of its qcow2 image {disk.source} cannot be read from this host"
    if header.qcow2_version is None:
        return f"its image {disk.source} is no qcow2, although the guest's definition says so"
    if header.qcow2_version < _BITMAP_VERSION:
        return (
            f"its qcow2 image is of version {header.qcow2_version}, which keeps no record of changes; while the guest is off, "
            f"`qemu-img amend -f qcow2 -o compat=1.1 {shlex.quote(disk.source)}` mends that"
        )
    return None
