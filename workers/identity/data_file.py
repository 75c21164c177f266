"""The data file that a qcow2 image names. libvirt tells it from 10.10 on; before, only the image itself does.

bytes 72–79 incompatible features: bit 2 external data file · 100–103 length of the header, then extensions:
type (4), length (4), data, padded to 8 · 0x44415441 the data file's name, relative to the image [QEMU docs/interop/qcow2]
"""

from __future__ import annotations

import os
import struct
from typing import Final

_MAGIC: Final = b"QFI\xfb"
_DATA_FILE_BIT: Final = 1 << 2
_NAME: Final = 0x44415441
#: All extensions lie in the first cluster; 64 KiB is the usual one, and a name is at most 1023 bytes.
_READ_BYTES: Final = 64 << 10


def data_file_of(image: str) -> str | None:
    """Return the data file of a qcow2 image; None if its data is in itself.

    Raises OSError, also for a header that does not name the file.
    """
    with open(image, "rb") as file:  # noqa: PTH123  a str all the way
        header = file.read(_READ_BYTES)
    if not _has_data_file(header):
        return None
    name = data_file_name(header)
    if name is None:
        raise OSError(0, "its header says that its data is in another file, and not in which", image)
    return name if ":" in name.partition("/")[0] else os.path.join(os.path.dirname(image), name)  # noqa: PTH118, PTH120


def _has_data_file(header: bytes) -> bool:
    if len(header) < 104 or not header.startswith(_MAGIC) or struct.unpack_from(">I", header, 4)[0] < 3:
        return False
    return bool(struct.unpack_from(">Q", header, 72)[0] & _DATA_FILE_BIT)


def data_file_name(header: bytes) -> str | None:
    """Return the name in the header's extensions. Pure."""
    (at,) = struct.unpack_from(">I", header, 100)
    while at + 8 <= len(header):
        kind, length = struct.unpack_from(">II", header, at)
        if kind == 0:
            return None
        if kind == _NAME:
            return header[at + 8 : at + 8 + length].decode(errors="surrogateescape")
        at += 8 + -(-length // 8) * 8
    return None
