"""Block devices as destinations: claimed for ourselves alone, large enough, written whole, holes and all.

The claim is O_EXCL: the kernel gives it only while nothing else has the device or a part of it: no mounted file system, no
swap, no device mapper, no RAID, no other claim. [open(2); Linux block/bdev.c bd_prepare_to_claim] A guest's QEMU claims
nothing. It is found by its open descriptor of the device, through whatever node and mount namespace (`open_elsewhere.py`); a
guest that is started on the device later is not kept from it. What lies beyond the disk's size is left as it is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from workers.restore.descriptor import Descriptor
from workers.restore.destination import LANES, Lane
from workers.restore.errors import DeviceTooSmallError, DeviceUnfitError, TargetInUseError
from workers.restore.open_elsewhere import user_of
from workers.restore.partial import locked_by_qemu


class BlockDevice:
    """A destination. `mark` is how far an earlier restore came; nothing on it is known to be blank."""

    def __init__(self, descriptor: Descriptor, size_bytes: int, mark: int, advance: Callable[[int], None]) -> None:
        self.mark = mark
        self.blank_from = size_bytes
        self.lanes: Sequence[Lane] = [self] * LANES
        self.write = descriptor.write
        self.read = descriptor.read
        self.zero = descriptor.zero
        self.sync = descriptor.sync
        self.advance = advance

    def keep(self, offset: int, length: int) -> None:
        """Nothing is kept about it."""


@contextmanager
def claimed(path: Path, size_bytes: int) -> Iterator[int]:
    """Open the block device for us alone, as long as the block lasts, among all who claim it or have it open now.

    Raises DeviceUnfitError if it is none or cannot be opened, TargetInUseError, and DeviceTooSmallError for less than
    `size_bytes`.
    """
    fd = _open(path)
    try:
        found = os.fstat(fd)
        if not stat.S_ISBLK(found.st_mode):
            raise DeviceUnfitError(f"{path} is not a block device.")
        if (user := user_of(found)) is not None:
            raise TargetInUseError(
                f"{path} is in use by {user}.",
                advice="Shut that guest down or end that process, then restore again.",
            )
        if locked_by_qemu(fd, path):
            raise TargetInUseError(f"{path} is in use by a running guest or a QEMU tool.")
        found_bytes = os.lseek(fd, 0, os.SEEK_END)
        if found_bytes < size_bytes:
            raise DeviceTooSmallError(f"{path} has {found_bytes} bytes; the disk has {size_bytes}.")
        yield fd
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    try:
        if not stat.S_ISBLK(path.stat().st_mode):  # before O_EXCL, which means something only there
            raise DeviceUnfitError(f"{path} is not a block device.")
        return os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise TargetInUseError(
                f"{path} is mounted, or otherwise in use.",
                advice="Unmount it, or take it out of the volume group, RAID or swap that it is in; `lsblk` shows which.",
            ) from error
        raise DeviceUnfitError(f"{path} cannot be opened: {error.strerror}.") from error
