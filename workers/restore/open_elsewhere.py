"""Which other process has a file or a block device open: what is written over must not be a running guest's disk.

A lock is not enough. libvirt gives each QEMU a /dev of its own (`namespaces = ["mount"]`, its default), with nodes that it
makes there; a lock belongs to the inode of a node, and is not seen through another node of the same device. An open
descriptor is seen: statx(2) of /proc/<pid>/fd/<number> leads through every mount namespace to the file or device. The kernel
reports what it remembers: a server that is away, of a file that any process has open, keeps no restore waiting.

    device   same st_rdev, or that of its partitions, of the disk that it is a partition of, or of what is stacked upon it
    file     same st_dev and st_ino
    counts   open for writing by any process, or open at all by a QEMU; udev and others look at devices for a moment

Not seen: processes of another PID namespace, and those that this user may not look at. Restore as root, on the host itself.
libvirt tells of the guests among these (`running_guests.py`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.identity.statx import cached

_PROC: Final = Path("/proc")
_DEVICES: Final = Path("/sys/dev/block")

#: How the names of QEMU's programs begin, and of Debian's link to it. [proc(5): comm has 15 bytes]
_QEMU: Final = ("qemu", "kvm")


@dataclass(frozen=True)
class User:
    """A process that has it open."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})"


def user_of(found: os.stat_result, proc: Path = _PROC, devices: Path = _DEVICES) -> User | None:
    """Return another process that writes to a file or device, or whose guest reads from it; None if there is none."""
    wanted = related(found.st_rdev, devices) if stat.S_ISBLK(found.st_mode) else {(found.st_dev, found.st_ino)}
    for process in _others(proc):
        for descriptor in _listed(process / "fd"):
            if _identity(descriptor) in wanted and _counts(process, descriptor.name):
                return User(int(process.name), _name(process))
    return None


def related(device: int, devices: Path = _DEVICES) -> set[int | tuple[int, int]]:
    """Return the numbers of a block device, its partitions, the disk that it is a partition of, and all stacked upon these."""
    own = devices / f"{os.major(device)}:{os.minor(device)}"
    folders = [own, *_partitions(own)]
    if (own / "partition").exists():
        folders.append(own.resolve().parent)
    found: set[int | tuple[int, int]] = {device}
    while folders:
        folder = folders.pop()
        number = _number(folder)
        if number is not None:
            found.add(number)
        folders += _listed(folder / "holders")
    return found


def _partitions(folder: Path) -> list[Path]:
    return [one for one in _listed(folder) if one.is_dir() and not one.is_symlink() and (one / "partition").exists()]


def _number(folder: Path) -> int | None:
    try:
        major, _, minor = (folder / "dev").read_text(encoding="ascii").strip().partition(":")
        return os.makedev(int(major), int(minor))
    except (OSError, ValueError):
        return None


def _others(proc: Path) -> Iterable[Path]:
    own = str(os.getpid())
    return (process for process in _listed(proc) if process.name.isdecimal() and process.name != own)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # ended, not there, or not ours to look at
        return []


def _identity(descriptor: Path) -> int | tuple[int, int] | None:
    try:
        found = cached(os.fspath(descriptor))
    except OSError:
        return None
    return found.special if stat.S_ISBLK(found.mode) else (found.device, found.inode)


def _counts(process: Path, descriptor: str) -> bool:
    return _name(process).startswith(_QEMU) or _writes(process, descriptor)


def _writes(process: Path, descriptor: str) -> bool:
    """Return True if the descriptor is open for writing; also if that cannot be told and the process lives."""
    try:
        lines = (process / "fdinfo" / descriptor).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    flags = next((int(line.split()[1], 8) for line in lines if line.startswith("flags:")), os.O_RDWR)
    return bool(flags & os.O_ACCMODE)


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
