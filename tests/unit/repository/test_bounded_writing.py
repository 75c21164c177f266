"""What bounds a writer's memory and its work, and that nothing is lost by it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typing_extensions import Buffer

from freezeframe.repository import Repository, commit, inherited
from freezeframe.repository import writer as writer_module
from freezeframe.repository.builder import IndexBuilder
from freezeframe.repository.commit import CommitQueue
from freezeframe.repository.effort import STEPS, Effort
from freezeframe.repository.inherited import missing_chunks
from freezeframe.repository.layout import FAN_OUT
from freezeframe.repository.pressure import Pressure, processors
from freezeframe.repository.store import MemoryStore

from .samples import CHUNK, disk_of, random_disk, read_disk, store_disk, write


class Batches(MemoryStore):
    """Knows how many objects came at once, and which folders were listed."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.listed: list[str] = []

    def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
        self.batches.append(len(objects))
        super().put_many(objects)

    def names(self, folder: str) -> Iterator[str]:
        self.listed.append(folder)
        return super().names(folder)


@pytest.fixture
def store() -> Batches:
    return Batches()


@pytest.fixture
def repository(store: Batches) -> Repository:
    return Repository.init_in(store, chunk_bytes=CHUNK)


@pytest.mark.parametrize(
    ("objects", "held_bytes", "batches"),
    [(130, 1, [64, 64, 2]), (9, CHUNK, [4, 4, 1]), (3, 4 * CHUNK, [1, 1, 1])],
)
def test_a_batch_is_sent_as_soon_as_it_has_enough_bytes_or_objects(
    store: Batches, monkeypatch: pytest.MonkeyPatch, objects: int, held_bytes: int, batches: list[int]
) -> None:
    """A store has so many files open at once, and so much is fsynced at once (store/directory.py)."""
    monkeypatch.setattr(commit, "BATCH_BYTES", 4 * CHUNK)
    queue = CommitQueue(store)
    for number in range(objects):
        queue.add(str(number), b"data", held_bytes)
    queue.flush()
    assert sorted(store.batches, reverse=True) == batches
    assert len(store._objects) == objects


def test_a_writer_remembers_a_bounded_number_of_digests(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_REMEMBERED", 3)
    disk = random_disk(20) * 2
    with repository.disk_writer(len(disk), CHUNK) as writer:
        for slot in range(40):
            writer.write_chunk(slot, disk[slot * CHUNK : (slot + 1) * CHUNK])
            assert len(writer._met) <= 3
        index = writer.finish().digest
    assert read_disk(repository, index) == disk


def test_slots_are_looked_through_only_if_something_is_set_aside_or_missing(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk of a TiB has a million of them, and in an encrypted repository each costs an HMAC."""
    disk = random_disk(5)
    parent = store_disk(repository, disk)

    def looked(_: IndexBuilder) -> Iterator[tuple[int, bytes]]:
        pytest.fail("its slots were looked through")

    with repository.disk_writer(len(disk), CHUNK, parent_index_digest=parent) as writer:
        writer.write_chunk(0, disk_of(b"new"))
        monkeypatch.setattr(IndexBuilder, "used_slots", looked)
        assert list(writer.slots_to_read_again()) == []


@pytest.mark.parametrize("first", [0, 77, 255])
def test_folders_are_looked_for_from_the_given_one_on_and_around(
    repository: Repository, store: Batches, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(inherited, "CHUNKS_MOST", 50)
    digest = store_disk(repository, random_disk(600))
    store.listed.clear()
    with repository.index(digest) as parent:
        used = {name[0] for _, name in parent.used_slots()}
        assert missing_chunks(repository.objects, parent, first) == frozenset()
    numbers = [int(folder[-2:], 16) for folder in store.listed]
    around = [number % 256 for number in range(first, first + 256) if number % 256 in used]
    assert numbers
    assert numbers == around[: len(numbers)]
    assert len(numbers) < 100


def test_every_folder_comes_up_by_chance(repository: Repository, store: Batches) -> None:
    """Else the same ones would be looked through before each incremental, and others never."""
    digest = store_disk(repository, random_disk(600))
    firsts = set()
    with repository.index(digest) as parent:
        for _ in range(60):
            store.listed.clear()
            missing_chunks(repository.objects, parent)
            firsts.add(store.listed[0])
    assert len(firsts) > 10
    assert firsts <= {f"chunks/{two}" for two in FAN_OUT}


STAT = """\
cpu  1000 0 1000 9000 900 0 0 0 0 0
cpu0 100 1 100 700 70 2 3 4 99 99
cpu1 200 0 200 900 90 0 0 0 0 0
cpu2 300 0 300 100 10 0 0 0 0 0
intr 12345
"""


def test_only_the_processors_count_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer that is confined to some would else take the guests' idle ones for its own. [proc(5): /proc/stat]"""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: STAT)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    assert processors() == (700 + 70 + 100 + 10, 980 + 710)


@pytest.mark.parametrize("text", ["", "cpu0 1 2", "cpu0 a b c d e f g h"])
def test_where_nobody_says_how_idle_they_are_none_is(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert processors() == (0.0, 0.0)


def test_processors_that_were_idle_before_the_look_do_not_count_for_it() -> None:
    """Else a host that was idle for days would compress at the highest level while its guests compute."""
    times = iter([(9_000.0, 10_000.0), *((9_000.0, 10_000.0 + second) for second in range(1, 50))])
    now = iter(range(1000))
    watching = Pressure(Effort(), look_s=1.0, clock=lambda: float(next(now)), processors=lambda: next(times))
    for _ in range(10):
        watching.begin()
        watching.waited(1.0)
        watching.end()
        assert watching.level == STEPS[0]


def test_a_look_is_no_sooner_than_its_interval() -> None:
    looks: list[float] = []
    now = [0.0]

    def idle() -> tuple[float, float]:
        looks.append(now[0])
        return now[0], now[0]

    watching = Pressure(Effort(), look_s=5.0, clock=lambda: now[0], processors=idle)
    for _ in range(20):
        watching.begin()
        now[0] += 1.0
        watching.end()
    assert looks == [0.0, 5.0, 10.0, 15.0, 20.0]


def test_an_index_is_the_same_whatever_the_disks_writer_remembered(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = random_disk(10) * 3
    wanted = store_disk(repository, disk)
    monkeypatch.setattr(writer_module, "_REMEMBERED", 2)
    with repository.disk_writer(len(disk), CHUNK) as writer:
        assert write(writer, disk).digest == wanted
