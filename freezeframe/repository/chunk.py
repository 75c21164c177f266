"""Chunks and the envelope they are stored in.

0      4         5             6                8              12
┌──────┬─────────┬─────────────┬────────────────┬──────────────┬─────────────
│ FFck │ version │ compression │       0        │ plain length │ data …
└──────┴─────────┴─────────────┴────────────────┴──────────────┴─────────────
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final

from freezeframe.repository import zstd
from freezeframe.repository.effort import STEPS
from freezeframe.repository.errors import ChunkDamaged
from freezeframe.repository.layout import CHUNK_BYTES_MAX
from freezeframe.repository.packer import pack

if TYPE_CHECKING:
    from typing_extensions import Buffer

_HEADER: Final = struct.Struct("<4sBBHI")
_MAGIC: Final = b"FFck"
_VERSION: Final = 1
_RAW: Final = 0
_ZSTD: Final = 1

HEADER_BYTES: Final = _HEADER.size


def digest_of_chunk(data: Buffer) -> bytes:
    """The 32 bytes that a chunk is known by. Releases the GIL."""
    return hashlib.sha256(data).digest()


def seal(data: bytes | bytearray, level: int = STEPS[0]) -> bytes:
    """The envelope for a chunk of 1 to CHUNK_BYTES_MAX bytes; at most HEADER_BYTES longer than the chunk."""
    packed = pack(data, level)
    if packed is not None:
        return _header(_ZSTD, len(data)) + packed
    return _header(_RAW, len(data)) + data


def unpack(envelope: bytes, name: str) -> bytes:
    """The chunk in an envelope, its lengths verified but not its digest. Raises ChunkDamaged, whatever is in there."""
    if len(envelope) < HEADER_BYTES:
        raise ChunkDamaged(f"Chunk {name} is cut short: {len(envelope)} bytes.")
    magic, version, compression, zero, plain_bytes = _HEADER.unpack_from(envelope)
    if (magic, version, zero) != (_MAGIC, _VERSION, 0) or compression > _ZSTD:
        raise ChunkDamaged(f"Chunk {name} has no header that this program knows.")
    if not 0 < plain_bytes <= CHUNK_BYTES_MAX:
        raise ChunkDamaged(f"Chunk {name} claims a length of {plain_bytes} bytes.")
    data = envelope[HEADER_BYTES:] if compression == _RAW else _decompress(envelope[HEADER_BYTES:], plain_bytes, name)
    if len(data) != plain_bytes:
        raise ChunkDamaged(f"Chunk {name} has {len(data)} bytes instead of {plain_bytes}.")
    return data


def unseal(envelope: bytes, digest: bytes) -> bytes:
    """The chunk in an envelope, verified against its digest. Raises ChunkDamaged, whatever is in there."""
    data = unpack(envelope, digest.hex())
    if digest_of_chunk(data) != digest:
        raise ChunkDamaged(f"Chunk {digest.hex()} has other bytes than were written.")
    return data


def _header(compression: int, plain_bytes: int) -> bytes:
    if not 0 < plain_bytes <= CHUNK_BYTES_MAX:
        raise ValueError(f"a chunk of {plain_bytes} bytes")
    return _HEADER.pack(_MAGIC, _VERSION, compression, 0, plain_bytes)


def _decompress(frame: bytes, plain_bytes: int, name: str) -> bytes:
    try:
        # the stated size is looked at before a byte is unpacked: a frame must not be able to fill the memory
        if zstd.get_frame_info(frame).decompressed_size != plain_bytes:
            raise ChunkDamaged(f"Chunk {name} has a frame of another length than its header says.")
        unpacking = zstd.ZstdDecompressor(options=zstd.BOUNDED)
        data = unpacking.decompress(frame, plain_bytes + 1)
    except zstd.ZstdError as error:
        raise ChunkDamaged(f"Chunk {name} does not decompress: {error}.") from error
    if not unpacking.eof or unpacking.unused_data:
        raise ChunkDamaged(f"Chunk {name} does not end where its frame ends.")
    return data
