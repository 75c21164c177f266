"""A store that is away over a network: no question in the thread that reads the disk, many requests at once, bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from typing_extensions import Buffer

from freezeframe.repository import ChunkOutcome, DiskCapture, Repository, Tier, commit, verify
from freezeframe.repository.aside import Kind, set_aside
from freezeframe.repository.catalog import Catalog
from freezeframe.repository.commit import limits_of
from freezeframe.repository.errors import IndexDamaged, RepositoryNotReadable
from freezeframe.repository.lanes import IN_FLIGHT_BYTES, LEAST, lanes
from freezeframe.repository.layout import CHUNKS, folder_of, locate
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import Entry, Traffic
from freezeframe.repository.store.directory import TRAFFIC as DIRECTORY
from freezeframe.repository.store.s3 import TRAFFIC as S3
from freezeframe.repository.verify import looking

from .locked import PROTECTIONS, protected
from .samples import CHUNK, disk_capture, disk_of, manifest_of, random_disk, read_disk, seal, store_disk, write

LONG_S = 60.0
MIB = 1 << 20


class Remote(MemoryStore):
    """Knows who asks and what is stored, and answers questions when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()
        self.let.set()
        self.askers: set[str] = set()
        self.asked: list[str] = []
        self.stored: list[str] = []
        self.listed: list[str] = []
        self.error: Exception | None = None
        self.answered = threading.Semaphore(0)

    @property
    def traffic(self) -> Traffic:
        return Traffic(at_once=16, remote=True)

    def exists(self, name: str) -> bool:
        if not name.startswith(CHUNKS):
            return super().exists(name)
        self.askers.add(threading.current_thread().name)
        self.asked.append(name)
        assert self.let.wait(LONG_S)
        if self.error is not None:
            raise self.error
        found = super().exists(name)
        self.answered.release()
        return found

    def size(self, name: str) -> int:
        self.asked.append(name)
        return super().size(name)

    def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
        self.stored += [name for name, _ in objects if name.startswith(CHUNKS)]
        super().put_many(objects)

    def entries(self, folder: str) -> Iterator[Entry]:
        self.listed.append(folder)
        return super().entries(folder)


@pytest.fixture
def store() -> Remote:
    return Remote()


@pytest.fixture(params=PROTECTIONS)
def repository(request: pytest.FixtureRequest, store: Remote) -> Repository:
    return protected(request.param, store)


def test_who_reads_the_disk_asks_nothing(repository: Repository, store: Remote) -> None:
    """A question takes 30 ms; with it a thread reads 15 MB/s."""
    disk = random_disk(50) + disk_of(b"", b"end")
    index = store_disk(repository, disk)
    assert store.askers
    assert all(name.startswith("commit") for name in store.askers)
    assert read_disk(repository, index) == disk


def test_a_disk_is_read_on_while_the_store_answers_nothing(repository: Repository, store: Remote) -> None:
    """Until the queue is full: here it is not."""
    disk = random_disk(30)
    with repository.disk_writer(len(disk), CHUNK) as writer:
        store.let.clear()
        outcomes = [writer.write_chunk(slot, disk[slot * CHUNK :][:CHUNK]) for slot in range(30)]
        store.let.set()
        receipt = writer.finish()
    assert outcomes == [ChunkOutcome.QUEUED] * 30
    assert (receipt.chunks_new, receipt.chunks_known) == (30, 0)
    assert read_disk(repository, receipt.digest) == disk


def test_a_second_full_stores_nothing_that_is_there(repository: Repository, store: Remote) -> None:
    disk = random_disk(40)
    store_disk(repository, disk)
    assert len(store.stored) == 40
    changed = disk_of(b"new", b"new", b"") + disk[3 * CHUNK :]
    with repository.disk_writer(len(disk), CHUNK) as writer:
        receipt = write(writer, changed)
    assert (receipt.chunks_new, receipt.chunks_known) == (1, 38)  # one of them met twice
    assert receipt.bytes_stored < 3 * CHUNK
    assert len(store.stored) == 41
    assert read_disk(repository, receipt.digest) == changed


def test_a_chunk_that_is_set_aside_between_its_question_and_the_end_is_written_anew(
    repository: Repository, store: Remote
) -> None:
    """The invariant of a writer's docstring, where others than the caller have asked."""
    disk = random_disk(8)
    store_disk(repository, disk)
    store.answered = threading.Semaphore(0)
    with repository.disk_writer(len(disk), CHUNK) as writer:
        for slot in range(8):
            writer.write_chunk(slot, disk[slot * CHUNK :][:CHUNK])
        for _ in range(8):
            assert store.answered.acquire(timeout=LONG_S)
        slot, digest = next(iter(writer._builder.used_slots()))
        name = repository.objects.protection.locate(digest)
        store.put_many([(name, b"damaged")])
        assert set_aside(repository.objects, Kind.CHUNK, digest, "damaged")
        again = list(writer.slots_to_read_again())
        assert again == [slot]
        writer.write_chunk(slot, disk[slot * CHUNK :][:CHUNK])
        receipt = writer.finish()
    assert store.exists(name)
    assert read_disk(repository, receipt.digest) == disk


def test_a_question_that_fails_is_an_error_of_the_writer(repository: Repository, store: Remote) -> None:
    store.error = RepositoryNotReadable("The server is away.", transient=True)
    with repository.disk_writer(CHUNK) as writer:
        writer.write_chunk(0, random_disk(1))
        with pytest.raises(RepositoryNotReadable, match="away"):
            writer.finish()
    assert not [name for name in store._objects if name.startswith("indexes/")]


