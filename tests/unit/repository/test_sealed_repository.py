"""Repositories with keys, encrypted or not: the same captures come back, and whatever was changed is found and named.

All of it is done with each suite: nobody without a key can write what is believed.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.repository import ChunkOutcome, Manifest, Repository, Tier, verify
from freezeframe.repository.config import Config
from freezeframe.repository.crypto import Secret, Suite
from freezeframe.repository.document import checked
from freezeframe.repository.errors import (
    AlreadyExists,
    ConfigChanged,
    ConfigDamaged,
    IndexDamaged,
    KeyNotConfigured,
    KeySlotDamaged,
    ManifestUnreadable,
    NewerFormat,
    NotEncrypted,
    RepositoryError,
    WrongKey,
)
from freezeframe.repository.features import AUTHENTICATION, ENCRYPTION
from freezeframe.repository.layout import folder_of
from freezeframe.repository.store import DirectoryStore, MemoryStore

from .locked import CHEAP, KEY, SECRET, Key, locked, locked_at, names_of
from .samples import (
    CHUNK,
    capture_id,
    disk_capture,
    disk_of,
    manifest_of,
    random_disk,
    read_disk,
    seal,
    store_disk,
)

pytestmark = pytest.mark.usefixtures("suite")


def index_of(manifest: Manifest) -> str:
    return manifest.guests[0].disks[0].index


def named(store: MemoryStore, kind: str) -> str:
    """The one object of a kind."""
    (name,) = [name for name in names_of(store) if name.startswith(kind)]
    return name


def flip(store: MemoryStore, name: str, at: int) -> None:
    data = bytearray(store.get(name))
    data[at % len(data)] ^= 0x55
    store.put(name, BytesIO(bytes(data)))


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=12), st.integers(0, CHUNK - 1))
def test_what_is_captured_comes_back(chunks: list[bytes], short: int) -> None:
    store = MemoryStore()
    disk = disk_of(*chunks)[: len(chunks) * CHUNK - short]
    manifest = seal(locked(store), 1, disk)
    opened = Repository.open_in(store, KEY)
    assert opened.manifests() == [manifest]
    assert read_disk(opened, index_of(opened.manifest("latest"))) == disk
    assert all(verify(opened, [manifest], tier).sound for tier in Tier)


def test_it_is_made_and_opened_in_a_directory(root: Path) -> None:
    disk = random_disk(20)
    manifest = seal(locked_at(root), 1, disk)
    opened = Repository.open(root, KEY)
    assert opened.manifest(capture_id(1)) == manifest
    assert read_disk(opened, index_of(manifest)) == disk


def test_an_incremental_stands_upon_its_parent() -> None:
    repository = locked()
    parent = store_disk(repository, disk_of(b"a", b"b", b"c"))
    with repository.disk_writer(3 * CHUNK, CHUNK, parent_index_digest=parent) as writer:
        writer.write_chunk(1, disk_of(b"B"))
        writer.set_zero(2)
        index = writer.finish().digest
    assert read_disk(repository, index) == disk_of(b"a", b"B", b"")


def test_a_receipt_counts_bytes_as_they_are_stored() -> None:
    store = MemoryStore()
    repository = locked(store)
    before = sum(len(store.get(name)) for name in names_of(store))
    with repository.disk_writer(3 * CHUNK) as writer:
        for slot, data in enumerate((os.urandom(CHUNK), disk_of(b"a"), disk_of(b"a"))):
            writer.write_chunk(slot, data)
        receipt = writer.finish()
    assert receipt.bytes_stored == sum(len(store.get(name)) for name in names_of(store)) - before


def test_captures_are_listed_newest_first_and_found_by_a_beginning() -> None:
    repository = locked()
    for number in (2, 3, 1):
        seal(repository, number, disk_of(b"a"))
    assert [one.capture_id for one in repository.manifests()] == [capture_id(n) for n in (3, 2, 1)]
    assert repository.manifest("latest").capture_id == capture_id(3)
    assert repository.manifest(capture_id(2)).capture_id == capture_id(2)


def test_sealing_twice_is_once_and_differently_is_refused() -> None:
    repository = locked()
    manifest = seal(repository, 1, disk_of(b"a"))
    repository.write_manifest(manifest)
    with pytest.raises(AlreadyExists):
        repository.write_manifest(manifest.model_copy(update={"group": "other"}))
    assert repository.manifests() == [manifest]


# writers share


def test_writers_at_once_share_their_chunks(root: Path) -> None:
    locked_at(root)
    disk = random_disk(60)

    def write_all(_: int) -> str:
        return store_disk(Repository.open(root, KEY), disk)

    with ThreadPoolExecutor(2) as pool:
        indexes = set(pool.map(write_all, range(2)))
    assert len(indexes) == 1
    assert len(list((root / "chunks").glob("??/*"))) == 60
    assert read_disk(Repository.open(root, KEY), indexes.pop()) == disk


def test_a_chunk_that_another_has_written_is_known() -> None:
    store = MemoryStore()
    store_disk(locked(store), disk_of(b"a"))
    with Repository.open_in(store, KEY).disk_writer(2 * CHUNK) as writer:
        assert writer.write_chunk(0, disk_of(b"a")) is ChunkOutcome.KNOWN
        assert writer.write_chunk(1, disk_of(b"b")) is ChunkOutcome.NEW


def test_a_known_chunk_is_settled_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder is that of its hidden name. The other writer may not have come to its own fsync."""
    store = MemoryStore()
    store_disk(locked(store), disk_of(b"a"))
    settled: list[str] = []
    monkeypatch.setattr(store, "settle", settled.extend)
    store_disk(Repository.open_in(store, KEY), disk_of(b"a"))
    assert settled == [folder_of(named(store, "chunks"))]


