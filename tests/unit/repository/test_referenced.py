"""What captures refer to: each index is read once, whatever asks and however much there is; and nothing is left out."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import closing
from fractions import Fraction
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.repository import Manifest, Repository, Tier, marks, referenced, verify
from freezeframe.repository.builder import IndexBuilder
from freezeframe.repository.check import check
from freezeframe.repository.errors import ChunkDamaged
from freezeframe.repository.garbage import collect
from freezeframe.repository.garbage.references import read_references
from freezeframe.repository.index import Index
from freezeframe.repository.layout import CHUNKS, FAN_OUT, digest_of, locate
from freezeframe.repository.marks import Marks
from freezeframe.repository.referenced import chunks_of, lines_of, mark_chunks
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.verify import CapturedDisk, Rehearsed, verify_restored, verify_share
from freezeframe.repository.whereabouts import places_of

from .locked import PROTECTIONS, protected
from .samples import (
    CHUNK,
    GUEST,
    OTHER_GUEST,
    capture_id,
    disk_capture,
    disk_of,
    manifest_of,
    random_disk,
    seal,
    store_disk,
)


class Counted(MemoryStore):
    """Counts how often each index is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: Counter[str] = Counter()

    def open(self, name: str) -> BinaryIO:
        if name.startswith("indexes/"):
            self.opened[name] += 1
        return super().open(name)


def made(how: str) -> tuple[Repository, Counted]:
    store = Counted()
    return (protected(how, store)), store


