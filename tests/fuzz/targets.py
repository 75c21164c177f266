"""The readers, and what must hold of each."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from random import Random
from uuid import UUID

from freezeframe.errors import FreezeframeError
from freezeframe.repository import Repository, zstd
from freezeframe.repository.chunk import unpack, unseal
from freezeframe.repository.config import Config, read_config
from freezeframe.repository.crypto import KeyFileKdf, ScryptKdf, Secret, SecretSort
from freezeframe.repository.crypto.cipher import ObjectCipher
from freezeframe.repository.crypto.keys import Keys
from freezeframe.repository.crypto.slot import make_slot, parse_slot
from freezeframe.repository.crypto.stream import unsealing
from freezeframe.repository.document import checked
from freezeframe.repository.errors import (
    ChunkDamaged,
    ConfigDamaged,
    IndexDamaged,
    KeySlotDamaged,
    ManifestDamaged,
    ManifestNewer,
    NewerFormat,
    ObjectDamaged,
    RepositoryUnsupported,
)
from freezeframe.repository.header import read_header
from freezeframe.repository.index import load_index
from freezeframe.repository.layout import CHUNK_BYTES_MAX, DIGEST_BYTES
from freezeframe.repository.manifest import parse_manifest
from freezeframe.repository.objects import Objects
from freezeframe.repository.protection import PLAIN
from freezeframe.repository.store import MemoryStore
from tests.fuzz.answers import ANSWERS
from tests.fuzz.notices import NOTICES
from tests.fuzz.target import Mutate, Target, mend_document
from tests.unit.repository.samples import capture_id, disk_capture, disk_of, envelope_of, manifest_of, store_disk

MASTER = bytes(range(32))
KEY_FILE = Secret(SecretSort.KEY_FILE, MASTER)
PASSPHRASE = Secret.passphrase("correct horse")
SLOT = f"keys/{'ab' * 16}.json"
OBJECT = "manifests/x"
REPOSITORY = UUID(int=5)

# chunk


@cache
def _chunk_seeds() -> list[bytes]:
    return [envelope_of(data) for data in (b"a", disk_of(b"text "), bytes(range(256)) * 16, b"\1" * (1 << 16))]


def _check_chunk(data: bytes) -> None:
    try:
        plain = unpack(data, "x")
    except (ChunkDamaged, NewerFormat):
        return
    assert 0 < len(plain) <= CHUNK_BYTES_MAX
    assert unseal(data, hashlib.sha256(plain).digest()) == plain


def _mend_chunk(data: bytes, mutate: Mutate, chance: Random) -> bytes:
    """Another chunk in an envelope that is right; or a frame that is another, behind a header that says what it says."""
    if chance.random() < 0.5:
        return envelope_of(mutate(unpack(data, "x")) or b"\0")
    frame = mutate(data[12:])
    stated = zstd.get_frame_info(frame).decompressed_size or 1
    return data[:8] + (stated & 0xFFFFFFFF).to_bytes(4, "little") + frame


# index


@cache
def _index_seeds() -> list[bytes]:
    store = MemoryStore()
    objects = Objects(store)
    repository = Repository.init_in(store, chunk_bytes=4096)
    digests = [store_disk(repository, disk_of(b"a", b"", b"b"), checkpoint="cp"), store_disk(repository, disk_of(b""))]
    return [objects.store.get(PLAIN.index_name(bytes.fromhex(one))) for one in digests]


def _check_index(data: bytes) -> None:
    """An index is known by its digest, so that is made right: what is behind it must stand by itself."""
    digest = hashlib.sha256(data).digest()
    store = MemoryStore()
    store.put(PLAIN.index_name(digest), io.BytesIO(data))
    try:
        index = load_index(Objects(store), digest)
    except (IndexDamaged, NewerFormat):
        return
    with index:
        used = list(index.used_slots())
        assert len(used) <= index.header.slots
        assert all(index.digest_at(slot) == found for slot, found in used[:100])
        assert index.table.sha256() == index.header.content


def _mend_index(data: bytes, mutate: Mutate, chance: Random) -> bytes:
    """Another table, encoded, whose digest is in the header; half of the time of a disk that has as many slots."""
    source = io.BytesIO(data)
    header = read_header(source, "x")
    table = mutate(zstd.ZstdDecompressor().decompress(source.read(), 1 << 20))
    if chance.random() < 0.5 and len(table) >= DIGEST_BYTES:
        table = table[: len(table) // DIGEST_BYTES * DIGEST_BYTES]
        header = replace(header, size_bytes=len(table) // DIGEST_BYTES * header.chunk_bytes)
    header = replace(header, content=hashlib.sha256(table).digest())
    return header.pack() + zstd.compress(table, 1)


# documents


def _check_told(error: FreezeframeError, place: str) -> None:
    """It can be shown, and names what is damaged."""
    assert place in error.message
    assert error.message.encode()


@cache
def _manifest_seeds() -> list[bytes]:
    disk = disk_capture("ab" * 32, 8192, checkpoint="cp")
    return [manifest_of(1).to_json(), manifest_of(1, disk, disk_capture("cd" * 32, 1, target="vdb")).to_json()]


def _check_manifest(data: bytes) -> None:
    try:
        manifest = parse_manifest(data, capture_id(1), "there")
    except (ManifestDamaged, ManifestNewer) as error:
        _check_told(error, "there")
        return
    assert parse_manifest(manifest.to_json(), capture_id(1), "there").to_json() == manifest.to_json()


@cache
def _config_seeds() -> list[bytes]:
    plain = Config(id=REPOSITORY, chunk_bytes=4096)
    return [plain.to_json(), checked({**json.loads(plain.to_json()), "features": ["encryption"], "mac": "ab" * 32})]


def _check_config(data: bytes) -> None:
    try:
        config = read_config(data, "there")
    except (ConfigDamaged, RepositoryUnsupported) as error:
        _check_told(error, "there")
        return
    again = read_config(config.to_json(), "there")
    assert again.model_dump() == config.model_dump()
    assert again.to_json() == config.to_json()


@cache
def _slot_seeds() -> list[bytes]:
    keys = Keys.of(MASTER)
    return [
        make_slot(SLOT, REPOSITORY, keys, KEY_FILE, KeyFileKdf(), "label").to_json(),
        make_slot(SLOT, REPOSITORY, keys, PASSPHRASE, ScryptKdf(n=2), "label").to_json(),
    ]


def _check_slot(data: bytes) -> None:
    try:
        slot = parse_slot(data, SLOT)
    except (KeySlotDamaged, NewerFormat) as error:
        _check_told(error, SLOT)
        return
    if isinstance(slot.kdf, ScryptKdf) and slot.kdf.n * slot.kdf.r * slot.kdf.p > 1 << 12:
        # takes seconds; so it is looked at whether OpenSSL would take it, and with how much memory
        assert 128 * slot.kdf.r * (slot.kdf.n + slot.kdf.p) <= 1 << 30
        assert slot.kdf.n < 1 << 16 * slot.kdf.r
    else:
        for secret in (KEY_FILE, PASSPHRASE):
            assert slot.open(SLOT, secret) in {None, MASTER}
    try:
        slot.read_about(SLOT, Keys.of(MASTER))
    except (KeySlotDamaged, ObjectDamaged, NewerFormat):
        return


# sealed objects


def _cipher() -> ObjectCipher:
    return ObjectCipher(Keys.of(MASTER).objects)


@cache
def _sealed_seeds() -> list[bytes]:
    return [bytes(_cipher().seal(OBJECT, data)) for data in (b"", b"a", disk_of(b"text "))]


def _check_sealed(data: bytes) -> None:
    found: list[bytes | None] = []
    reads: tuple[Callable[[], bytes], ...] = (
        lambda: _cipher().unseal(OBJECT, data),
        lambda: unsealing(_cipher(), OBJECT, io.BytesIO(data)).read(),
    )
    for read in reads:
        try:
            found.append(read())
        except (ObjectDamaged, NewerFormat):
            found.append(None)
    assert found[0] == found[1]


def _mend_sealed(data: bytes, mutate: Mutate, _: Random) -> bytes:
    return bytes(_cipher().seal(OBJECT, mutate(_cipher().unseal(OBJECT, data))))


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("chunk", _chunk_seeds, _check_chunk, _mend_chunk),
        Target("index", _index_seeds, _check_index, _mend_index),
        Target("manifest", _manifest_seeds, _check_manifest, mend_document),
        Target("config", _config_seeds, _check_config, mend_document),
        Target("key-slot", _slot_seeds, _check_slot, partial(mend_document, name=SLOT)),
        Target("sealed", _sealed_seeds, _check_sealed, _mend_sealed),
        *NOTICES,
        *ANSWERS,
    )
}
