"""Chunks and the envelope they are stored in.

0      4         5             6   8              12            16
┌──────┬─────────┬─────────────┬───┬──────────────┬─────────────┬────────┬──────────
│ FFck │ version │ compression │ 0 │ plain length │ data length │ data … │ padding …
└──────┴─────────┴─────────────┴───┴──────────────┴─────────────┴────────┴──────────

Padding fills what is stored up to whole blocks, which can be written past the page cache in one piece; a file system has
given the file that last block anyway.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final

from freezeframe.direct import BLOCK_BYTES, DIRECT_FROM_BYTES
from freezeframe.repository import zstd
from freezeframe.repository.errors import ChunkDamaged, NewerFormat
from freezeframe.repository.layout import CHUNK_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

_HEADER: Final = struct.Struct("<4sBBHII")
_MAGIC: Final = b"FFck"
_VERSION: Final = 1
_RAW: Final = 0
_ZSTD: Final = 1

HEADER_BYTES: Final = _HEADER.size

#: Zeros after the data, at most.
PADDING_BYTES_MAX: Final = BLOCK_BYTES - 1
_PADDING: Final = bytes(PADDING_BYTES_MAX)


def digest_of_chunk(data: Buffer) -> bytes:
    """The 32 bytes that a chunk is known by. Releases the GIL."""
    return hashlib.sha256(data).digest()


def padding_of(data_bytes: int, stored_bytes: Callable[[int], int]) -> int:
    """How many zeros are to follow that much data: so many that what is stored, whose length `stored_bytes` gives for an
    envelope's, has whole blocks. None for what is not worth a direct write.
    """
    length = HEADER_BYTES + data_bytes
    padding = -stored_bytes(length) % BLOCK_BYTES
    worth = stored_bytes(length) >= DIRECT_FROM_BYTES and not stored_bytes(length + padding) % BLOCK_BYTES
    return padding if worth else 0


def packed_header(plain_bytes: int, packed_bytes: int) -> bytes:
    """What stands before a chunk that zstd has made smaller."""
    return _header(_ZSTD, plain_bytes, packed_bytes)


def raw_header(plain_bytes: int) -> bytes:
    """What stands before a chunk that is stored as it is."""
    return _header(_RAW, plain_bytes, plain_bytes)


def unpack(envelope: bytes, name: str) -> bytes:
    """The chunk in an envelope, its lengths verified but not its digest.

    Raises NewerFormat for a header of a later version, and ChunkDamaged, whatever else is in there.
    """
    if len(envelope) < HEADER_BYTES:
        raise ChunkDamaged(f"Chunk {name} is cut short: {len(envelope)} bytes.")
    magic, version, compression, zero, plain_bytes, data_bytes = _HEADER.unpack_from(envelope)
    if magic != _MAGIC or version < _VERSION:
        raise ChunkDamaged(f"Chunk {name} has no header that this program knows.")
    if version > _VERSION or compression > _ZSTD or zero:
        form = f"envelope version {version}, compression {compression}, flags {zero}"
        raise NewerFormat(f"Chunk {name} was written by a newer version of freezeframe ({form}).")
    if not 0 < plain_bytes <= CHUNK_BYTES_MAX:
        raise ChunkDamaged(f"Chunk {name} claims a length of {plain_bytes} bytes.")
    end = HEADER_BYTES + data_bytes
    if len(envelope) < end:
        raise ChunkDamaged(f"Chunk {name} is cut short: {len(envelope)} bytes instead of {end} or more.")
    body = memoryview(envelope)
    if not _PADDING.startswith(body[end:]):
        raise ChunkDamaged(f"Chunk {name} has something else than padding after its data.")
    stored = body[HEADER_BYTES:end]
    data = _decompress(stored, plain_bytes, name) if compression == _ZSTD else bytes(stored)
    if len(data) != plain_bytes:
        raise ChunkDamaged(f"Chunk {name} has {len(data)} bytes instead of {plain_bytes}.")
    return data


def unseal(envelope: bytes, digest: bytes) -> bytes:
    """The chunk in an envelope, verified against its digest. Raises NewerFormat, and ChunkDamaged, whatever is in there."""
    data = unpack(envelope, digest.hex())
    if digest_of_chunk(data) != digest:
        raise ChunkDamaged(f"Chunk {digest.hex()} has other bytes than were written.")
    return data


def _header(compression: int, plain_bytes: int, data_bytes: int) -> bytes:
    if not 0 < plain_bytes <= CHUNK_BYTES_MAX:
        raise ValueError(f"a chunk of {plain_bytes} bytes")
    return _HEADER.pack(_MAGIC, _VERSION, compression, 0, plain_bytes, data_bytes)


def _decompress(frame: memoryview, plain_bytes: int, name: str) -> bytes:
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
