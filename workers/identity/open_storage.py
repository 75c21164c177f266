"""The storage that a QEMU has open, by its descriptors: what a disk is whose path does not tell any more.

    /proc/PID/fd/N       leads to the file or device itself, also if its name is gone or its server is away
    /proc/PID/fdinfo/N   flags: read, or written too

A link in /dev/disk/by-path goes when a path to the LUN is lost, and NFS forgets or does not answer; QEMU goes on writing. No
server is asked. Which descriptor is which disk is not told: what is no other disk's of the guest is all that it can be. The
guest's memory is left out, which may be a file without a name, or in a directory of huge pages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers import qemu_process
from workers.identity.places import Places, place_of_open
from workers.identity.storage import SYS

PROC: Final = Path("/proc")
#: Of memory: the kernel's name of a file without one, and QEMU's of one in a directory. [qemu system/physmem.c: file_ram_open]
_MEMORY: Final = re.compile(r"^/memfd:|/qemu_back_mem\.[^/]*$")
_FLAGS: Final = re.compile(r"^flags:\s+0([0-7]+)$", re.MULTILINE)


@dataclass(frozen=True)
class OpenStorage:
    """A file or block device that a process has open."""

    places: Places
    writes: bool  # it is read and written, as a disk is; a log is written only
    name: str  # as the kernel has it; no path may lead there any more


def of_guest(run_dir: Path, name: str, guest_uuid: str, proc: Path = PROC) -> list[OpenStorage]:
    """Return what the QEMU of a running guest has open. Raises QemuUnknownError, OSError."""
    return of_process(proc / str(qemu_process.find(run_dir, name, guest_uuid, proc).pid))


def of_process(directory: Path, sys: Path = SYS) -> list[OpenStorage]:
    """Return the files and block devices that a process has open, by its directory in /proc. Raises OSError."""
    found = []
    for link in (directory / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            name = os.fspath(link.readlink())
            places = place_of_open(os.fspath(link), sys)
            if places is not None and not _MEMORY.search(name):
                flags = _FLAGS.search((directory / "fdinfo" / link.name).read_text(encoding="ascii", errors="replace"))
                writes = flags is not None and int(flags[1], 8) & os.O_ACCMODE == os.O_RDWR
                found.append(OpenStorage(places, writes, name.removesuffix(" (deleted)")))
    return found


def apart_from(found: Collection[OpenStorage], known: frozenset[str]) -> list[OpenStorage]:
    """Return those that are none of the storage with these keys. Pure."""
    return [one for one in found if not any(key in known for key in one.places.keys if _is_itself(key))]


def _is_itself(key: str) -> bool:
    """Return True for a key that a file or device has for itself, and none for what lies on it."""
    return key.startswith(("file ", "number "))
