"""Bitmaps of ours: which there are in an image or a running QEMU, and how they are removed from either.

A persistent bitmap is stored in its qcow2 image when QEMU closes the image, so a guest that shuts down in the middle of a
transfer leaves there the bitmap of a checkpoint that is never kept. It would record, and slow down writes, for ever.

    the guest runs      QEMU's monitor removes it, from memory and from the image
    the guest is off    `qemu-img bitmap --remove`, which takes the image's write lock: it refuses while any QEMU has the image

What is in an image is read from its header, without QEMU and beside one: the directory lists every bitmap that was there when
QEMU opened the image. [QEMU docs/interop/qcow2, "Bitmaps extension"; block/qcow2-bitmap.c]
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.errors import HypervisorError
from workers.tools import english

#: Checkpoints and bitmaps of ours: `freezeframe.<repository>.<capture>`; of no others.
_OURS: Final = re.compile(r"freezeframe\.[0-9a-f]{12,32}\.[0-7][0-9A-HJKMNP-TV-Z]{25}")

_MAGIC: Final = b"QFI\xfb"
_FIRST_WITH_EXTENSIONS: Final = 3
_LAST_KNOWN: Final = 3
_EXTENSION: Final = struct.Struct(">II")  # type, length; padded to 8
_BITMAPS_EXTENSION: Final = 0x23852875
_BITMAPS: Final = struct.Struct(">IIQQ")  # count, reserved, size and offset of the directory
_ENTRY: Final = struct.Struct(
    ">QIIBBHI"
)  # table, its size, flags, type, granularity, length of the name and of extra data
#: QEMU's own limit. [qcow2.h: QCOW2_MAX_BITMAP_DIRECTORY_SIZE]
_DIRECTORY_BYTES_MAX: Final = 65535 * 1024
#: What qemu-img says of an image that another QEMU has open. [QEMU block/file-posix.c: raw_check_lock_bytes]
_LOCKED: Final = re.compile(r'Failed to get (shared )?"[a-z ]+" lock')
#: Seconds for qemu-img to remove one bitmap; it takes some tens of milliseconds.
_REMOVE_S: Final = 60.0


class NoQcow2Error(ValueError):
    """The file is no qcow2 image, so it has no bitmaps."""


class ImageInUseError(HypervisorError):
    """A bitmap cannot be removed, because a QEMU has the image."""

    code = "image-in-use"
    advice = "It is removed when nothing uses the image any more, or by the next capture of the guest that does."


def is_ours(name: str) -> bool:
    """Return True for a name that one of our checkpoints could have."""
    return _OURS.fullmatch(name) is not None


def images_with_bitmaps(disks: Iterable[DomainDisk]) -> list[tuple[str, Path]]:
    """Return target and image of each disk that can have bitmaps in a file or device of this host. Pure.

    Volumes of pools have no path here: `volumes.images_with_bitmaps` asks libvirt for it.
    """
    return [(disk.target, Path(disk.source)) for disk in disks if disk.source.startswith("/") and can_have(disk)]


def can_have(disk: DomainDisk) -> bool:
    """Return True for a disk that can have bitmaps.

    What a guest has in a disk that is raw is its own affair, also if it looks like a qcow2.
    """
    return disk.source_format == "qcow2" and disk.device in {"disk", "lun"}


def in_image(path: Path) -> list[str]:
    """Return the names of all bitmaps that a qcow2 image has stored.

    Raises OSError; NoQcow2Error for what is none; ValueError for one that is damaged, or of a version that is not known.
    """
    with path.open("rb") as file:
        return list(_names(file))


def is_qcow2(path: Path) -> bool:
    """Return True if the file begins as a qcow2 does. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


@dataclass(frozen=True)
class Found:
    """Our bitmaps by image; and for images of which that is not known, why."""

    by_image: dict[Path, list[str]]
    unread: dict[Path, str]


def ours_in(paths: Iterable[Path]) -> Found:
    """Return our bitmaps in these images. What is no qcow2 has none; what cannot be read, or is not there, is told."""
    found = Found({}, {})
    for path in paths:
        try:
            names = [name for name in in_image(path) if is_ours(name)]
        except NoQcow2Error:
            continue
        except (OSError, ValueError) as error:
            found.unread[path] = _why(error)
            continue
        if names:
            found.by_image[path] = names
    return found


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def remove_from_images(paths: Iterable[Path], names: Collection[str]) -> None:
    """Remove bitmaps from the images of a guest that is off. Raises ImageInUseError, HypervisorError."""
    for path in paths:
        try:
            found = in_image(path)
        except (FileNotFoundError, NotADirectoryError, NoQcow2Error):  # no image, or none that has bitmaps
            continue
        except (OSError, ValueError) as error:
            raise HypervisorError(f"The bitmaps of {path} cannot be read: {_why(error)}.") from error
        for name in found:
            if name in names:
                _remove(path, name)


def _remove(path: Path, name: str) -> None:
    command = ["qemu-img", "bitmap", "--remove", "-f", "qcow2", os.fspath(path), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_REMOVE_S, check=False, env=english())
    except (OSError, subprocess.SubprocessError) as error:
        raise HypervisorError(f"Bitmap {name} cannot be removed from {path}: {error}.") from error
    if done.returncode == 0:
        return
    why = done.stderr.strip()
    if _LOCKED.search(why):
        raise ImageInUseError(f"Bitmap {name} cannot be removed from {path}: the image is in use.")
    raise HypervisorError(f"Bitmap {name} cannot be removed from {path}: {why}")


def _names(file: BinaryIO) -> Iterator[str]:
    if file.read(len(_MAGIC)) != _MAGIC:
        raise NoQcow2Error("no qcow2 image")
    (version,) = struct.unpack(">I", _read(file, 4, 4))
    if version < _FIRST_WITH_EXTENSIONS:
        return
    if version > _LAST_KNOWN:
        raise ValueError(f"it is a qcow2 of version {version}, which this freezeframe does not know")
    (at,) = struct.unpack(">I", _read(file, 100, 4))  # the header's length; extensions follow it
    while True:
        kind, length = _EXTENSION.unpack(_read(file, at, _EXTENSION.size))
        if kind == 0:
            return
        if kind == _BITMAPS_EXTENSION:
            count, _, size, offset = _BITMAPS.unpack(_read(file, at + _EXTENSION.size, _BITMAPS.size))
            yield from _entries(_read(file, offset, min(size, _DIRECTORY_BYTES_MAX)), count)
            return
        at += _EXTENSION.size + _padded(length)


def _entries(directory: bytes, count: int) -> Iterator[str]:
    at = 0
    for _ in range(count):
        if at + _ENTRY.size > len(directory):
            raise ValueError("the directory of bitmaps is cut off")
        *_, name_bytes, extra_bytes = _ENTRY.unpack_from(directory, at)
        begin = at + _ENTRY.size + extra_bytes
        yield directory[begin : begin + name_bytes].decode(errors="replace")
        at += _padded(_ENTRY.size + extra_bytes + name_bytes)


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    data = file.read(count)
    if len(data) < count:
        raise ValueError("the image is cut off")
    return data


def _padded(length: int) -> int:
    return -(-length // 8) * 8