# what was changed is found


def says_form(store: MemoryStore, kind: str, at: int) -> bool:
    """Return True for a byte of a sealed object that says which form it has: changed, it is a newer version's."""
    return 4 <= at % len(store.get(named(store, kind))) < 8


@given(st.integers(0, 10_000))
def test_any_changed_byte_of_a_chunk_is_found_and_named(at: int) -> None:
    store = MemoryStore()
    manifest = seal(locked(store), 1, disk_of(b"a"))
    flip(store, named(store, "chunks"), at)
    report = verify(Repository.open_in(store, KEY), [manifest], Tier.DECODABLE)
    damage = report.newer if says_form(store, "chunks", at) else report.chunks
    assert [one.digest for one in damage] == [hashlib.sha256(disk_of(b"a")).hexdigest()]
    assert [place.capture_id for one in damage for place in one.places] == [capture_id(1)]


@given(st.integers(0, 10_000))
def test_any_changed_byte_of_an_index_is_found_and_named(at: int) -> None:
    store = MemoryStore()
    manifest = seal(locked(store), 1, disk_of(b"a"))
    flip(store, named(store, "indexes"), at)
    opened = Repository.open_in(store, KEY)
    is_newer = says_form(store, "indexes", at)
    told, name = (NewerFormat, "indexes/") if is_newer else (IndexDamaged, index_of(manifest))
    with pytest.raises(told, match=name):
        opened.disk_reader(index_of(manifest))
    with pytest.raises(told, match=name):
        opened.write_manifest(manifest_of(2, *manifest.guests[0].disks))
    report = verify(opened, [manifest])
    damage = report.newer if is_newer else report.indexes
    assert [one.digest for one in damage] == [index_of(manifest)]
    assert [place.capture_id for one in damage for place in one.places] == [capture_id(1)]


@given(st.integers(0, 10_000))
def test_any_changed_byte_of_a_manifest_is_found_and_named(at: int) -> None:
    store = MemoryStore()
    seal(locked(store), 1, disk_of(b"a"))
    flip(store, named(store, "manifests"), at)
    told: list[ManifestUnreadable] = []
    assert Repository.open_in(store, KEY).manifests(on_damaged=told.append) == []
    assert [capture_id(1) in one.message for one in told] == [True]


