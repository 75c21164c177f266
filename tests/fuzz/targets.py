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

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from freezeframe.errors import FreezeframeError
from freezeframe.repository import Repository, zstd
from freezeframe.repository.chunk import unpack, unseal
from freezeframe.repository.config import Config, read_config
from freezeframe.repository.crypto import KeyFileKdf, ScryptKdf, Secret, SecretSort
from freezeframe.repository.crypto.cipher import HEADER_BYTES, ObjectCipher, Suite
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
    kinds = [["encryption"], ["authentication"]]
    return [plain.to_json(), *(_keyed(plain, features) for features in kinds)]


def _keyed(plain: Config, features: list[str]) -> bytes:
    return checked({**json.loads(plain.to_json()), "features": features, "mac": "ab" * 32})


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


def _cipher(suite: Suite) -> ObjectCipher:
    return ObjectCipher(Keys.of(MASTER).objects, suite)


#: What is sealed for the seeds.
_SEALED = (b"", b"a", disk_of(b"text "))


@cache
def _sealed_seeds(suite: Suite) -> list[bytes]:
    return [bytes(_cipher(suite).seal(OBJECT, data)) for data in _SEALED]


def _check_sealed(suite: Suite, data: bytes) -> None:
    """Both readers give the same, and nothing that was not sealed: every way to read gives it back whole, or refuses it."""
    cipher = _cipher(suite)
    found: list[bytes | None] = []
    reads: tuple[Callable[[], bytes], ...] = (
        lambda: cipher.unseal(OBJECT, data),
        lambda: unsealing(cipher, OBJECT, io.BytesIO(data)).read(),
    )
    for read in reads:
        try:
            found.append(read())
        except (ObjectDamaged, NewerFormat):
            found.append(None)
    assert found[0] == found[1]
    if found[0] is None:
        return
    assert bytes(data) == _as_documented(suite, bytes(data[:HEADER_BYTES]), found[0])
    for name, other in ((OBJECT, _OTHER[suite]), ("manifests/y", suite)):
        _check_refused(_cipher(other), name, data)


def _as_documented(suite: Suite, header: bytes, text: bytes) -> bytes:
    """Return the sealed object of one segment, made from what docs/repository.md says and nothing of the program's own."""
    purpose = b"freezeframe object" if suite is Suite.ENCRYPTED else b"freezeframe authenticated object"
    key = HKDF(SHA256(), 32, salt=header[-32:], info=purpose).derive(Keys.of(MASTER).objects)
    nonce, bound = bytes(11) + b"\1", header + OBJECT.encode()
    if suite is Suite.ENCRYPTED:
        return header + AESGCM(key).encrypt(nonce, text, bound)
    return header + text + AESGCM(key).encrypt(nonce, b"", bound + b"\0" + text)


#: No object of one form is read as one of the other.
_OTHER = {Suite.ENCRYPTED: Suite.AUTHENTICATED, Suite.AUTHENTICATED: Suite.ENCRYPTED}


def _check_refused(cipher: ObjectCipher, name: str, data: bytes) -> None:
    try:
        cipher.unseal(name, data)
    except ObjectDamaged:
        return
    raise AssertionError(f"{name} was read")


def _mend_sealed(suite: Suite, data: bytes, mutate: Mutate, chance: Random) -> bytes:
    """Another text that is sealed; or, of what shows, another text behind a tag that is not its own."""
    text = _cipher(suite).unseal(OBJECT, data)
    if suite is Suite.ENCRYPTED or chance.random() < 0.5:
        return bytes(_cipher(suite).seal(OBJECT, mutate(text)))
    return data[:HEADER_BYTES] + mutate(text) + data[HEADER_BYTES + len(text) :]


def _sealed(name: str, suite: Suite) -> Target:
    return Target(name, partial(_sealed_seeds, suite), partial(_check_sealed, suite), partial(_mend_sealed, suite))


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("chunk", _chunk_seeds, _check_chunk, _mend_chunk),
        Target("index", _index_seeds, _check_index, _mend_index),
        Target("manifest", _manifest_seeds, _check_manifest, mend_document),
        Target("config", _config_seeds, _check_config, mend_document),
        Target("key-slot", _slot_seeds, _check_slot, partial(mend_document, name=SLOT)),
        _sealed("sealed", Suite.ENCRYPTED),
        _sealed("authenticated", Suite.AUTHENTICATED),
        *NOTICES,
        *ANSWERS,
    )
}
