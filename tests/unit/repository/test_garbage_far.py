"""Garbage collection in a store that is far away: its requests are made side by side, however few they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.garbage import collect
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import Entry, Traffic, always

from .samples import CHUNK, capture_id, disk_of, seal

LONG_S = 60.0


class Far(MemoryStore):
    """Lets a move go on once the others of its folder are asked for too."""

    def __init__(self) -> None:
        super().__init__()
        self.together: threading.Barrier | None = None
        self.listing: threading.Barrier | None = None

    @property
    def traffic(self) -> Traffic:
        return Traffic(at_once=32, remote=True)

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        if self.together is not None and name.startswith("chunks/"):
            self.together.wait(LONG_S)
        super().move(name, to, allowed)

    def entries(self, folder: str) -> Iterator[Entry]:
        if self.listing is not None and folder.startswith("condemned/") and folder.endswith("/chunks/00"):
            self.listing.wait(LONG_S)
        return super().entries(folder)


@pytest.fixture
def store() -> Far:
    return Far()


@pytest.fixture
def repository(store: Far) -> Repository:
    return Repository.init_in(store, chunk_bytes=CHUNK)


def test_a_few_moves_are_made_side_by_side(repository: Repository, store: Far) -> None:
    """Three requests each, 30 ms away: 64 of them one after another would be six seconds a folder."""
    names = [f"chunks/00/00{number:062x}" for number in range(5)]
    store.put_many([(name, b"garbage") for name in names])
    store.together = threading.Barrier(len(names))
    report = collect(repository, grace=timedelta(0))
    assert report.condemned.objects + report.deleted.objects >= len(names)
    assert not any(store.exists(name) for name in names)


def test_a_folder_of_all_runs_is_listed_at_once(repository: Repository, store: Far) -> None:
    for number in range(3):
        seal(repository, number, disk_of(bytes([65 + number])))
        repository.forget(capture_id(number))
        collect(repository, grace=timedelta(days=1))  # a run for the manifest
    runs = list(store.names("condemned"))
    assert len(runs) == 3
    store.listing = threading.Barrier(len(runs))
    collect(repository, grace=timedelta(days=1))
    assert not store.listing.broken