@given(st.integers(0, 10_000))
def test_any_changed_byte_of_the_config_is_found_and_named(at: int) -> None:
    store = MemoryStore()
    locked(store)
    flip(store, "config", at)
    with pytest.raises(RepositoryError, match=r"config|memory:|format"):
        Repository.open_in(store, KEY)


@given(st.integers(0, 10_000))
def test_any_changed_byte_of_a_key_slot_is_found_and_named(at: int) -> None:
    store = MemoryStore()
    locked(store)
    name = named(store, "keys")
    flip(store, name, at)
    with pytest.raises(KeySlotDamaged, match=name):
        Repository.open_in(store, KEY)


@pytest.mark.parametrize("kind", ["chunks", "indexes", "manifests"])
def test_swapped_objects_are_found(kind: str) -> None:
    store = MemoryStore()
    repository = locked(store)
    manifests = [seal(repository, number, disk_of(letter)) for number, letter in ((1, b"a"), (2, b"b"))]
    one, two = [name for name in names_of(store) if name.startswith(kind)]
    first, second = store.get(one), store.get(two)
    store.put(one, BytesIO(second))
    store.put(two, BytesIO(first))
    told: list[ManifestUnreadable] = []
    opened = Repository.open_in(store, KEY)
    opened.manifests(on_damaged=told.append)
    if kind == "manifests":
        assert len(told) == 2
    else:
        report = verify(opened, manifests, Tier.DECODABLE)  # decoding alone would not know one chunk from another
        assert len(report.chunks if kind == "chunks" else report.indexes) == 2


def test_a_plain_object_is_damage_in_a_repository_with_keys() -> None:
    """Who can write to the store, but has no key, cannot give readers anything of his own."""
    plain, store = MemoryStore(), MemoryStore()
    seal(Repository.init_in(plain, chunk_bytes=CHUNK), 1, disk_of(b"a"))
    manifest = seal(locked(store), 1, disk_of(b"a"))
    for kind in ("chunks", "indexes", "manifests"):
        store.put(named(store, kind), BytesIO(plain.get(named(plain, kind))))
    opened = Repository.open_in(store, KEY)
    with pytest.raises(ManifestUnreadable):
        opened.manifests()
    with pytest.raises(IndexDamaged):
        opened.disk_reader(index_of(manifest))


def test_a_plain_manifest_beside_the_others_is_none() -> None:
    plain, store = MemoryStore(), MemoryStore()
    seal(Repository.init_in(plain, chunk_bytes=CHUNK), 1, disk_of(b"a"))
    locked(store)
    store.put(named(plain, "manifests"), BytesIO(plain.get(named(plain, "manifests"))))
    store.put(f"manifests/{'ab' * 32}", BytesIO(b"x"))
    assert Repository.open_in(store, KEY).manifests() == []


# the config


def rewrite(store: MemoryStore, **change: object) -> None:
    """As somebody would who knows the format: with a checksum that is right."""
    content = {**json.loads(store.get("config")), **change}
    bare = {key: value for key, value in content.items() if value is not None}
    store.put("config", BytesIO(checked(bare)))


@pytest.mark.parametrize("key", [KEY, Key(None)])
def test_keys_cannot_be_taken_away(key: Key) -> None:
    """Neither unseen by who expects it, nor by who does not: captures would be written without them."""
    store = MemoryStore()
    locked(store)
    rewrite(store, features=[], mac=None)
    with pytest.raises(NotEncrypted if key.expected else ConfigChanged):
        Repository.open_in(store, key)


