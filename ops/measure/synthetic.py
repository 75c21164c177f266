"""Synthetic indexes: of any number of disks and captures, made anew whenever one is opened, so that they need no room.

    disk   │ an eighth, as on all disks │ its own data …                            │
    capture 1     │ 1 % of scattered slots, other chunks │     and so on, each upon the one before

A digest is a piece of AES's key stream, by disk, capture and place: as good as random, and the same each time.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from freezeframe.repository import Manifest, Repository, zstd
from freezeframe.repository.crypto import Secret, SecretSort
from freezeframe.repository.header import IndexHeader
from freezeframe.repository.layout import DIGEST_BYTES
from freezeframe.repository.store import MemoryStore
from ops.measure.manifests import made_up

CHUNK_BYTES = 512 << 10
PIECE_SLOTS = 1 << 15
#: Of each disk one piece in so many is the same on all disks: an operating system.
COMMON = 8
#: One slot of so many is another in each capture, by chance which.
CHANGED = 100


@dataclass(frozen=True)
class Shape:
    """`disks` of `pieces` pieces of 32,768 slots each, `captures` times."""

    disks: int
    captures: int
    pieces: int = 64  # 1 TiB

    @property
    def slots(self) -> int:
        return self.disks * self.captures * self.pieces * PIECE_SLOTS


def pieces_of(shape: Shape, disk: int, capture: int) -> Iterator[bytes]:
    """The slot table of a disk at a capture, as capture 0 and all changes since have made it."""
    for piece in range(shape.pieces):
        table = bytearray(_stream(disk if piece % COMMON else 0, 0, piece, PIECE_SLOTS * DIGEST_BYTES))
        for number in range(1, capture + 1):
            _change(table, _stream(disk, number, piece, (PIECE_SLOTS // CHANGED) * (DIGEST_BYTES + 1)))
        yield bytes(table)


def _change(table: bytearray, drawn: bytes) -> None:
    for group in range(PIECE_SLOTS // CHANGED):
        at = group * (DIGEST_BYTES + 1)
        slot = group * CHANGED + drawn[at] % CHANGED
        table[slot * DIGEST_BYTES : (slot + 1) * DIGEST_BYTES] = drawn[at + 1 : at + 1 + DIGEST_BYTES]


def _stream(disk: int, capture: int, piece: int, length: int) -> bytes:
    start = b"".join(number.to_bytes(4, "big") for number in (disk, capture, piece, 0))
    return Cipher(algorithms.AES(b"synthetic digest"), modes.CTR(start)).encryptor().update(bytes(length))


class SyntheticStore(MemoryStore):
    """Gives indexes that are made when they are opened, and counts what is opened. `made_s`, `made_cpu_s`: what that took."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.opened: Counter[str] = Counter()
        self.made_s = self.made_cpu_s = 0.0
        self._places: dict[str, tuple[int, int, bytes]] = {}
        self._repository: Repository | None = None

    def fill(self, *, encrypted: bool) -> Repository:
        """A repository with a manifest for each capture, of all disks."""
        secret = Secret(SecretSort.KEY_FILE, os.urandom(32)) if encrypted else None
        self._repository = Repository.init_in(self, chunk_bytes=CHUNK_BYTES, secret=secret)
        for capture in range(self.shape.captures):
            indexes = [self._index(disk, capture) for disk in range(self.shape.disks)]
            size_bytes = self.shape.pieces * PIECE_SLOTS * CHUNK_BYTES
            self._put_manifest(made_up(capture, indexes, size_bytes, CHUNK_BYTES))
        return self._repository

    def _put_manifest(self, manifest: Manifest) -> None:
        """Without a look at its indexes, each of which would have to be made for it."""
        assert self._repository is not None
        protection = self._repository.objects.protection
        name = protection.manifest_name(manifest.capture_id)
        self.put_if_absent(name, protection.protect(name, manifest.to_json()))

    def open(self, name: str) -> BinaryIO:
        """The stored form of an index, in a temporary file."""
        if name not in self._places or self._repository is None:
            return super().open(name)
        self.opened[name] += 1
        began, cpu_began = time.monotonic(), time.process_time()
        disk, capture, header = self._places[name]
        stored = cast("BinaryIO", tempfile.TemporaryFile(dir=tempfile.gettempdir()))  # noqa: SIM115  closed by the caller
        with self._packed(disk, capture, header, hashlib.sha256()) as plain:
            source = self._repository.objects.protection.protect_stream(name, plain)
            while piece := source.read(1 << 20):
                stored.write(piece)
        stored.seek(0)
        self.made_s += time.monotonic() - began
        self.made_cpu_s += time.process_time() - cpu_began
        return stored

    def _index(self, disk: int, capture: int) -> str:
        """Note where an index of that disk is; its digest."""
        assert self._repository is not None
        size_bytes, content = self.shape.pieces * PIECE_SLOTS * CHUNK_BYTES, hashlib.sha256()
        header = IndexHeader(size_bytes, CHUNK_BYTES).pack()
        with self._packed(disk, capture, header, content) as plain:
            header = IndexHeader(size_bytes, CHUNK_BYTES, content=content.digest()).pack()
            plain.write(header)
            plain.seek(0)
            digest = hashlib.file_digest(plain, "sha256").digest()  # type: ignore[arg-type]  # a BinaryIO is enough
        self._places[self._repository.objects.protection.index_name(digest)] = (disk, capture, header)
        return digest.hex()

    def _packed(self, disk: int, capture: int, header: bytes, content: hashlib._Hash) -> BinaryIO:
        plain = cast("BinaryIO", tempfile.TemporaryFile(dir=tempfile.gettempdir()))  # noqa: SIM115  closed by the caller
        packing = zstd.ZstdCompressor(1)
        plain.write(header)
        for piece in pieces_of(self.shape, disk, capture):
            content.update(piece)
            plain.write(packing.compress(piece))
        plain.write(packing.flush())
        plain.seek(0)
        return plain
