"""Repair by the next capture: what an incremental inherits and the store lacks is given to its writer, and stored anew."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from freezeframe.repository import DiskWriter, IndexReceipt, Repository, inherited, verify
from freezeframe.repository.errors import ChunkDamaged
from freezeframe.repository.inherited import missing_chunks
from freezeframe.repository.layout import FAN_OUT, locate
from freezeframe.repository.objects import Objects
from freezeframe.repository.outcome import ChunkOutcome
from freezeframe.repository.store import MemoryStore

from .locked import PROTECTIONS, protected
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, read_disk, seal

DISK = disk_of(b"a", b"b", b"", b"b", b"c")
DIRTY = 4


@pytest.fixture(params=PROTECTIONS)
def held(request: pytest.FixtureRequest) -> Repository:
    return protected(request.param)


def index_of(repository: Repository, number: int) -> str:
    return repository.manifest(capture_id(number)).guests[0].disks[0].index


def object_of(repository: Repository, index: str, slot: int) -> str:
    with repository.index(index) as opened:
        return repository.objects.protection.locate(opened.digest_at(slot) or b"")


def spoil(repository: Repository, name: str) -> None:
    data = bytearray(repository.store.get(name))
    data[-1] ^= 1
    repository.store.put_many([(name, bytes(data))])


def incremental(
    repository: Repository, disk: bytes, parent: str, *, repair: bool = True
) -> tuple[IndexReceipt, list[int]]:
    """As a transfer does it: the dirty slot, then what the writer asks for; what that was."""
    with repository.disk_writer(len(disk), CHUNK, parent_index_digest=parent) as writer:
        writer.write_chunk(DIRTY, disk[DIRTY * CHUNK :])
        again = give_again(writer, disk) if repair else []
        return writer.finish(), again


def give_again(writer: DiskWriter, disk: bytes) -> list[int]:
    again = []
    for slot in writer.slots_to_read_again():
        writer.write_chunk(slot, disk[slot * CHUNK : (slot + 1) * CHUNK])
        again.append(slot)
    return again


def seal_incremental(
    repository: Repository, number: int, disk: bytes, parent: str, *, repair: bool = True
) -> list[int]:
    receipt, again = incremental(repository, disk, parent, repair=repair)
    repository.write_manifest(manifest_of(number, disk_capture(receipt.digest, len(disk))))
    return again


CHANGED = DISK[: DIRTY * CHUNK] + disk_of(b"new")


def test_a_clean_slot_whose_chunk_is_set_aside_is_read_again_and_older_captures_are_whole(held: Repository) -> None:
    seal(held, 1, DISK)
    spoil(held, object_of(held, index_of(held, 1), 1))
    verify(held, held.manifests(), set_aside=True)
    assert seal_incremental(held, 2, CHANGED, index_of(held, 1)) == [1]  # slot 3 has the same chunk
    assert read_disk(held, index_of(held, 1)) == DISK
    assert read_disk(held, index_of(held, 2)) == CHANGED
    report = verify(held, held.manifests(), set_aside=True)
    assert report.sound
    assert report.whole_again == (capture_id(2), capture_id(1))


def test_without_the_repair_neither_would_restore(held: Repository) -> None:
    seal(held, 1, DISK)
    spoil(held, object_of(held, index_of(held, 1), 1))
    verify(held, held.manifests(), set_aside=True)
    seal_incremental(held, 2, CHANGED, index_of(held, 1), repair=False)
    for number in (1, 2):
        with pytest.raises(ChunkDamaged, match="missing"):
            read_disk(held, index_of(held, number))


def test_a_chunk_that_is_missing_without_a_trace_is_read_again(held: Repository) -> None:
    seal(held, 1, DISK)
    held.store.delete(object_of(held, index_of(held, 1), 0))
    assert seal_incremental(held, 2, CHANGED, index_of(held, 1)) == [0]
    assert verify(held, held.manifests()).sound


def test_a_sound_parent_costs_no_read(held: Repository) -> None:
    seal(held, 1, DISK)
    receipt, again = incremental(held, CHANGED, index_of(held, 1))
    assert again == []
    assert (receipt.chunks_new, receipt.bytes_read) == (1, CHUNK)


def test_a_chunk_that_was_written_anew_by_another_is_not_read_again(held: Repository) -> None:
    seal(held, 1, DISK)
    spoil(held, object_of(held, index_of(held, 1), 1))
    verify(held, held.manifests(), set_aside=True)
    seal(held, 2, DISK)
    _, again = incremental(held, CHANGED, index_of(held, 1))
    assert again == []


def test_a_chunk_that_is_set_aside_while_a_writer_works_is_written_anew_by_it(held: Repository) -> None:
    """Both what it inherits and what it has met and found known."""
    seal(held, 1, DISK)
    with held.disk_writer(len(DISK), CHUNK, parent_index_digest=index_of(held, 1)) as writer:
        writer.write_chunk(0, DISK[:CHUNK])
        for slot in (0, 1):
            spoil(held, object_of(held, index_of(held, 1), slot))
        verify(held, held.manifests(), set_aside=True)
        assert give_again(writer, DISK) == [0, 1]
        receipt = writer.finish()
    assert read_disk(held, receipt.digest) == DISK
    assert (receipt.chunks_new, receipt.chunks_known) == (2, 1)


def test_a_clean_slot_that_has_changed_all_the_same_is_what_the_guest_has(held: Repository) -> None:
    seal(held, 1, DISK)
    held.store.delete(object_of(held, index_of(held, 1), 1))
    other = disk_of(b"a", b"x", b"", b"b", b"c")
    seal_incremental(held, 2, other, index_of(held, 1))
    assert read_disk(held, index_of(held, 2)) == other  # slot 3 has brought the chunk back
    assert verify(held, held.manifests()).sound


def test_unchanged_data_is_stored_once_however_it_is_read(held: Repository) -> None:
    """A fallback to a full read costs a read, and no storage."""
    seal(held, 1, DISK)
    with held.disk_writer(len(DISK), CHUNK) as writer:
        for slot in range(5):
            writer.write_chunk(slot, DISK[slot * CHUNK : (slot + 1) * CHUNK])
        give_again(writer, DISK)
        receipt = writer.finish()
    assert receipt.chunks_new == 0
    assert receipt.bytes_read == len(DISK)


# how much is looked for


def many(repository: Repository, slots: int) -> str:
    with repository.disk_writer(slots * CHUNK, CHUNK) as writer:
        for slot in range(slots):
            writer.write_chunk(slot, os.urandom(CHUNK))
        return writer.finish().digest


class Counted(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.listed: list[str] = []

    def exists(self, name: str) -> bool:
        self.asked.append(name)
        return super().exists(name)

    def names(self, folder: str) -> Iterator[str]:
        self.listed.append(folder)
        return super().names(folder)


def counted(slots: int) -> tuple[Repository, Counted, str]:
    store = Counted()
    repository = Repository.init_in(store, chunk_bytes=CHUNK)
    index = many(repository, slots)
    store.asked.clear()
    store.listed.clear()
    return repository, store, index


def test_presence_is_found_by_listing_and_not_chunk_by_chunk() -> None:
    repository, store, index = counted(600)
    with repository.index(index) as parent:
        lost = {digest for slot, digest in parent.used_slots() if slot % 100 == 0}
        for digest in lost:
            store.delete(locate(digest))
        assert missing_chunks(repository.objects, parent) == lost
    assert store.asked == []


def test_a_large_disk_is_looked_for_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    repository, store, index = counted(600)
    monkeypatch.setattr(inherited, "CHUNKS_MOST", 100)
    with repository.index(index) as parent:
        first = [digest for _, digest in parent.used_slots()]
        for digest in first:
            store.delete(locate(digest))
        found = [missing_chunks(repository.objects, parent, number) for number in range(256)]
    assert all(0 < len(one) <= 100 for one in found)
    assert frozenset().union(*found) == set(first)
    assert len(store.listed) < 256 * 80  # a sixth of the folders each, and some


def test_the_search_begins_with_the_folder_that_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    repository, store, index = counted(600)
    monkeypatch.setattr(inherited, "CHUNKS_MOST", 20)
    with repository.index(index) as parent:
        used = sorted({digest[0] for _, digest in parent.used_slots()})
        for first in used[::40]:
            store.listed.clear()
            missing_chunks(repository.objects, parent, first)
            assert store.listed[0] == f"chunks/{first:02x}"


@pytest.mark.parametrize(
    ("counts", "first", "chosen"),
    [
        ([4, 6, 1, 0], 0, [0, 1]),
        ([4, 5, 1, 0], 0, [0, 1, 2, 3]),
        ([4, 5, 2, 0], 0, [0, 1]),
        ([4, 5, 0, 6], 3, [3, 0]),
        ([0, 0, 11, 0], 0, [0, 1, 2]),
        ([0, 0, 11, 1], 0, [0, 1, 2]),
    ],
)
def test_folders_are_chosen_up_to_the_bound_and_one_at_least(
    counts: list[int], first: int, chosen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inherited, "CHUNKS_MOST", 10)
    assert inherited._choose(counts, first) == chosen


def test_of_one_folder_that_has_more_than_the_bound_no_more_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a disk that somebody has filled with chunks of one folder: memory is bounded whatever is in it."""
    monkeypatch.setattr(inherited, "CHUNKS_MOST", 10)
    digests = [bytes([7]) + number.to_bytes(31, "big") for number in range(25)]
    found = inherited._chunks_in(Objects(MemoryStore()), lambda: iter(enumerate(digests)), [6, 7])
    assert found == {6: {}, 7: {locate(digest): digest for digest in digests[:10]}}


