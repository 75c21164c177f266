"""The promises of a store, asked of each sort."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from freezeframe.repository.errors import AlreadyExists, ObjectDamaged, ObjectNotFound
from freezeframe.repository.layout import (
    CHUNKS,
    CONFIG,
    MANIFESTS,
    condemned_name,
    folder_of,
    folders,
    locate,
    manifest_name,
    object_bytes_max,
)
from freezeframe.repository.store import MemoryStore, Store
from freezeframe.repository.store.address import create_store

from .samples import capture_id

NAME = locate(bytes(range(32)))
CONDEMNED = condemned_name(capture_id(1), NAME)


@pytest.fixture(params=["directory", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return create_store(request.getfixturevalue("s3_address") if request.param == "s3" else tmp_path / "store")


def test_what_is_put_is_got(store: Store) -> None:
    store.put(NAME, BytesIO(b"bytes"))
    assert store.get(NAME) == b"bytes"
    assert store.size(NAME) == 5
    assert store.exists(NAME)
    with store.open(NAME) as source:
        assert (source.read(2), source.seek(0), source.read()) == (b"by", 0, b"bytes")


def test_many_are_put_at_once(store: Store) -> None:
    objects = [(locate(bytes([n % 7, n // 256, n % 256]) + bytes(29)), str(n).encode()) for n in range(300)]
    store.put_many(objects)
    assert all(store.get(name) == data for name, data in objects)


def test_nothing_is_put_many(store: Store) -> None:
    store.put_many([])


def test_an_object_may_be_put_again(store: Store) -> None:
    store.put_many([(NAME, b"one")])
    store.put_many([(NAME, b"two")])
    store.put(NAME, BytesIO(b"three"))
    assert store.get(NAME) == b"three"


def test_a_large_object_goes_through_whole(store: Store) -> None:
    data = bytes(range(256)) * 20_000
    store.put(NAME, BytesIO(data))
    assert store.get(NAME) == data


def test_an_object_is_what_its_source_has_from_its_place_on(store: Store) -> None:
    for length in (5, 9 << 20):  # one that goes in parts, where there are any
        data = os.urandom(length)
        source = BytesIO(b"before" + data)
        source.seek(6)
        store.put(NAME, source)
        with store.open(NAME) as copy:
            assert copy.read() == data


def test_an_absent_name_is_taken_once(store: Store) -> None:
    name = manifest_name(capture_id(1))
    store.put_if_absent(name, b"first")
    with pytest.raises(AlreadyExists):
        store.put_if_absent(name, b"second")
    assert store.get(name) == b"first"


def test_of_many_who_create_one_wins(store: Store) -> None:
    def create(n: int) -> bool:
        try:
            store.put_if_absent(CONFIG, str(n).encode())
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(32)))
    assert won.count(True) == 1
    assert store.get(CONFIG) == str(won.index(True)).encode()


@pytest.mark.parametrize("ask", ["get", "open", "size"])
def test_what_is_not_there_is_not_found(store: Store, ask: str) -> None:
    assert not store.exists(NAME)
    with pytest.raises(ObjectNotFound):
        getattr(store, ask)(NAME)


def test_names_are_those_of_one_folder(store: Store) -> None:
    ids = [manifest_name(capture_id(n)) for n in range(5)]
    for name in ids:
        store.put_if_absent(name, b"{}")
    store.put_many([(NAME, b"chunk")])
    assert sorted(store.names(MANIFESTS)) == ids
    assert list(store.names(f"{CHUNKS}/00")) == [NAME]
    assert list(store.names(CHUNKS)) == []


def test_a_delete_twice_is_once(store: Store) -> None:
    store.put_many([(NAME, b"chunk")])
    store.delete(NAME)
    store.delete(NAME)
    assert not store.exists(NAME)


def test_entries_are_names_with_sizes_and_times(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)  # what a store's clock may leave out of a second
    store.put_many([(NAME, b"chunk")])
    (entry,) = store.entries(folder_of(NAME))
    assert (entry.name, entry.size) == (NAME, 5)
    assert before <= entry.modified <= datetime.now(UTC) + timedelta(seconds=2)
    assert abs(store.modified(NAME) - entry.modified) < timedelta(
        seconds=1
    )  # a HEAD gives whole seconds, a LIST may give more
    with pytest.raises(ObjectNotFound):
        store.modified(f"{CHUNKS}/ff/{'ff' * 32}")
    assert list(store.entries(f"{CHUNKS}/ff")) == list(store.entries(folder_of(CONDEMNED))) == []


def test_what_is_moved_is_there_and_not_here(store: Store) -> None:
    store.put_many([(NAME, b"chunk")])
    store.move(NAME, CONDEMNED)
    store.settle([folder_of(NAME), folder_of(CONDEMNED)])
    assert not store.exists(NAME)
    assert store.get(CONDEMNED) == b"chunk"
    assert [entry.name for entry in store.entries(folder_of(CONDEMNED))] == [CONDEMNED]
    store.put_many([(NAME, b"anew")])
    store.move(CONDEMNED, NAME)  # in the place of another
    assert store.get(NAME) == b"chunk"
    assert list(store.entries(folder_of(CONDEMNED))) == []


def test_what_is_condemned_is_deleted_and_condemned_again(store: Store) -> None:
    for _ in range(2):
        store.put_many([(NAME, b"chunk")])
        store.move(NAME, CONDEMNED)
        store.delete(CONDEMNED)
        assert list(store.entries(folder_of(CONDEMNED))) == []


def test_what_is_not_there_is_not_moved(store: Store) -> None:
    with pytest.raises(ObjectNotFound):
        store.move(NAME, CONDEMNED)
    with pytest.raises(ObjectNotFound):
        store.move(NAME, locate(bytes(32)))


def test_of_many_who_move_one_does(store: Store) -> None:
    store.put_many([(NAME, b"chunk")])

    def move(n: int) -> bool:
        try:
            store.move(NAME, condemned_name(capture_id(n), NAME))
        except ObjectNotFound:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        moved = list(pool.map(move, range(16)))
    left = [n for n in range(16) if store.exists(condemned_name(capture_id(n), NAME))]
    assert not store.exists(NAME)
    assert len(left) >= 1  # where a move is a copy and a delete, it may be more
    assert set(left) <= {n for n, one in enumerate(moved) if one}


def test_what_is_dropped_from_caches_is_read_again(store: Store) -> None:
    store.put_many([(NAME, b"chunk")])
    store.drop_cached(NAME)
    store.drop_cached(CONDEMNED)
    assert store.get(NAME) == b"chunk"


def test_settling_takes_any_folder(store: Store) -> None:
    store.settle([])
    store.settle([name for name in folders(authenticated=False) if name != "tmp"])


def test_a_check_leaves_nothing(store: Store) -> None:
    store.check_writable()
    assert list(store.names("tmp")) == []


def test_free_space_is_a_number_or_unknown(store: Store) -> None:
    free_bytes = store.free_bytes()
    assert free_bytes is None or free_bytes > 0


def test_an_object_that_is_longer_than_any_of_its_kind_is_not_brought_into_memory(store: Store) -> None:
    longest = object_bytes_max(CONFIG)
    store.put(CONFIG, BytesIO(bytes(longest)))
    assert len(store.get(CONFIG)) == longest
    store.put(CONFIG, BytesIO(bytes(longest + 1)))
    with pytest.raises(ObjectDamaged, match=CONFIG):
        store.get(CONFIG)
    with store.open(CONFIG) as source:
        assert len(source.read()) == longest + 1
