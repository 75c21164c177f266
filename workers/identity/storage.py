"""The facts of a file or a block device on this host. Every call may wait for storage that is away: see `read.py`."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from freezeframe.contract.identity import Layer
from freezeframe.storage_key import everywhere_key
from workers.identity import stack
from workers.identity.file_handle import file_handle
from workers.identity.statx import statx

SYS = Path("/sys")

#: Where the kernel tells a device's own id, relative to its directory in /sys.
_IDS = {
    "device-mapper UUID": "dm/uuid",
    "array UUID": "md/uuid",
    "WWID": "wwid",  # NVMe, and SCSI since Linux 6
    "SCSI WWID": "device/wwid",
    "serial number": "serial",  # virtio
    "device serial number": "device/serial",  # NVMe, others
}
_RBD_IDS = ("cluster_fsid", "pool", "pool_ns", "image_id", "name", "current_snap")


def layer_of(path: str, *, backing: bool = False, sys: Path = SYS) -> Layer:
    """Return the file or device at `path` as a layer.

    Raises OSError, also for a block device without an id of its own (a zvol, an NBD device, a virtio disk without a serial
    number): its node is named after a number that the kernel gives out anew at each boot, to whichever comes first.
    """
    resolved = os.path.realpath(path, strict=True)
    found = Path(resolved).stat()
    if stat.S_ISBLK(found.st_mode):
        facts = device_facts(f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}", sys)
        if not facts:
            raise OSError(
                errno.ENODATA, "the device has no id of its own, and its name may be another's after a reboot", path
            )
        return Layer(kind="block", place=resolved, facts=facts, lies_on=_lies_on(found.st_rdev, sys))
    facts = file_facts(resolved)
    if backing:  # only ever read, so a change of it is a change of what the guest has
        facts["modified"] = str(found.st_mtime_ns)
    return Layer(kind="file", place=resolved, facts=facts, lies_on=_lies_on(found.st_dev, sys, itself=True))


def _lies_on(device: int, sys: Path, *, itself: bool = False) -> tuple[str, ...]:
    """Return the keys of the storage below a device that name it on every host."""
    directory = stack.directory_of(device, sys)
    if directory is None:
        return ()
    devices = stack.below(directory, sys) | ({directory} if itself else set())
    keys = (everywhere_key(facts_at(one, sys)) for one in devices)
    return tuple(sorted({key for key in keys if key is not None}))


def file_facts(resolved: str) -> dict[str, str]:
    """Return the facts of a regular file. An inode number alone may be used again by the next file.

    Its birth time may not, nor its handle where none is kept. Raises OSError, also for a file with neither: nothing tells it
    from a later one in its place.
    """
    born = statx(resolved)
    facts = {"path": resolved, "inode": str(born.inode)}
    if born.birth_ns is not None:
        return {**facts, "birth time": str(born.birth_ns)}
    return {**facts, "file handle": file_handle(resolved)}


def device_facts(number: str, sys: Path = SYS) -> dict[str, str]:
    """The own id of the block device with that number (`major:minor`); nothing if it has none."""
    return facts_at((sys / "dev/block" / number).resolve(), sys)


def facts_at(directory: Path, sys: Path) -> dict[str, str]:
    """Return the own id of the block device with that directory in /sys; nothing if it has none."""
    if (partition := _read(directory / "partition")) is not None:
        whole = _device_facts(directory.parent, sys)
        return whole and {**whole, "partition": partition, "begins at": _read(directory / "start") or ""}
    return _device_facts(directory, sys)


def _device_facts(directory: Path, sys: Path) -> dict[str, str]:
    if (file := _read(directory / "loop/backing_file")) is not None:
        return _loop_facts(file, _read(directory / "loop/offset") or "0")
    if directory.name.startswith("rbd"):
        image = sys / "bus/rbd/devices" / directory.name.removeprefix("rbd")
        return {name: value for name in _RBD_IDS if (value := _read(image / name)) is not None}
    return {name: value for name, place in _IDS.items() if (value := _read(directory / place)) is not None}


def _loop_facts(file: str, offset: str) -> dict[str, str]:
    """A loop device is the file behind it; its number is given out anew each time. Nothing is known of one that was deleted."""
    with suppress(OSError):
        return {**file_facts(file), "offset": offset}
    return {}


def _read(path: Path) -> str | None:
    """The text of a file in /sys; None if it is not there or empty."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    return None
