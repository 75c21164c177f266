"""Repositories that are authenticated and not encrypted: all shows, and nobody without the key can forge any of it."""

from __future__ import annotations

import hashlib
import io
import json
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest

from freezeframe.repository import Manifest, Repository, Tier, verify
from freezeframe.repository.chunk import digest_of_chunk, unseal
from freezeframe.repository.config import Config
from freezeframe.repository.crypto import Keys, Suite, new_master
from freezeframe.repository.document import checked
from freezeframe.repository.errors import (
    ChunkDamaged,
    ConfigDamaged,
    IndexDamaged,
    KeyNotConfigured,
    ManifestUnreadable,
    NotAuthenticated,
    NotEncrypted,
    WrongKey,
    WrongRepository,
)
from freezeframe.repository.expected import Expected
from freezeframe.repository.protection import Sealed
from freezeframe.repository.store import MemoryStore

from .locked import KEY, KEY_FILE, Key, locked, names_of, protected
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, read_disk, seal, store_disk
from .versions.program import answer
from .versions.two import LANDED, REFUSING, new_key, running

#: A header of a sealed object, and a tag.
HEADER, TAG = 40, 16


def authenticated(store: MemoryStore | None = None) -> Repository:
    return locked(store, suite=Suite.AUTHENTICATED)


def named(store: MemoryStore, kind: str) -> str:
    """The one object of a kind."""
    (name,) = [name for name in names_of(store) if name.startswith(kind)]
    return name


def test_what_is_captured_lies_there_to_be_read_under_names_that_say_nothing() -> None:
    store = MemoryStore()
    disk = disk_of(b"a line that is in the guest's disk")
    manifest = seal(authenticated(store), 1, disk)
    digest = digest_of_chunk(disk)
    assert unseal(store.get(named(store, "chunks/"))[HEADER:-TAG], digest) == disk
    content = json.loads(store.get(named(store, "manifests/"))[HEADER:-TAG])
    assert content["capture_id"] == manifest.capture_id
    assert not any(digest.hex() in name or manifest.capture_id in name for name in names_of(store))


def test_stored_objects_are_as_long_as_encrypted_ones() -> None:
    lengths = []
    for suite in Suite:
        store = MemoryStore()
        seal(locked(store, suite=suite), 1, disk_of(b"a", b"", b"b"))
        lengths.append(
            sorted(len(store.get(name)) for name in names_of(store) if name.startswith(("chunks", "indexes")))
        )
    assert lengths[0] == lengths[1]


def test_it_is_not_read_without_a_key_and_not_with_another() -> None:
    """Its objects would have to be believed."""
    store = MemoryStore()
    authenticated(store)
    with pytest.raises(KeyNotConfigured, match="is authenticated, and no key is configured"):
        Repository.open_in(store)
    with pytest.raises(WrongKey):
        Repository.open_in(store, Key(KEY_FILE))


def forged(store: MemoryStore, manifest: Manifest, disk: bytes, keys: Keys) -> None:
    """Replace the only chunk, index and manifest by others that agree, sealed by somebody with keys of his own."""
    attacker = MemoryStore()
    made = Repository.init_in(attacker, chunk_bytes=CHUNK)
    index = store_disk(made, disk)
    own = manifest_of(1, disk_capture(index, len(disk)))
    sealing = Sealed(keys, Suite.AUTHENTICATED)
    envelope = attacker.get(named(attacker, "chunks/"))
    table = attacker.get(named(attacker, "indexes/"))
    for kind, data in (("chunks/", envelope), ("indexes/", table), ("manifests/", own.to_json())):
        name = named(store, kind)
        store.put(name, BytesIO(bytes(sealing.protect(name, data))))
    assert own != manifest


def test_who_has_read_everything_and_has_no_key_cannot_write_what_is_believed() -> None:
    """Every byte shows, so he can make the headers, names and digests right; the tags he cannot."""
    store = MemoryStore()
    repository = authenticated(store)
    manifest = seal(repository, 1, disk_of(b"a"))
    forged(store, manifest, disk_of(b"forged"), Keys.of(new_master()))
    opened = Repository.open_in(store, KEY)
    with pytest.raises(ManifestUnreadable, match=capture_id(1)):
        opened.manifests()
    with pytest.raises(IndexDamaged):
        opened.disk_reader(manifest.guests[0].disks[0].index)
    with pytest.raises(ChunkDamaged):
        opened.objects.chunk(digest_of_chunk(disk_of(b"a")))


