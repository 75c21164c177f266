"""Indexes and manifests that are not what they should be: each is told as what it is, and nothing stays open."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

from freezeframe.repository import Repository, zstd
from freezeframe.repository import index as index_module
from freezeframe.repository.builder import IndexBuilder
from freezeframe.repository.document import checked
from freezeframe.repository.errors import IndexDamaged, ManifestDamaged, ParentUnfit, TemporaryStorageFailed
from freezeframe.repository.header import CHECKPOINT_BYTES_MAX, SLOTS_MAX, IndexHeader, read_header
from freezeframe.repository.index import load_index
from freezeframe.repository.layout import DIGEST_BYTES, index_name
from freezeframe.repository.manifest import Imported, parse_manifest
from freezeframe.repository.objects import Objects
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.table import SlotTable

from .locked import locked
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, random_disk, seal, store_disk

TABLE = b"\x07" * DIGEST_BYTES + bytes(DIGEST_BYTES)


def stored(store: MemoryStore, body: bytes, **header: Any) -> bytes:
    """An index with any body, under its right name."""
    made = IndexHeader(2 * CHUNK, CHUNK, **{"content": hashlib.sha256(TABLE).digest(), **header})
    data = made.pack() + body
    digest = hashlib.sha256(data).digest()
    store.put(index_name(digest), BytesIO(data))
    return digest


PACKED = zstd.compress(TABLE)


def test_such_an_index_is_loaded_if_all_is_right() -> None:
    store = MemoryStore()
    with load_index(Objects(store), stored(store, PACKED)) as index:
        assert list(index.used_slots()) == [(0, TABLE[:DIGEST_BYTES])]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the slot table is cut short"),
        (PACKED[:-1], "the slot table is cut short"),
        (PACKED + b"x", "does not end where it should"),
        (PACKED + PACKED, "does not end where it should"),
        (PACKED + bytes((1 << 20) + 5), "does not end where it should"),
        (zstd.compress(TABLE[:DIGEST_BYTES]), "does not end where it should"),
        (zstd.compress(TABLE + b"\x01"), "more digests than slots"),
        (b"no frame at all", "does not decompress|does not decode"),
    ],
)
def test_a_table_that_is_not_one_whole_table_is_damage(body: bytes, said: str) -> None:
    store = MemoryStore()
    with pytest.raises(IndexDamaged, match=said):
        load_index(Objects(store), stored(store, body))


@pytest.mark.parametrize("error", [ValueError("damaged"), TemporaryStorageFailed("full"), KeyboardInterrupt()])
def test_a_table_that_could_not_be_filled_does_not_stay_open(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    tables: list[SlotTable] = []

    def fail(table: SlotTable, *_: object) -> None:
        tables.append(table)
        raise error

    store = MemoryStore()
    digest = stored(store, PACKED)
    monkeypatch.setattr(SlotTable, "fill", fail)
    with pytest.raises((type(error), IndexDamaged)):
        load_index(Objects(store), digest)
    assert {table._file.closed for table in tables} == {True}


def test_a_header_is_read_as_it_was_packed() -> None:
    for header in (
        IndexHeader(1, CHUNK),
        IndexHeader(CHUNK + 1, CHUNK, b"c" * DIGEST_BYTES, b"p" * DIGEST_BYTES, "cp-1"),
        IndexHeader(CHUNK, CHUNK, checkpoint="c" * CHECKPOINT_BYTES_MAX),
        IndexHeader(SLOTS_MAX * CHUNK, CHUNK),
    ):
        source = BytesIO(header.pack() + b"the table")
        assert read_header(source, "x") == header
        assert source.read() == b"the table"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:50],
        lambda data: b"",
        lambda data: b"FFiy" + data[4:],
        lambda data: data[:4] + b"\x00" + data[5:],
        lambda data: data[:5] + b"\x00" + data[6:],
        lambda data: data[:6] + b"\x00" + data[7:],
        lambda data: data[:20] + b"\x00\x01" + data[22:] + bytes(300),
        lambda data: data[:8] + bytes(8) + data[16:],
        lambda data: data[:16] + bytes(4) + data[20:],
        lambda data: data[:-1] + b"\xff",
    ],
    ids=[
        "cut",
        "empty",
        "magic",
        "no version",
        "no digest",
        "no encoding",
        "name too long",
        "no bytes",
        "no chunks",
        "no UTF-8",
    ],
)
def test_a_header_that_makes_no_sense_is_damage(change: Callable[[bytes], bytes]) -> None:
    packed = IndexHeader(CHUNK + 1, CHUNK, checkpoint="cp").pack()
    with pytest.raises(IndexDamaged):
        read_header(BytesIO(change(packed)), "x")


@pytest.mark.parametrize(
    ("size_bytes", "checkpoint"), [(0, None), (SLOTS_MAX * CHUNK + 1, None), (1, "c" * 256), (1, "é" * 128)]
)
def test_a_header_that_could_not_be_read_again_is_not_made(size_bytes: int, checkpoint: str | None) -> None:
    with pytest.raises(ValueError, match="bytes"):
        IndexHeader(size_bytes, CHUNK, checkpoint=checkpoint)


# parents


@pytest.fixture
def repository() -> Repository:
    return Repository.init_in(MemoryStore(), chunk_bytes=CHUNK)


@pytest.mark.parametrize(("known", "fits"), [(None, True), ("cp-1", True), ("cp-2", False), ("", False)])
def test_a_parent_must_have_begun_the_checkpoint_since_which_changes_are_told(
    repository: Repository,
    known: str | None,
    fits: bool,  # noqa: FBT001
) -> None:
    """Else what changed between the two would be missing without a word."""
    parent = store_disk(repository, disk_of(b"a"), checkpoint="cp-1")
    if fits:
        repository.disk_writer(CHUNK, parent_index_digest=parent, parent_checkpoint=known).abort()
    else:
        with pytest.raises(ParentUnfit, match=f"began checkpoint cp-1, and changes are known since {known}"):
            repository.disk_writer(CHUNK, parent_index_digest=parent, parent_checkpoint=known)


def test_a_parent_that_does_not_fit_does_not_stay_open(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[SlotTable] = []
    init = SlotTable.__init__

    def noted(table: SlotTable, slots: int) -> None:
        init(table, slots)
        tables.append(table)

    parent = store_disk(repository, disk_of(b"a"), checkpoint="cp-1")
    monkeypatch.setattr(SlotTable, "__init__", noted)
    for size_bytes, known in ((CHUNK, "cp-2"), (2 * CHUNK, "cp-1")):
        with pytest.raises(ParentUnfit):
            repository.disk_writer(size_bytes, parent_index_digest=parent, parent_checkpoint=known)

    def fail(*_: object) -> None:
        raise TemporaryStorageFailed("full")

    monkeypatch.setattr(IndexBuilder, "_copy", fail)
    with pytest.raises(TemporaryStorageFailed):
        repository.disk_writer(CHUNK, parent_index_digest=parent)
    assert len(tables) == 4
    assert all(table._file.closed for table in tables)


def test_a_large_disks_incremental_has_every_slot_where_its_parent_has_it(repository: Repository) -> None:
    """A table of more than a MiB is copied in pieces."""
    slots = {0: b"a", 32_767: b"b", 32_768: b"c", 39_999: b"d"}
    with repository.disk_writer(40_000 * CHUNK) as writer:
        for slot, content in slots.items():
            writer.write_chunk(slot, disk_of(content))
        parent = writer.finish().digest
    with repository.disk_writer(40_000 * CHUNK, parent_index_digest=parent) as writer:
        writer.write_chunk(5, disk_of(b"e"))
        digest = writer.finish().digest
    with repository.index(parent) as before, repository.index(digest) as after:
        assert [slot for slot, _ in before.used_slots()] == list(slots)
        assert {slot: one for slot, one in after.used_slots() if slot != 5} == dict(before.used_slots())


# manifests


def test_a_manifest_is_of_the_capture_that_its_name_says(repository: Repository) -> None:
    data = seal(repository, 1, disk_of(b"a")).to_json()
    assert parse_manifest(data, capture_id(1), "x").capture_id == capture_id(1)
    with pytest.raises(ManifestDamaged):
        parse_manifest(data, capture_id(2), "x")


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"null", b'"text"', b"{}", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_manifest_is_damage(data: bytes) -> None:
    with pytest.raises(ManifestDamaged, match="the-place"):
        parse_manifest(data, capture_id(1), "the-place")


def test_a_manifest_with_a_changed_byte_is_damage() -> None:
    data = manifest_of(1, disk_capture("ab" * 32, CHUNK)).to_json()
    document = json.loads(data)
    for key in sorted(set(document) - {"checksum"}):
        changed = {**document, key: "changed"}
        with pytest.raises(ManifestDamaged):
            parse_manifest(json.dumps(changed).encode(), capture_id(1), "x")


def test_a_manifest_speaks_of_an_import_only_if_it_was_imported() -> None:
    """So that a capture of ours has the form that it always had: sealing twice is told from sealing differently by it."""
    ours = manifest_of(1, disk_capture("ab" * 32, CHUNK))
    assert "imported" not in json.loads(ours.to_json())
    imported = ours.model_copy(update={"imported": Imported(source="export", program="another")})
    assert parse_manifest(imported.to_json(), capture_id(1), "x").imported == imported.imported


@pytest.mark.parametrize(("field", "where"), [("created_at", "created_at"), ("capture_id", "capture_id")])
def test_a_manifest_that_this_program_cannot_read_is_told_with_the_place_in_it(field: str, where: str) -> None:
    """Its checksum is right: another program has written it."""
    document = json.loads(manifest_of(1, disk_capture("ab" * 32, CHUNK)).to_json())
    data = checked({**document, field: "of tomorrow"})
    with pytest.raises(ManifestDamaged, match=f"Manifest x cannot be read at {where}"):
        parse_manifest(data, capture_id(1), "x")


def test_an_index_is_read_only_as_fast_as_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are read before they are needed would wait in memory, any number of them."""
    given: list[bool] = []

    class Careful:
        def __init__(self, options: dict[int, int]) -> None:
            self._unpacking = zstd.ZstdDecompressor(options=options)

        def decompress(self, data: bytes, max_length: int) -> bytes:
            given.append(bool(data))
            assert self._unpacking.needs_input or not data
            return self._unpacking.decompress(data, max_length)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._unpacking, name)

    repository = Repository.init_in(MemoryStore(), chunk_bytes=CHUNK)
    disk = random_disk(300)
    digest = store_disk(repository, disk)
    monkeypatch.setattr(index_module, "zstd", SimpleNamespace(**{**vars(zstd), "ZstdDecompressor": Careful}))
    monkeypatch.setattr(index_module, "_PIECE_BYTES", 256)
    with repository.index(digest) as index:
        assert len(list(index.used_slots())) == 300
    assert set(given) == {True, False}


def test_an_index_that_cannot_be_decrypted_does_not_stay_open() -> None:
    class Opened(MemoryStore):
        def open(self, name: str) -> BinaryIO:
            sources.append(super().open(name))
            return sources[-1]

    sources: list[BinaryIO] = []
    repository = locked(Opened())
    digest = store_disk(repository, disk_of(b"a"))
    name = repository.objects.protection.index_name(bytes.fromhex(digest))
    repository.store.put_many([(name, b"cut short")])
    with pytest.raises(IndexDamaged, match=f"Index {digest} cannot be read"):
        repository.index(digest)
    assert {source.closed for source in sources} == {True}
