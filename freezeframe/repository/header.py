"""The header of an index: which disk, cut how, and what the slot table must hash to. The drawing is in docs/repository.md."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from freezeframe.repository.errors import IndexDamaged, NewerFormat
from freezeframe.repository.layout import ZERO_DIGEST, is_chunk_size

_FIXED: Final = struct.Struct("<4sBBBBQIHH32s32s")
_MAGIC: Final = b"FFix"
_VERSION: Final = 1
_KNOWN: Final = (_MAGIC, _VERSION, 1, 1, 0)  # magic, version, SHA-256, one zstd frame, zero

CHECKPOINT_BYTES_MAX: Final = 255
SLOTS_MAX: Final = 1 << 32


@dataclass(frozen=True)
class IndexHeader:
    """`size_bytes` of a disk in slots of `chunk_bytes`; `parent` is the digest of the parent's index."""

    size_bytes: int
    chunk_bytes: int
    content: bytes = ZERO_DIGEST
    parent: bytes | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if not is_chunk_size(self.chunk_bytes):
            raise ValueError(f"a chunk size of {self.chunk_bytes} bytes")
        if self.size_bytes < 1 or self.slots > SLOTS_MAX:
            raise ValueError(f"a disk of {self.size_bytes} bytes")
        if len((self.checkpoint or "").encode()) > CHECKPOINT_BYTES_MAX:
            raise ValueError("a checkpoint's name of more than 255 bytes")

    @property
    def slots(self) -> int:
        return -(-self.size_bytes // self.chunk_bytes)

    def slot_bytes(self, slot: int) -> int:
        """The length of a slot's chunk: shorter than `chunk_bytes` only in the last."""
        return min(self.chunk_bytes, self.size_bytes - slot * self.chunk_bytes)

    def pack(self) -> bytes:
        name = (self.checkpoint or "").encode()
        sizes = (self.size_bytes, self.chunk_bytes, len(name), 0)
        return _FIXED.pack(*_KNOWN, *sizes, self.parent or ZERO_DIGEST, self.content) + name


def read_header(source: BinaryIO, name: str) -> IndexHeader:
    """The header at the start of `source`, which is left behind it.

    Raises NewerFormat for one of a later version, and IndexDamaged, whatever else is in there.
    """
    fixed = source.read(_FIXED.size)
    if len(fixed) < _FIXED.size:
        raise IndexDamaged(f"Index {name} is cut short.")
    *known, size_bytes, chunk_bytes, name_bytes, zero, parent, content = _FIXED.unpack(fixed)
    _check_known(known, zero, name)
    if name_bytes > CHECKPOINT_BYTES_MAX:
        raise IndexDamaged(f"Index {name} has no header that this program knows.")
    text = source.read(name_bytes)
    if len(text) < name_bytes:
        raise IndexDamaged(f"Index {name} is cut short.")
    try:
        return IndexHeader(
            size_bytes, chunk_bytes, content, parent if parent != ZERO_DIGEST else None, text.decode() or None
        )
    except ValueError as error:
        raise IndexDamaged(f"Index {name} has a header that makes no sense: {error}.") from error


def _check_known(known: list[Any], zero: int, name: str) -> None:
    """Raises NewerFormat and IndexDamaged."""
    magic, version, digest, encoding, flags = known
    if magic != _MAGIC or not (version and digest and encoding):
        raise IndexDamaged(f"Index {name} has no header that this program knows.")
    if tuple(known) != _KNOWN or zero:
        form = f"index version {version}, digest {digest}, encoding {encoding}, flags {flags} and {zero}"
        raise NewerFormat(f"Index {name} was written by a newer version of freezeframe ({form}).")
