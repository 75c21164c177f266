r"""The header of a disk image: which version of qcow2 it is. Read without a lock, beside a QEMU that uses the image.

bytes    0–3 magic "QFI\xfb" · 4–7 version · 72–79 incompatible features (version 3): bit 2 external data file
[QEMU docs/interop/qcow2]
"""

from __future__ import annotations

import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.hypervisor.disk import DomainDisk

_MAGIC: Final = b"QFI\xfb"
_HEADER_BYTES: Final = 104
_FIRST_WITH_FEATURES: Final = 3
_DATA_FILE_BIT: Final = 1 << 2
#: Seconds for reading a header as the image's owner.
_READ_S: Final = 10.0


@dataclass(frozen=True)
class ImageHeader:
    """The facts in an image's header."""

    qcow2_version: int | None  # None: it is no qcow2
    data_file: bool = False  # its data is in another file, and it has the metadata and the bitmaps


def header_of(disk: DomainDisk) -> ImageHeader | None:
    """Return the header of a disk's image, None if it lies where this host cannot read it."""
    if disk.source_format != "qcow2" or disk.source_type not in {"file", "block"}:
        return None
    data = _first_bytes(Path(disk.source))
    return None if data is None else parse_header(data)


def parse_header(data: bytes) -> ImageHeader:
    """Return what the first bytes of an image say. Pure."""
    if len(data) < 8 or data[:4] != _MAGIC:
        return ImageHeader(qcow2_version=None)
    (version,) = struct.unpack_from(">I", data, 4)
    features = 0
    if version >= _FIRST_WITH_FEATURES and len(data) >= 80:
        (features,) = struct.unpack_from(">Q", data, 72)
    return ImageHeader(version, data_file=bool(features & _DATA_FILE_BIT))


def _first_bytes(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_HEADER_BYTES)
    except PermissionError:
        return _first_bytes_as_owner(path)
    except OSError:
        return None


def _first_bytes_as_owner(path: Path) -> bytes | None:
    """Read as the image's owner: on NFS with root_squash only QEMU's own user may read it."""
    try:
        owner = path.stat()
        done = subprocess.run(
            ["/usr/bin/head", "-c", str(_HEADER_BYTES), os.fspath(path)],
            user=owner.st_uid,
            group=owner.st_gid,
            extra_groups=(),
            capture_output=True,
            timeout=_READ_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