def test_the_suite_of_a_repository_cannot_be_changed(suite: Suite) -> None:
    """An encrypted one that says that it is authenticated would store captures in the clear."""
    features = {Suite.ENCRYPTED: ENCRYPTION, Suite.AUTHENTICATED: AUTHENTICATION}
    (other,) = features.keys() - {suite}
    store = MemoryStore()
    opened = locked(store)
    rewrite(store, features=[features[other]])
    with pytest.raises(ConfigChanged):
        Repository.open_in(store, KEY)
    with pytest.raises(ConfigChanged):
        opened.check_there()
    rewrite(store, features=sorted(features.values()))
    with pytest.raises(ConfigDamaged):
        Repository.open_in(store, KEY)


def test_a_downgraded_config_is_found_in_a_directory(root: Path) -> None:
    locked_at(root)
    (root / "config").write_bytes(Config(id=Repository.open(root, KEY).config.id).to_json())
    for key in (KEY, Key(None)):
        with pytest.raises((NotEncrypted, ConfigChanged)):
            Repository.open(root, key)


def test_a_changed_config_is_found() -> None:
    store = MemoryStore()
    locked(store)
    rewrite(store, chunk_bytes=8192)
    with pytest.raises(ConfigChanged):
        Repository.open_in(store, KEY)


def test_the_config_of_another_repository_is_found() -> None:
    store, other = MemoryStore(), MemoryStore()
    locked(store)
    locked(other)
    store.put("config", BytesIO(other.get("config")))
    with pytest.raises(KeySlotDamaged, match="id was changed"):
        Repository.open_in(store, KEY)


@pytest.mark.parametrize("change", [{"mac": None}, {"mac": "00"}, {"features": []}])
def test_a_config_that_has_half_of_its_keys_is_damage(change: dict[str, object]) -> None:
    store = MemoryStore()
    locked(store)
    rewrite(store, **change)
    with pytest.raises(ConfigDamaged):
        Repository.open_in(store, Key(None))


# keys


def test_without_a_key_it_is_not_opened() -> None:
    store = MemoryStore()
    locked(store)
    with pytest.raises(KeyNotConfigured):
        Repository.open_in(store)


def test_with_another_key_it_is_not_opened() -> None:
    store = MemoryStore()
    locked(store)
    with pytest.raises(WrongKey, match="passphrase"):
        Repository.open_in(store, Key(Secret.passphrase("wrong")))


def test_a_repository_without_keys_is_refused_to_who_has_one() -> None:
    store = MemoryStore()
    Repository.init_in(store)
    with pytest.raises(NotEncrypted):
        Repository.open_in(store, KEY)


def test_a_slot_of_an_init_that_died_is_ignored() -> None:
    """It died between the first slot and the config; then init was called again, with keys or without."""
    for again in (SECRET, None):
        store = MemoryStore()
        locked(store)
        store.delete("config")
        Repository.init_in(store, chunk_bytes=CHUNK, secret=again, label="again", kdf=CHEAP)
        opened = Repository.open_in(store, Key(again))
        seal(opened, 1, disk_of(b"a"))
        if again is not None:
            slots, keys = opened.encryption
            assert [info.label for info in slots.list(keys)[0]] == ["again"]


def test_keys_are_in_no_repr() -> None:
    repository = locked()
    slots, keys = repository.encryption
    shown = repr((keys, SECRET, slots, repository, repository.objects))
    for secret in (keys.master, keys.objects, SECRET.material):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def test_a_shared_repository_on_two_hosts_is_one(root: Path) -> None:
    """A capture of two disks, each written by another process, sealed by a third."""
    locked_at(root)
    stores = [Repository.open_in(DirectoryStore(root), KEY) for _ in range(3)]
    indexes = [store_disk(stores[n], disk_of(b"a", bytes([65 + n]))) for n in range(2)]
    disks = [disk_capture(index, 2 * CHUNK, target=f"vd{'ab'[n]}") for n, index in enumerate(indexes)]
    stores[2].write_manifest(manifest_of(1, *disks))
    assert verify(stores[0], stores[0].manifests()).chunks_checked == 3