def test_what_waits_for_its_question_is_bounded(
    repository: Repository, store: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "REMOTE_QUEUE_BYTES", 10 * 2 * CHUNK)  # a buffer has a header, and whole blocks
    disk = random_disk(60)
    done: list[int] = []
    with repository.disk_writer(len(disk), CHUNK) as writer:
        store.let.clear()

        def read() -> None:
            for slot in range(60):
                writer.write_chunk(slot, disk[slot * CHUNK :][:CHUNK])
                done.append(slot)

        waiting, wait = threading.Event(), writer._queue._wait_for_room

        def noted() -> float:
            waiting.set()
            return wait()

        monkeypatch.setattr(writer._queue, "_wait_for_room", noted)
        thread = threading.Thread(target=read)
        thread.start()
        assert waiting.wait(LONG_S)
        assert len(done) == 10
        store.let.set()
        thread.join()
        assert writer.finish().chunks_new == 60


def test_buffers_come_back_whatever_the_answer_is(repository: Repository, store: Remote) -> None:
    disk = random_disk(20)
    store_disk(repository, disk)
    with repository.disk_writer(len(disk), CHUNK) as writer:
        write(writer, disk)
        free = len(writer._buffers._free)
        assert free == len({id(one) for one in writer._buffers._free})
        assert free > 0


# how many at once


@pytest.mark.parametrize(
    ("traffic", "chunk_bytes", "at_once"),
    [
        (DIRECTORY, 512 << 10, 4),
        (DIRECTORY, 16 * MIB, 4),
        (S3, 512 << 10, 64),
        (S3, MIB, 32),
        (S3, 4 * MIB, 8),
        (S3, 16 * MIB, LEAST),
        (S3, 4 << 10, 64),
    ],
)
def test_chunks_are_read_as_many_at_once_as_the_store_is_worth_and_memory_allows(
    traffic: Traffic, chunk_bytes: int, at_once: int
) -> None:
    assert lanes(traffic, chunk_bytes) == at_once
    assert at_once == LEAST or at_once * chunk_bytes <= IN_FLIGHT_BYTES


def test_a_directory_is_fed_in_batches_and_object_storage_by_chunks() -> None:
    directory, s3 = limits_of(DIRECTORY), limits_of(S3)
    assert (directory.at_once, directory.batch_objects, directory.batch_bytes) == (4, 64, 8 * MIB)
    assert (s3.at_once, s3.batch_objects) == (64, 1)
    assert s3.queue_bytes >= 16 * 4 * MIB


# verification


def test_presence_is_listed_and_only_what_is_not_there_is_asked_for(
    repository: Repository, store: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "_NAMES_A_CHUNK", 1000)
    manifest = seal(repository, 1, random_disk(300))
    with repository.index(manifest.guests[0].disks[0].index) as index:
        digests = [digest for _, digest in index.used_slots()]
    lost, cut = digests[3], digests[7]
    locate_ = repository.objects.protection.locate
    store.delete(locate_(lost))
    store.put_many([(locate_(cut), b"FFck")])
    store.asked.clear()
    store.listed.clear()
    report = verify(repository, [manifest], Tier.PRESENT)
    assert {one.digest for one in report.chunks} == {lost.hex(), cut.hex()}
    assert report.chunks_checked == 300
    assert {name for name in store.asked if "chunks/" in name} <= {
        name
        for name in store.asked
        if name.rpartition("/")[2] in {locate_(one).rpartition("/")[2] for one in (lost, cut)}
    }
    folders = {folder_of(locate_(one)) for one in digests}
    assert len([one for one in store.listed if one in folders]) == len(folders)


def test_a_folder_with_many_other_names_is_not_listed_to_its_end(store: Remote) -> None:
    """For one chunk in a folder of 100,000 a question is sooner."""
    repository = Repository.init_in(store, chunk_bytes=CHUNK)
    manifest = seal(repository, 1, random_disk(1))
    with repository.index(manifest.guests[0].disks[0].index) as index:
        ((_, digest),) = index.used_slots()
    name = locate(digest)
    others = [f"{folder_of(name)}/{name[-64:-62]}{number:062x}" for number in range(100)]
    chunk = store._objects.pop(name)
    store.put_many([(one, b"x" * 100) for one in others])
    store._objects[name] = chunk  # the last in the listing
    store.asked.clear()
    assert verify(repository, [manifest], Tier.PRESENT).sound
    assert name in store.asked


def test_a_manifest_with_many_disks_is_sealed_with_its_indexes_read_side_by_side(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a round trip: those of a thousand hosts would take as long as the seal may, one after another."""
    index = store_disk(repository, disk_of(b"a"))
    disks = [disk_capture(index, CHUNK, target=f"vd{letter}") for letter in "abcdefgh"]
    together, check = threading.Barrier(len(disks)), Catalog.check_index

    def checked(catalog: Catalog, disk: DiskCapture) -> None:
        together.wait(LONG_S)
        check(catalog, disk)

    monkeypatch.setattr(Catalog, "check_index", checked)
    repository.write_manifest(manifest_of(1, *disks))
    assert [one.capture_id for one in repository.manifests()] == [manifest_of(1, *disks).capture_id]


def test_an_index_that_is_missing_among_many_keeps_the_manifest_out(repository: Repository) -> None:
    index = store_disk(repository, disk_of(b"a"))
    disks = [disk_capture(one, CHUNK, target=f"vd{number}") for number, one in enumerate([index, "ab" * 32, index])]
    with pytest.raises(IndexDamaged):
        repository.write_manifest(manifest_of(1, *disks))
    assert repository.manifests() == []