def fill(repository: Repository, captures: int, chunks: int) -> None:
    """Captures of two disks that share half of what they have, each a tenth other than the one before."""
    disk = [random_disk(1) for _ in range(chunks)]
    drawn = random.Random(1)  # noqa: S311  the same each time
    for number in range(captures):
        for slot in drawn.sample(range(chunks), chunks // 10):
            disk[slot] = random_disk(1)
        two = [b"".join(disk), b"".join(disk[: chunks // 2])]
        disks = [
            disk_capture(store_disk(repository, one), len(one), target=target)
            for one, target in zip(two, ("vda", "vdb"), strict=True)
        ]
        repository.write_manifest(manifest_of(number, *disks))


ASKING: dict[str, Callable[[Repository], object]] = {
    "verify --all": lambda held: verify_share(held, Fraction(1)),
    "verify --all --tier present": lambda held: verify_share(held, Fraction(1), Tier.PRESENT),
    "verify --share": lambda held: verify_share(held, Fraction(1, 30)),
    "verify of captures": lambda held: verify(held, held.manifests()),
    "repo check": check,
    "gc": lambda held: collect(held, threads=0),
    "places": lambda held: places_of(held, set(), {bytes(32)}),
}


@pytest.mark.case("D1")
@pytest.mark.parametrize("how", PROTECTIONS)
@pytest.mark.parametrize("asking", ASKING)
@pytest.mark.parametrize("buffered", [1 << 16, 1], ids=["all in one buffer", "as 300 buffers"])
def test_each_index_is_read_once(asking: str, how: str, buffered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a repository's worth of buffers it was once for each group of folders, up to 256 times."""
    repository, store = made(how)
    fill(repository, captures=3, chunks=200)
    monkeypatch.setattr(marks, "_GATHERED", buffered)
    monkeypatch.setattr(marks, "_BLOCK_BYTES", 64 if buffered == 1 else 1 << 14)
    store.opened.clear()
    ASKING[asking](repository)
    assert set(store.opened.values()) == {1}
    assert len(store.opened) == 6


@pytest.mark.case("D1")
@pytest.mark.parametrize("asking", ["verify --all", "verify of captures", "repo check"])
def test_damage_costs_one_more_look_at_each_index_to_name_its_captures(asking: str) -> None:
    repository, store = made("plain")
    fill(repository, captures=3, chunks=50)
    with repository.index(repository.manifests()[0].guests[0].disks[0].index) as index:
        store.delete(locate(next(digest for _, digest in index.used_slots())))
    store.opened.clear()
    ASKING[asking](repository)
    assert set(store.opened.values()) == {2}


class Damaged:
    """A rehearsal of which every restore meets a damaged chunk."""

    def check_room(self, repository: Repository, indexes: Collection[str]) -> None:
        pass

    def restore(self, repository: Repository, disk: CapturedDisk, on_progress: Callable[[int], None]) -> Rehearsed:
        raise ChunkDamaged("Chunk 00 is missing.")


@pytest.mark.case("D1")
def test_captures_that_do_not_restore_cost_a_look_for_what_is_damaged_and_one_for_its_captures() -> None:
    repository, store = made("plain")
    fill(repository, captures=3, chunks=50)
    with repository.index(repository.manifests()[0].guests[0].disks[0].index) as index:
        lost = next(digest for _, digest in index.used_slots())
    store.delete(locate(lost))
    store.opened.clear()
    report = verify_restored(repository, repository.manifests(), Damaged())
    assert [one.digest for one in report.chunks] == [lost.hex()]
    assert set(store.opened.values()) == {2}


def indexes_of(repository: Repository, captures: list[Manifest]) -> set[bytes]:
    """The chunks that captures refer to, one by one."""
    found: set[bytes] = set()
    for manifest in captures:
        for _, disk in manifest.disks():
            with repository.index(disk.index) as index:
                found |= {digest for _, digest in index.used_slots()}
    return found


@pytest.mark.parametrize("how", PROTECTIONS)
def test_all_chunks_are_given_each_in_the_folder_of_its_name(how: str) -> None:
    repository, _ = made(how)
    fill(repository, captures=4, chunks=300)
    captures, protection = repository.manifests(), repository.objects.protection
    wanted = indexes_of(repository, captures)
    with chunks_of(repository.objects, captures, repository.index) as found:
        given = {folder: found.digests(int(folder, 16)) for folder in FAN_OUT}
    assert set().union(*given.values()) == wanted
    assert sum(map(len, given.values())) == len(wanted)
    for folder, chunks in given.items():
        assert all(protection.locate(chunk).startswith(f"{CHUNKS}/{folder}/") for chunk in chunks)


SLOTS = st.lists(st.integers(0, 5), min_size=1, max_size=80)


@settings(max_examples=150)
@given(st.lists(SLOTS, min_size=1, max_size=5), st.sets(st.integers(0, 4)))
def test_of_a_disk_that_changes_grows_shrinks_and_has_holes_nothing_is_left_out(
    disks: list[list[int]], unreadable: set[int]
) -> None:
    """Whatever was in the capture before, also where one between cannot be read. 0 is a hole."""
    store = MemoryStore()
    objects = Repository.init_in(store, chunk_bytes=CHUNK).objects
    indexes: list[str] = []
    for disk in disks:
        with IndexBuilder(len(disk) * CHUNK, CHUNK) as builder:
            for slot, value in enumerate(disk):
                if value:
                    builder.set(slot, bytes([value]) * 32)
            indexes.append(builder.store(objects)[0].hex())
    line = list(dict.fromkeys(indexes))
    lost = {indexes[number] for number in unreadable if number < len(indexes)}
    opened: list[Index] = []

    def open_index(digest: str) -> Index | None:
        if digest in lost:
            return None
        opened.append(Repository.open_in(store).index(digest))
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch, Marks(None) as found:
        patch.setattr(referenced, "_BLOCK_BYTES", 128)
        patch.setattr(referenced, "_NOTHING", (bytes(32),) * 4)
        mark_chunks(found, [line], open_index)
        marked = {value for value in range(6) for _ in found.digests(value)}
    readable = [disk for disk, index in zip(disks, indexes, strict=True) if index not in lost]
    assert marked == {value for disk in readable for value in disk} - {0}
    assert all(one.table._file.closed for one in opened)


def test_indexes_stand_in_lines_by_disk_oldest_first_and_once() -> None:
    one, two, three, four = (f"{number:064x}" for number in range(1, 5))
    both = manifest_of(2, disk_capture(two, CHUNK), disk_capture(three, CHUNK, target="vdb"))
    other = manifest_of(3, disk_capture(four, CHUNK), guest=OTHER_GUEST)
    again = manifest_of(4, disk_capture(one, CHUNK), disk_capture(three, CHUNK, target="vdb"))
    first = manifest_of(1, disk_capture(one, CHUNK), guest=GUEST)
    assert lines_of([other, both, again, first]) == [
        [one, two],
        [three],
        [four],
    ]


@pytest.mark.case("D1")
def test_of_an_incremental_only_what_differs_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten captures of a disk of 500 slots, of which each time one is dirty, cost little more than one."""
    repository, _ = made("plain")
    disk = [random_disk(1) for _ in range(500)]
    for number in range(10):
        disk[number * 50] = random_disk(1)
        seal(repository, number, b"".join(disk))
    added = 0
    add = Marks.add

    def counted(self: Marks, digests: list[bytes]) -> None:
        nonlocal added
        added += len(digests)
        add(self, digests)

    monkeypatch.setattr(Marks, "add", counted)
    with read_references(repository, lambda *_: None) as found:
        marked = set().union(*(found.keys(CHUNKS, first) for first in range(256)))
    assert len(marked) == 500 + 9
    assert added == 500 + 9 + 10  # and the indexes


def test_no_index_stays_open_where_one_cannot_be_read() -> None:
    repository, _ = made("plain")
    fill(repository, captures=3, chunks=20)
    opened: list[Index] = []

    def open_index(digest: str) -> Index:
        if len(opened) == 2:
            raise RuntimeError
        opened.append(repository.index(digest))
        return opened[-1]

    with closing(Marks(None)) as found, pytest.raises(RuntimeError):
        mark_chunks(found, lines_of(repository.manifests()), open_index)
    assert all(one.table._file.closed for one in opened)


def test_who_watches_is_told_of_each_index_also_of_one_that_cannot_be_read() -> None:
    repository, _ = made("plain")
    fill(repository, captures=2, chunks=20)
    told: list[int] = []
    with Marks(None) as found:
        mark_chunks(found, lines_of(repository.manifests()), lambda _: None, lambda: told.append(1))
    assert len(told) == 4


@pytest.mark.parametrize("number", [0, 1])
def test_a_chunk_of_one_capture_alone_is_found_in_its_place(number: int) -> None:
    repository, _ = made("encrypted")
    manifests = [seal(repository, one, disk_of(b"%d" % one, b"same")) for one in range(2)]
    with repository.index(manifests[number].guests[0].disks[0].index) as index:
        own, same = index.digest_at(0), index.digest_at(1)
    assert own is not None
    assert same is not None
    found = places_of(repository, set(), {own, same, digest_of("ab" * 32)})
    assert [one.capture_id for one in found[own.hex()]] == [capture_id(number)]
    assert [one.capture_id for one in found[same.hex()]] == [capture_id(1), capture_id(0)]
    assert found["ab" * 32] == ()