def test_of_a_very_large_disk_some_slots_are_looked_at_and_others_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many chunks it has, the work before an incremental is bounded: in an encrypted repository an HMAC each."""
    repository, store, index = counted(600)
    monkeypatch.setattr(inherited, "SLOTS_MOST", 200)
    with repository.index(index) as parent:
        first = {digest for _, digest in parent.used_slots()}
        for digest in first:
            store.delete(locate(digest))
        found = [missing_chunks(repository.objects, parent) for _ in range(60)]
    assert {len(one) for one in found} == {200}
    assert frozenset().union(*found) == first


def test_a_small_disk_in_a_large_repository_is_asked_for_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    repository, store, index = counted(8)
    store.put_many([(f"chunks/{two}/{two}{n:062x}", b"another disk's") for two in FAN_OUT for n in range(100)])
    with repository.index(index) as parent:
        lost = next(digest for _, digest in parent.used_slots())
        store.delete(locate(lost))
        assert missing_chunks(repository.objects, parent, 0) == {lost}
    assert len(store.asked) == 8
    assert len(store.listed) == 1


def test_what_is_asked_for_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    repository, store, index = counted(300)
    monkeypatch.setattr(inherited, "_ASKED_MOST", 50)
    monkeypatch.setattr(inherited, "_NAMES_A_CHUNK", 0)
    with repository.index(index) as parent:
        assert missing_chunks(repository.objects, parent) == frozenset()
    assert len(store.asked) == 50


# while the disk is read


class Gated(MemoryStore):
    """Lists chunks when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.listing, self.let = threading.Event(), threading.Event()
        self.let.set()
        self.listed = 0

    def names(self, folder: str) -> Iterator[str]:
        if folder.startswith("chunks/"):
            self.listing.set()
            assert self.let.wait(60)
            self.listed += 1
        return super().names(folder)


