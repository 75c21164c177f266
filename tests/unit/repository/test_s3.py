"""A repository in object storage, on a server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import obstore
import pytest

from freezeframe.repository import Repository, Tier, errors
from freezeframe.repository.garbage import collect, collection
from freezeframe.repository.layout import (
    CHUNKS,
    CONDEMNED,
    CONFIG,
    INDEXES,
    MANIFESTS,
    condemned_name,
    folder_of,
    locate,
    manifest_name,
)
from freezeframe.repository.store.address import open_store
from freezeframe.repository.store.backend import MOVE_WINDOW_S
from freezeframe.repository.verify import verify
from ops.object_storage import BUCKET, ObjectStorage

from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, random_disk, read_disk, seal, store_disk


def test_a_capture_is_written_read_and_verified(s3_address: str) -> None:
    Repository.init(s3_address, chunk_bytes=CHUNK)
    repository = Repository.open(s3_address)
    disk = random_disk(100) + disk_of(b"", b"end")
    first = seal(repository, 1, disk)
    changed = disk_of(b"new") + disk[CHUNK:]
    index = store_disk(repository, changed, parent=first.guests[0].disks[0].index)
    repository.write_manifest(manifest_of(2, disk_capture(index, len(changed))))

    again = Repository.open(s3_address)
    assert [one.capture_id for one in again.manifests()] == [capture_id(2), capture_id(1)]
    assert read_disk(again, first.guests[0].disks[0].index) == disk
    assert read_disk(again, index) == changed
    report = verify(again, again.manifests(), Tier.REHASHED)
    assert report.sound
    assert report.chunks_checked == 102


def test_a_listing_is_that_of_the_library(s3_address: str) -> None:
    """A real server answers a request that the library has only signed."""
    store = open_store(s3_address)
    store.put_many([(locate(bytes([last]) + bytes(30) + bytes([last])), b"chunk") for last in range(3)])
    bare = store._store  # type: ignore[attr-defined]
    theirs = [one for page in obstore.list(bare._bucket) for one in page]
    ours = [one for folder in ("00", "01", "02") for one in store.entries(f"{CHUNKS}/{folder}")]
    assert ours == [(one["path"], one["size"], one["last_modified"]) for one in theirs]
    assert len(ours) == 3
    assert [*store.entries(CHUNKS), *store.entries("")] == []
    assert bare.top() == [CHUNKS]


def test_a_lost_chunk_is_named(s3_address: str) -> None:
    repository = Repository.init(s3_address, chunk_bytes=CHUNK)
    manifest = seal(repository, 1, random_disk(3))
    with repository.index(manifest.guests[0].disks[0].index) as index:
        _, lost = next(iter(index.used_slots()))
    repository.store.delete(f"chunks/{lost.hex()[:2]}/{lost.hex()}")
    report = verify(repository, [manifest], Tier.PRESENT)
    assert [one.digest for one in report.chunks] == [lost.hex()]
    assert report.damaged_captures == [manifest.capture_id]


def test_garbage_is_collected(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository.init(s3_address, chunk_bytes=CHUNK)
    seal(repository, 1, disk_of(b"a", b"b"))
    kept = seal(repository, 2, disk_of(b"b", b"c"))
    repository.forget(capture_id(1))
    listed = {name.split("/")[-2] for folder in (CHUNKS, INDEXES) for name in every_name(repository, folder)}
    monkeypatch.setattr(collection, "FAN_OUT", tuple(sorted(listed)))  # the rest is empty
    report = collect(repository, grace=timedelta(0))
    # a server may tell times to the second, and what is of this one is not old yet
    while report.young.objects or [*repository.store.names(CONDEMNED)]:
        report = collect(repository, grace=timedelta(0))
    assert len([*every_name(repository, CHUNKS), *every_name(repository, INDEXES)]) == 3
    assert verify(Repository.open(s3_address), [kept]).sound


def every_name(repository: Repository, folder: str) -> list[str]:
    bucket = repository.store._store._bucket  # type: ignore[attr-defined]
    return [entry["path"] for page in obstore.list(bucket, prefix=folder) for entry in page]


def test_a_copy_that_took_too_long_is_not_followed_by_a_delete(
    s3_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run of garbage collection may have dealt with the copy by then."""
    repository = Repository.init(s3_address, chunk_bytes=CHUNK)
    name = locate(bytes(32))
    to = condemned_name(capture_id(1), name)
    repository.store.put_many([(name, b"chunk")])
    times = iter([0.0, MOVE_WINDOW_S + 1])
    monkeypatch.setattr(time, "monotonic", lambda: next(times, 0.0))
    with pytest.raises(errors.RepositoryNotWritable, match="longer than 60 s") as caught:
        repository.store._store.move(name, to)  # type: ignore[attr-defined]
    assert not caught.value.transient  # nor by one that is sent again
    assert repository.store.exists(name)
    monkeypatch.undo()


def test_a_manifest_is_written_once(s3_address: str) -> None:
    repository = Repository.init(s3_address, chunk_bytes=CHUNK)
    manifest = seal(repository, 1, random_disk(3))
    repository.write_manifest(manifest)
    other = manifest.model_copy(update={"group": "another"})
    with pytest.raises(errors.AlreadyExists):
        repository.write_manifest(other)
    assert repository.manifest("latest") == manifest


