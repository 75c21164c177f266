from __future__ import annotations

import hashlib
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.repository import zstd
from freezeframe.repository.builder import IndexBuilder
from freezeframe.repository.errors import IndexDamaged, NewerFormat, ParentUnfit
from freezeframe.repository.header import IndexHeader
from freezeframe.repository.index import load_index
from freezeframe.repository.layout import index_name
from freezeframe.repository.objects import Objects
from freezeframe.repository.store import MemoryStore

CHUNK = 4096
digests = st.binary(min_size=32, max_size=32).filter(any)


def store_bytes(store: MemoryStore, data: bytes) -> bytes:
    """Put any bytes where an index of theirs would be."""
    digest = hashlib.sha256(data).digest()
    store.put(index_name(digest), BytesIO(data))
    return digest


def built(store: MemoryStore, slots: dict[int, bytes], size_bytes: int, checkpoint: str | None = None) -> bytes:
    with IndexBuilder(size_bytes, CHUNK, checkpoint=checkpoint) as builder:
        for slot, digest in slots.items():
            builder.set(slot, digest)
        return builder.store(Objects(store))[0]


@given(
    st.dictionaries(st.integers(0, 99), digests, max_size=20),
    st.integers(99 * CHUNK + 1, 100 * CHUNK),
    st.none() | st.text(min_size=1, max_size=60),
)
def test_what_is_set_is_read(slots: dict[int, bytes], size_bytes: int, checkpoint: str | None) -> None:
    store = MemoryStore()
    with load_index(Objects(store), built(store, slots, size_bytes, checkpoint)) as index:
        assert dict(index.used_slots()) == slots
        assert list(dict(index.used_slots())) == sorted(slots)
        assert [index.digest_at(slot) for slot in range(100)] == [slots.get(slot) for slot in range(100)]
        assert (index.header.size_bytes, index.header.slots, index.header.checkpoint) == (size_bytes, 100, checkpoint)
        with pytest.raises(IndexError):
            index.digest_at(100)


@given(
    st.dictionaries(st.integers(0, 49), digests),
    st.dictionaries(st.integers(0, 49), st.none() | digests),
)
def test_an_incremental_is_its_parent_with_the_dirty_slots_overwritten(
    before: dict[int, bytes], dirty: dict[int, bytes | None]
) -> None:
    store = MemoryStore()
    parent_digest = built(store, before, 50 * CHUNK)
    with load_index(Objects(store), parent_digest) as parent:
        builder = IndexBuilder(50 * CHUNK, CHUNK, parent=parent)
    with builder:
        for slot, digest in dirty.items():
            builder.set_zero(slot) if digest is None else builder.set(slot, digest)
        digest, _ = builder.store(Objects(store))
    store.delete(index_name(parent_digest))  # no reader follows the parent
    with load_index(Objects(store), digest) as index:
        assert index.header.parent == parent_digest
        assert dict(index.used_slots()) == {slot: one for slot, one in {**before, **dirty}.items() if one is not None}


@pytest.mark.parametrize(("size_bytes", "chunk_bytes"), [(50 * CHUNK - 1, CHUNK), (50 * CHUNK, 2 * CHUNK)])
def test_a_parent_of_another_shape_is_unfit(size_bytes: int, chunk_bytes: int) -> None:
    store = MemoryStore()
    with load_index(Objects(store), built(store, {}, 50 * CHUNK)) as parent, pytest.raises(ParentUnfit):
        IndexBuilder(size_bytes, chunk_bytes, parent=parent)


def test_threads_set_their_slots() -> None:
    store = MemoryStore()
    builder = IndexBuilder(20_000 * CHUNK, CHUNK)
    wanted = {slot: os.urandom(32) for slot in range(20_000)}
    with builder, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda slot: builder.set(slot, wanted[slot]), wanted))
        digest, _ = builder.store(Objects(store))
    with load_index(Objects(store), digest) as index:
        assert dict(index.used_slots()) == wanted


def test_a_run_of_holes_is_set_at_once() -> None:
    store = MemoryStore()
    with IndexBuilder(100_000 * CHUNK, CHUNK) as builder:
        for slot in (0, 9, 10, 70_000, 99_998, 99_999):
            builder.set(slot, os.urandom(32))
        builder.set_zero(10, 99_989)
        with pytest.raises(IndexError):
            builder.set_zero(10, 100_000)
        digest, _ = builder.store(Objects(store))
    with load_index(Objects(store), digest) as index:
        assert [slot for slot, _ in index.used_slots()] == [0, 9, 99_999]