@pytest.mark.parametrize("kind", ["chunks/", "indexes/", "manifests/"])
def test_other_bytes_under_the_old_tag_are_damage_wherever_they_differ(kind: str) -> None:
    store = MemoryStore()
    manifest = seal(authenticated(store), 1, disk_of(b"a"))
    name = named(store, kind)
    sound = store.get(name)
    for at in range(HEADER, len(sound)):
        store.put(name, BytesIO(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :]))
        opened = Repository.open_in(store, KEY)
        if kind == "manifests/":
            with pytest.raises(ManifestUnreadable):
                opened.manifests()
        else:
            assert not verify(opened, [manifest], Tier.DECODABLE).sound


def test_a_chunk_of_another_repository_with_another_key_is_none_of_this_one() -> None:
    stores = MemoryStore(), MemoryStore()
    manifests = [seal(authenticated(store), 1, disk_of(b"a")) for store in stores]
    one, other = (named(store, "chunks/") for store in stores)
    stores[0].put(one, BytesIO(stores[1].get(other)))
    report = verify(Repository.open_in(stores[0], KEY), manifests[:1], Tier.DECODABLE)
    assert [found.digest for found in report.chunks] == [hashlib.sha256(disk_of(b"a")).hexdigest()]


def test_an_older_program_refuses_it_by_its_feature(tmp_path: Path) -> None:
    key = new_key(tmp_path / "key", KEY_FILE.material)
    root = tmp_path / "repository"
    made = Repository.init(root, chunk_bytes=CHUNK, secret=KEY_FILE, suite=Suite.AUTHENTICATED, label="first")
    seal(made, 1, disk_of(b"a"))
    for version, named_so in ((REFUSING, ""), (LANDED, "authentication. A newer freezeframe is needed")):
        with running(version, tmp_path) as older:
            for step in ("read", "gc", "capture 2 abc", "verify", "check"):
                told = older.answer(str(root), str(key), step)["error"]
                assert told["code"] == "repository-unsupported"
                assert "authentication" in told["message"]
                assert named_so in told["message"]
    assert json.loads(answer(str(root), str(key), "check"))["gave"]["captures"] == [capture_id(1)]
    assert read_disk(made, made.manifest("latest").guests[0].disks[0].index) == disk_of(b"a")


@pytest.mark.parametrize(
    ("protection", "expected", "refusal"),
    [
        ("plain", Expected(encrypted=True), NotEncrypted),
        ("plain", Expected(authenticated=True), NotAuthenticated),
        ("plain", Expected(encrypted=False, authenticated=False), None),
        ("authenticated", Expected(encrypted=True), NotEncrypted),
        ("authenticated", Expected(authenticated=True), None),
        ("authenticated", Expected(encrypted=False), None),
        ("authenticated", Expected(authenticated=False), WrongRepository),
        ("encrypted", Expected(encrypted=True), None),
        ("encrypted", Expected(authenticated=True), None),
        ("encrypted", Expected(encrypted=False), WrongRepository),
        ("encrypted", Expected(authenticated=False), WrongRepository),
        ("authenticated", Expected(id=uuid4(), authenticated=True), WrongRepository),
    ],
)
def test_what_is_expected_is_compared_before_the_key_is_asked_for(
    protection: str, expected: Expected, refusal: type[Exception] | None
) -> None:
    made = protected(protection)
    if refusal is None:
        key = Key(None) if protection == "plain" else KEY
        assert Repository.open_in(made.store, key, expected).config == made.config
    else:
        with pytest.raises(refusal):
            Repository.open_in(made.store, KEY, expected)


def test_a_config_says_one_of_the_suites_or_none() -> None:
    store = MemoryStore()
    content = {**Config(id=uuid4()).content(), "features": ["authentication", "encryption"], "mac": "00" * 32}
    store.put("config", BytesIO(checked(content)))
    with pytest.raises(ConfigDamaged):
        Repository.open_in(store, KEY)


def test_an_index_is_sealed_and_read_as_a_stream() -> None:
    """An index of any size passes in segments of 4 MiB."""
    protection = Sealed(Keys.of(new_master()), Suite.AUTHENTICATED)
    data = bytes(range(256)) * (5 << 12)  # 5 MiB
    stored = protection.protect_stream("indexes/ab/abcd", io.BytesIO(data)).read()
    assert stored[HEADER : HEADER + 1000] == data[:1000]
    assert len(stored) == protection.stored_bytes(len(data))
    assert protection.reveal_stream("indexes/ab/abcd", io.BytesIO(stored)).read() == data
