"""Where storage is on this host, by keys that are equal for the same storage, whichever name leads to it.

Unlike an identity, a key need not outlive a reboot, and it must be the same whichever name leads to the storage: a second
path, a hard link, a second node of one device, a loop device over the file, a second path to a LUN.

A device has the keys of all that lies on it too, and lies *within* all that it lies on itself (`stack`): a whole disk shares
with each of its partitions and volumes, and two partitions share nothing. A file lies within the device that its file system
is on, and so does every other file there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from freezeframe.network_key import iscsi_key
from freezeframe.storage_key import everywhere_key
from workers.identity import rbd, stack
from workers.identity.data_file import data_file_of
from workers.identity.network_file import keys_of_file, keys_of_open, keys_on_device
from workers.identity.statx import cached
from workers.identity.storage import SYS, facts_at


@dataclass(frozen=True)
class Places:
    """The keys of some storage, those of what it lies within, and why they are not all: unknown storage may be any."""

    keys: frozenset[str] = frozenset()
    within: frozenset[str] = frozenset()
    unseen: str = ""
    is_open: bool = False  # it is not known by its path, and who uses it has it open as a file or device of this host


def joined(found: Iterable[Places]) -> Places:
    """Return the place of several pieces of storage."""
    known = list(found)
    unknown = [one for one in known if one.unseen]
    return Places(
        frozenset(key for one in known for key in one.keys),
        frozenset(key for one in known for key in one.within),
        unknown[0].unseen if unknown else "",
        is_open=bool(unknown) and all(one.is_open for one in unknown),
    )


def keys_of(path: str, *, is_qcow2: bool = False, sys: Path = SYS) -> frozenset[str]:
    """Return the keys of what is at `path`, with the data file that a qcow2 names. Raises OSError."""
    return places_of(path, is_qcow2=is_qcow2, sys=sys).keys


def places_of(path: str, *, is_qcow2: bool = False, sys: Path = SYS) -> Places:
    """Return where the storage at `path` is, with the data file that a qcow2 names. Raises OSError."""
    found = [Places(frozenset({f"path {path}"})), _place(path, sys)]
    if is_qcow2 and (data_file := data_file_of(path)) is not None and data_file.startswith("/"):
        found.append(_place(data_file, sys))
    return joined(found)


def place_of_open(link: str, sys: Path = SYS) -> Places | None:
    """Return where an open file or device is, by its link in /proc; None if it is neither. Asks no server. Raises OSError."""
    seen = cached(link)
    if stat.S_ISBLK(seen.mode):
        return _of_number(seen.special, sys)
    if not stat.S_ISREG(seen.mode):
        return None
    own = frozenset({f"file {seen.device}:{seen.inode}"})
    under = stack.directory_of(seen.device, sys)
    if under is None:
        return Places(own | keys_of_open(os.fspath(Path(link).readlink()), seen.device))
    return Places(own | keys_on_device(link, seen.inode, everywhere_key(facts_at(under, sys))), _around(under, sys))


def _place(path: str, sys: Path) -> Places:
    seen = Path(path).stat()
    return _of_number(seen.st_rdev, sys) if stat.S_ISBLK(seen.st_mode) else _of_file(path, seen, sys)


def _of_number(device: int, sys: Path) -> Places:
    number = frozenset({f"number {os.major(device)}:{os.minor(device)}"})
    directory = stack.directory_of(device, sys)
    if directory is None:
        return Places(number)
    return joined([Places(number), of_device(directory, sys)])


def of_device(directory: Path, sys: Path) -> Places:
    """Return where the device with that directory in /sys is."""
    own = _of_loop(directory, sys)
    return Places(own.keys | _names(stack.above(directory), sys), own.within | _below(directory, sys))


def _of_file(path: str, seen: os.stat_result, sys: Path) -> Places:
    own = frozenset({f"file {seen.st_dev}:{seen.st_ino}"})
    under = stack.directory_of(seen.st_dev, sys)
    if under is None:
        return Places(own | keys_of_file(path, seen))
    named = keys_on_device(path, seen.st_ino, everywhere_key(facts_at(under, sys)))
    return Places(own | named, _around(under, sys))


def _around(under: Path, sys: Path) -> frozenset[str]:
    """Return the keys of the device that a file system is on, and of those below it."""
    return _names({under}, sys) | _below(under, sys)


def _of_loop(directory: Path, sys: Path) -> Places:
    """Return the places of the file behind a loop device, which is the same storage; none if it is no loop device."""
    with suppress(OSError):  # its file was deleted
        if (file := stack.loop_file(directory)) is not None:
            return _of_file(file, Path(file).stat(), sys)
    return Places()


def _below(directory: Path, sys: Path) -> frozenset[str]:
    """Return the keys of all devices that one lies on, and of the files behind loop devices among them."""
    devices = stack.below(directory, sys)
    files = (_of_loop(one, sys).keys for one in devices)
    return _names(devices, sys).union(*files)


def _names(devices: Iterable[Path], sys: Path) -> frozenset[str]:
    """Return the keys of devices: the kernel's names, and those that a second path to the same storage has too."""
    known = list(devices)
    facts = [facts_at(one, sys) for one in known]
    found = [*map(everywhere_key, facts), *(_iscsi(one) for one in known)]
    images = (rbd.keys_of_device(own, one, sys) for own, one in zip(facts, known, strict=True))
    kernel = frozenset(f"device {one.name}" for one in known)
    return kernel.union({key for key in found if key is not None}, *images)


def _iscsi(directory: Path) -> str | None:
    """Return the key of a LUN to which the kernel has a session, as QEMU's own access to it has."""
    device = (directory / "device").resolve()
    session = next((one for one in device.parents if one.name.startswith("session")), None)
    if session is None:
        return None
    with suppress(OSError):
        target = (session / "iscsi_session" / session.name / "targetname").read_text(encoding="utf-8").strip()
        return iscsi_key(f"{target}/{device.name.rpartition(':')[2]}")
    return None