def test_a_large_empty_disk_costs_nothing() -> None:
    """1 TiB at 1 MiB a chunk: the table is 32 MiB, of which only what is touched exists anywhere."""
    store = MemoryStore()
    tracemalloc.start()
    builder = IndexBuilder(1 << 40, 1 << 20)
    for slot in range(0, 1 << 20, 1 << 14):
        builder.set(slot, os.urandom(32))
    builder.set_zero(1, 1 << 13)
    digest, stored_bytes = builder.store(Objects(store))
    with builder, load_index(Objects(store), digest) as index:
        assert len(list(index.used_slots())) == 64
        files = [builder._table._file, index.table._file]
        assert all(os.fstat(file.fileno()).st_blocks * 512 < 2 << 20 for file in files)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert stored_bytes < 32 << 10


@given(st.binary(max_size=300))
def test_garbage_under_its_right_name_is_damage(garbage: bytes) -> None:
    store = MemoryStore()
    with pytest.raises(IndexDamaged):
        load_index(Objects(store), store_bytes(store, garbage))


@settings(max_examples=300)
@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_under_its_right_name_is_damage_or_harmless(at: int, flip: int) -> None:
    store = MemoryStore()
    original = built(store, {n: bytes([n + 1]) * 32 for n in range(5)}, 9 * CHUNK, "cp")
    data = bytearray(store.get(index_name(original)))
    data[at % len(data)] ^= flip
    try:
        # the parent, the checkpoint's name and the size within the last slot are not bound to anything else here
        load_index(Objects(store), store_bytes(store, bytes(data))).close()
    except IndexDamaged:
        pass
    except NewerFormat:
        assert at % len(data) in {4, 5, 6, 7, 22, 23}  # what says which form it has


def test_an_index_with_other_bytes_than_its_name_says_is_damage() -> None:
    store = MemoryStore()
    digest = built(store, {}, CHUNK)
    store.put(index_name(digest), BytesIO(store.get(index_name(digest)) + b"x"))
    with pytest.raises(IndexDamaged, match="other bytes"):
        load_index(Objects(store), digest)


def test_a_missing_index_is_damage() -> None:
    with pytest.raises(IndexDamaged, match="missing"):
        load_index(Objects(MemoryStore()), bytes(32))


@pytest.mark.parametrize("table", [bytes(32), bytes(96), bytes(64) + b"x", bytes(100 << 20)])
def test_a_table_of_another_length_is_damage(table: bytes) -> None:
    store = MemoryStore()
    header = IndexHeader(2 * CHUNK, CHUNK, content=hashlib.sha256(table).digest())
    with pytest.raises(IndexDamaged):
        load_index(Objects(store), store_bytes(store, header.pack() + zstd.compress(table)))


def test_the_index_is_as_documented() -> None:
    store = MemoryStore()
    table = bytes([7]) * 32 + bytes(32)
    data = store.get(index_name(built(store, {0: bytes([7]) * 32}, CHUNK + 1, "cp")))
    sizes = (CHUNK + 1).to_bytes(8, "little") + CHUNK.to_bytes(4, "little") + (2).to_bytes(2, "little") + bytes(2)
    header = b"FFix" + bytes([1, 1, 1, 0]) + sizes + bytes(32) + hashlib.sha256(table).digest() + b"cp"
    assert data.startswith(header)
    assert zstd.decompress(data[len(header) :]) == table


@pytest.mark.parametrize(
    ("size_bytes", "chunk_bytes"), [(0, CHUNK), (CHUNK, 0), (CHUNK, 5000), (CHUNK, 2048), (1 << 60, CHUNK)]
)
def test_a_disk_that_cannot_be_is_refused(size_bytes: int, chunk_bytes: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        IndexBuilder(size_bytes, chunk_bytes)


def test_a_header_of_another_table_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a writer that is wrong itself can make one: its file has the digest that its name says."""
    store = MemoryStore()
    with IndexBuilder(10 * CHUNK, CHUNK) as builder:
        builder.set(3, os.urandom(32))
        monkeypatch.setattr("freezeframe.repository.table.SlotTable.sha256", lambda _: b"\xab" * 32)
        digest, _ = builder.store(Objects(store))
    monkeypatch.undo()
    with pytest.raises(IndexDamaged, match="another than the header says"):
        load_index(Objects(store), digest)