def gated() -> tuple[Repository, Gated, str]:
    store = Gated()
    repository = Repository.init_in(store, chunk_bytes=CHUNK)
    index = many(repository, 600)
    store.let.clear()
    return repository, store, index


def test_chunks_are_written_while_others_are_looked_for_and_what_is_missing_is_known_in_the_end() -> None:
    repository, store, index = gated()
    with repository.index(index) as parent:
        lost_slot, lost = list(parent.used_slots())[7]
    store.delete(locate(lost))
    with (
        ThreadPoolExecutor(1) as other,
        repository.disk_writer(600 * CHUNK, CHUNK, parent_index_digest=index) as writer,
    ):
        looking = other.submit(writer.look_for_inherited)
        assert store.listing.wait(60)
        assert writer.write_chunk(3, os.urandom(CHUNK)) is ChunkOutcome.NEW
        store.let.set()
        looking.result()
        store.listing.clear()
        assert list(writer.slots_to_read_again()) == [lost_slot]
    assert not store.listing.is_set(), "it was looked for twice"


def test_a_search_that_nobody_waits_for_any_more_ends_with_the_folder() -> None:
    repository, store, index = gated()
    store.let.set()
    with repository.disk_writer(600 * CHUNK, CHUNK, parent_index_digest=index) as writer:
        writer.look_for_inherited(lambda: store.listed == 3)
    assert store.listed == 3


def test_asking_one_by_one_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    repository, store, index = counted(300)
    monkeypatch.setattr(inherited, "_NAMES_A_CHUNK", 0)
    monkeypatch.setattr(inherited, "_ASK_THREADS", 1)
    with repository.disk_writer(300 * CHUNK, CHUNK, parent_index_digest=index) as writer:
        writer.look_for_inherited(lambda: len(store.asked) == 5)
    assert len(store.asked) == 5
