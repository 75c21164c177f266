"""Repositories and their copies to test with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from freezeframe.repository import Manifest, Repository
from freezeframe.repository.chain import read_chain
from freezeframe.repository.check import check
from freezeframe.repository.chunk import digest_of_chunk
from freezeframe.repository.copying import CopyReport, Wanted, copy, create_copy, open_copy
from freezeframe.repository.errors import RepositoryNotFound
from freezeframe.repository.freshness import holes
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import Store

from .samples import disk_capture, disk_of, manifest_of, read_disk, store_disk

#: What the captures of `filled` have. They share chunks.
DISKS = {1: disk_of(b"a", b"b", b""), 2: disk_of(b"a", b"c", b"d"), 3: disk_of(b"e", b"c", b"f")}


def capture(repository: Repository, number: int, disk: bytes, parent: Manifest | None = None) -> Manifest:
    """Seal a capture, upon the parent's if there is one."""
    before = None if parent is None else parent.guests[0].disks[0].index
    made = disk_capture(store_disk(repository, disk, parent=before), len(disk))
    if parent is not None:
        made = made.model_copy(update={"parent_index": before, "parent_capture_id": parent.capture_id})
    manifest = manifest_of(number, made)
    with repository.session("test", manifest.capture_id):
        repository.seal(manifest)
    return manifest


def filled(repository: Repository) -> list[Manifest]:
    """Seal three captures, each upon the one before."""
    manifests: list[Manifest] = []
    for number, disk in DISKS.items():
        manifests.append(capture(repository, number, disk, manifests[-1] if manifests else None))
    return manifests


def copied(
    source: Repository, store: Store, *ids: str, clock: Callable[[], datetime] | None = None, **options: Any
) -> CopyReport:
    """Copy into a store, which becomes a copy if it is empty; with ids only these."""
    try:
        there: Repository | None = open_copy(store, source, clock)
    except RepositoryNotFound:
        there = None
    wanted = Wanted(ids, ids) if ids else None
    return copy(source, there, lambda: create_copy(store, source, clock), wanted, **options)


def check_copy(copy: Repository, numbers: set[int], disks: dict[int, bytes] | None = None) -> None:
    """A copy has these captures, whole, and its chain has no hole."""
    found = {int(one.capture_id[4:]): one for one in copy.manifests()}
    assert found.keys() == numbers
    for number, one in found.items():
        assert read_disk(copy, one.guests[0].disks[0].index) == (disks or DISKS)[number]
    assert check(copy).sound
    assert holes(read_chain(copy)) == []


def objects_in(store: MemoryStore, *kinds: str) -> dict[str, bytes]:
    return {name: data for name, data in store._objects.items() if name.startswith(tuple(f"{one}/" for one in kinds))}


def chunk_name(repository: Repository, letter: bytes) -> str:
    """The object that holds the chunk of that letter."""
    return repository.objects.protection.locate(digest_of_chunk(disk_of(letter)))


def index_name(repository: Repository, manifest: Manifest) -> str:
    return repository.objects.protection.index_name(bytes.fromhex(manifest.guests[0].disks[0].index))


def spoil(store: MemoryStore, name: str) -> None:
    data = bytearray(store._objects[name])
    data[-1] ^= 1
    store._objects[name] = bytes(data)