def test_a_listing_has_more_than_one_page(s3_address: str) -> None:
    """Servers give a thousand names at a time."""
    store = open_store(s3_address)
    names = [manifest_name(capture_id(n)) for n in range(1_005)]
    store.put_many([(name, b"{}") for name in names])
    assert sorted(store.names(MANIFESTS)) == names


def test_two_prefixes_are_two_repositories(s3_address: str) -> None:
    one, other = (Repository.init(f"{s3_address}/{name}", chunk_bytes=CHUNK) for name in ("a", "ab"))
    seal(one, 1, random_disk(3))
    assert other.manifests() == []
    assert one.config.id != other.config.id


def test_a_repository_is_made_once_and_where_nothing_is(s3_address: str) -> None:
    Repository.init(f"{s3_address}/a")
    with pytest.raises(errors.RepositoryExists, match=CONFIG):
        Repository.init(f"{s3_address}/a")
    with pytest.raises(errors.RepositoryExists, match=f"{s3_address} is not empty: a is there"):
        Repository.init(s3_address)


def test_what_is_not_there_is_not_found(s3_address: str) -> None:
    with pytest.raises(errors.RepositoryNotFound, match=s3_address):
        Repository.open(s3_address)


def test_a_bucket_that_is_not_there_is_not_made(s3_address: str) -> None:
    for make in (Repository.open, Repository.init):
        with pytest.raises(errors.RepositoryNotFound, match="bucket for s3://no-such-bucket"):
            make("s3://no-such-bucket/a")


def test_a_server_that_dies_ends_what_is_under_way(monkeypatch: pytest.MonkeyPatch, memory_path: Path) -> None:
    """With an error, and before the test's own limit: nothing waits for ever."""
    with ObjectStorage(memory_path) as server:
        for name, value in server.settings(patience_s=0.5).items():
            monkeypatch.setenv(name, value)
        repository = Repository.init(f"s3://{BUCKET}/a", chunk_bytes=CHUNK)
        manifest = seal(repository, 1, random_disk(3))
        with repository.disk_writer(200 * CHUNK) as writer:
            for slot in range(100):
                writer.write_chunk(slot, random_disk(1))
            server.kill()
            with pytest.raises((errors.RepositoryNotWritable, errors.RepositoryNotReadable), match="cannot be reached"):
                _write_on(writer.write_chunk, writer.finish)
        with pytest.raises(errors.RepositoryNotReadable, match="cannot be reached"):
            read_disk(repository, manifest.guests[0].disks[0].index)
        with pytest.raises(errors.RepositoryNotReadable, match="cannot be reached"):
            Repository.open(f"s3://{BUCKET}/a")


def test_what_was_acknowledged_is_there_after_a_kill(memory_path: Path) -> None:
    """Several write, the server is killed under them and comes back: each object that was answered for is there, whole."""
    with ObjectStorage(memory_path) as server:
        acknowledged: dict[str, bytes] = {}
        enough, dead = threading.Event(), threading.Event()

        def write_until_it_fails(writer: int) -> None:
            store = open_store(f"s3://{BUCKET}/a", server.s3_settings())
            for n in count():
                name, data = locate(bytes([writer, n // 256, n % 256]) + bytes(29)), random_disk(1)
                try:
                    (store.put_if_absent(name, data) if n % 2 else store.put_many([(name, data)]))
                except errors.RepositoryNotWritable:
                    enough.set()
                    assert dead.is_set()
                    return
                acknowledged[name] = data
                if n == 20:
                    enough.set()

        with ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(write_until_it_fails, writer) for writer in range(4)]
            enough.wait()
            dead.set()
            server.kill()
            for writer in writers:
                writer.result()
        server.start()
        store = open_store(f"s3://{BUCKET}/a", server.s3_settings())
        assert len(acknowledged) > 20
        assert {name: store.get(name) for name in acknowledged} == acknowledged
        listed = {name for folder in {folder_of(name) for name in acknowledged} for name in store.names(folder)}
        assert listed >= acknowledged.keys()


def test_of_many_who_seal_at_the_same_moment_one_wins(s3_address: str) -> None:
    """On one name after another, all starting together, each by a connection of its own."""
    stores = [open_store(s3_address) for _ in range(4)]
    start = threading.Barrier(len(stores))

    def create(n: int, name: str) -> bool:
        start.wait()
        try:
            stores[n].put_if_absent(name, f"{n}".encode() * 4096)
        except errors.AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(len(stores)) as pool:
        for turn in range(8):
            name = manifest_name(capture_id(turn))
            won = list(pool.map(create, range(len(stores)), [name] * len(stores)))
            assert won.count(True) == 1
            assert stores[0].get(name) == f"{won.index(True)}".encode() * 4096


def test_the_verbs_take_the_address_from_the_settings(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", s3_address)
    assert _freezeframe("repo", "init")["address"] == s3_address
    manifest = seal(Repository.open(s3_address), 1, random_disk(3))
    assert _freezeframe("repo", "info")["captures"] == 1
    assert _freezeframe("verify", manifest.capture_id)["sound"] is True


def _write_on(write_chunk: Callable[[int, bytes], object], finish: Callable[[], object]) -> None:
    for slot in range(100, 200):
        write_chunk(slot, random_disk(1))
    finish()


def _freezeframe(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "freezeframe", *arguments, "--json"], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)
