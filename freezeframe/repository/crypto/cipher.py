"""Sealed objects: an object's bytes in segments, each authenticated by itself, and encrypted if the repository is.

0      4         5           6   8        40
┌──────┬─────────┬───────────┬───┬────────┬─────────────────┬─────┬────────────────────┬─────
│ FFen │ version │ algorithm │ 0 │ salt … │ segment 0 … 4 MiB │ tag │ segment 1, the last │ tag
└──────┴─────────┴───────────┴───┴────────┴─────────────────┴─────┴────────────────────┴─────

Every object has a key of its own, made from its salt, so a segment's number may be its nonce. The suite says what a segment is:

    encrypted        AES-256-GCM of the data, bound to the header and the name
    authenticated    the data as it is, and the tag of AES-256-GCM for nothing, bound to the header, the name and the data
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from freezeframe.repository.crypto.kdf import hkdf
from freezeframe.repository.errors import NewerFormat, ObjectDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIXED: Final = struct.Struct("<4sBBH")
_MAGIC: Final = b"FFen"
_VERSION: Final = 1
_SALT_BYTES: Final = 32
_TAG_BYTES: Final = 16

HEADER_BYTES: Final = _FIXED.size + _SALT_BYTES

#: A chunk of up to 4 MiB in one call, an index of any size in bounded memory.
SEGMENT_BYTES: Final = 4 << 20

STORED_SEGMENT_BYTES: Final = SEGMENT_BYTES + _TAG_BYTES


class Suite(Enum):
    """The form of all sealed objects of a repository: the word for it. Its number stands in every header."""

    ENCRYPTED = "encrypted"
    AUTHENTICATED = "authenticated"

    @property
    def algorithm(self) -> int:
        """Return the number in the header."""
        return _ALGORITHMS[self]

    @property
    def known_header(self) -> bytes:
        """Return how the header of each object begins."""
        return _FIXED.pack(_MAGIC, _VERSION, self.algorithm, 0)


_ALGORITHMS: Final = {Suite.ENCRYPTED: 1, Suite.AUTHENTICATED: 2}
_LAST_ALGORITHM: Final = max(_ALGORITHMS.values())

#: What an object's key is derived for: no key is used in two ways.
_PURPOSES: Final = {Suite.ENCRYPTED: b"freezeframe object", Suite.AUTHENTICATED: b"freezeframe authenticated object"}


@dataclass(frozen=True)
class Segments:
    """The segments of one object: seals and unseals them by their numbers."""

    aead: AESGCM
    suite: Suite
    header: bytes
    name: str

    def seal(self, number: int, data: bytes | memoryview, *, last: bool) -> bytes | bytearray:
        sealed = bytearray(len(data) + _TAG_BYTES)
        self.seal_into(number, memoryview(data), memoryview(sealed), last=last)
        return sealed

    def seal_into(self, number: int, data: memoryview, room: memoryview, *, last: bool) -> None:
        """As `seal`, to where there is room for the segment and its tag, and for no byte more."""
        nonce = _nonce(number, last=last)
        if self.suite is Suite.ENCRYPTED:
            self.aead.encrypt_into(nonce, data, self._bound(), room)
        else:
            room[: len(data)] = data
            self.aead.encrypt_into(nonce, b"", self._bound(data), room[len(data) :])

    def unseal(self, number: int, data: bytes | memoryview, *, last: bool) -> bytes:
        """Return the data of a segment. Raises ObjectDamaged for any but what was written under this name, number and place."""
        nonce = _nonce(number, last=last)
        try:
            if self.suite is Suite.ENCRYPTED:
                return self.aead.decrypt(nonce, data, self._bound())
            plain, tag = bytes(data[:-_TAG_BYTES]), data[-_TAG_BYTES:]
            self.aead.decrypt(nonce, tag, self._bound(plain))
        except InvalidTag as error:
            raise ObjectDamaged(
                f"Object {self.name} is damaged, or is not what was written under that name."
            ) from error
        return plain

    def _bound(self, data: bytes | memoryview | None = None) -> bytes:
        """Return what a tag is bound to besides the ciphertext. No name has a zero byte, so it ends where the data begins."""
        bound = self.header + self.name.encode()
        return bound if data is None else b"".join((bound, b"\0", data))


class ObjectCipher:
    """Seals and unseals the objects of a repository. Any thread may call."""

    def __init__(self, key: bytes, suite: Suite = Suite.ENCRYPTED) -> None:
        self._key = key
        self._suite = suite

    def begin(self, name: str) -> Segments:
        """A new object, with a salt and so a key of its own."""
        return self._segments(name, self._suite.known_header + secrets.token_bytes(_SALT_BYTES))

    def begun(self, name: str, header: bytes) -> Segments:
        """An object that was stored with that header.

        Raises NewerFormat for one of a later version, and ObjectDamaged for one that is no sealed object's.
        """
        if len(header) == HEADER_BYTES:
            magic, version, algorithm, zero = _FIXED.unpack_from(header)
            is_later = version > _VERSION or algorithm > _LAST_ALGORITHM or zero
            if magic == _MAGIC and version and algorithm and is_later:
                form = f"version {version}, algorithm {algorithm}, flags {zero}"
                raise NewerFormat(f"Object {name} was {self._word} by a newer version of freezeframe ({form}).")
        if len(header) != HEADER_BYTES or not header.startswith(self._suite.known_header):
            raise ObjectDamaged(f"Object {name} is not {self._word} as this repository's objects are, or is cut short.")
        return self._segments(name, header)

    def seal(self, name: str, data: bytes | memoryview) -> bytearray:
        """The sealed object of that name with these bytes in it.

        Sealed in place: to join a MiB to its header afterwards took eight times as long as to encrypt it.
        """
        segments = self.begin(name)
        sealed = bytearray(sealed_bytes(len(data)))
        sealed[:HEADER_BYTES] = segments.header
        plain, room = memoryview(data), memoryview(sealed)[HEADER_BYTES:]
        for number, first, last in _cuts(len(data), SEGMENT_BYTES):
            piece = plain[first : first + SEGMENT_BYTES]
            at = number * STORED_SEGMENT_BYTES
            segments.seal_into(number, piece, room[at : at + len(piece) + _TAG_BYTES], last=last)
        return sealed

    def unseal(self, name: str, stored: bytes) -> bytes:
        """The bytes in a sealed object. Raises NewerFormat, and ObjectDamaged, whatever is in there."""
        segments = self.begun(name, stored[:HEADER_BYTES])
        body = memoryview(stored)[HEADER_BYTES:]
        parts = [
            segments.unseal(number, body[first : first + STORED_SEGMENT_BYTES], last=last)
            for number, first, last in _cuts(len(body), STORED_SEGMENT_BYTES)
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def _word(self) -> str:
        return self._suite.value

    def _segments(self, name: str, header: bytes) -> Segments:
        key = hkdf(self._key, _PURPOSES[self._suite], salt=header[-_SALT_BYTES:])
        return Segments(AESGCM(key), self._suite, header, name)


def segment_count(length: int, segment_bytes: int) -> int:
    """How many segments `length` bytes have; nothing is one, which is empty."""
    return max(1, -(-length // segment_bytes))


def sealed_bytes(plain_bytes: int) -> int:
    """The length of a sealed object with so many bytes in it."""
    return HEADER_BYTES + plain_bytes + _TAG_BYTES * segment_count(plain_bytes, SEGMENT_BYTES)


def plain_bytes_of(stored_bytes: int) -> int:
    """How many bytes are in a sealed object of that length; 0 if it is too short for one."""
    body = stored_bytes - HEADER_BYTES
    return max(0, body - _TAG_BYTES * segment_count(body, STORED_SEGMENT_BYTES))


def _cuts(length: int, segment_bytes: int) -> Iterator[tuple[int, int, bool]]:
    """Number, first byte, and whether it is the last, of each segment."""
    count = segment_count(length, segment_bytes)
    for number in range(count):
        yield number, number * segment_bytes, number == count - 1


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(8, "little") + bytes([0, 0, 0, last])
