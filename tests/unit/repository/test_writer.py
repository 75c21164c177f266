from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import Buffer

from freezeframe.repository import ChunkBuffer, ChunkOutcome, DiskWriter, Repository, commit
from freezeframe.repository import writer as writer_module
from freezeframe.repository.errors import IndexDamaged, RepositoryFull, RepositoryNotWritable, TemporaryStorageFailed
from freezeframe.repository.layout import DIGEST_BYTES
from freezeframe.repository.store import DirectoryStore, MemoryStore
from freezeframe.repository.table import SlotTable

from .power import Failing
from .samples import CHUNK, disk_of, random_disk, read_disk, store_disk, write


def in_memory(store: MemoryStore | None = None) -> Repository:
    return Repository.init_in(store or MemoryStore(), chunk_bytes=CHUNK)


def files(root: Path, folder: str) -> list[Path]:
    return [path for path in (root / folder).rglob("*") if path.is_file()]


@given(st.lists(st.sampled_from([b"", b"a", b"b", b"c"]), min_size=1, max_size=30), st.integers(1, CHUNK))
def test_what_is_written_is_read(chunks: list[bytes], last_bytes: int) -> None:
    repository = in_memory()
    disk = disk_of(*chunks)[: (len(chunks) - 1) * CHUNK + last_bytes]
    assert read_disk(repository, store_disk(repository, disk)) == disk


@given(
    st.lists(st.sampled_from([b"", b"a", b"b"]), min_size=8, max_size=8),
    st.dictionaries(st.integers(0, 7), st.sampled_from([b"", b"b", b"c"])),
)
def test_an_incremental_reads_as_the_whole_disk(before: list[bytes], dirty: dict[int, bytes]) -> None:
    repository = in_memory()
    parent = store_disk(repository, disk_of(*before))
    with repository.disk_writer(8 * CHUNK, parent_index_digest=parent, checkpoint="cp") as writer:
        for slot, chunk in dirty.items():
            writer.write_chunk(slot, disk_of(chunk))
        receipt = writer.finish()
    after = [dirty.get(slot, chunk) for slot, chunk in enumerate(before)]
    assert read_disk(repository, receipt.digest) == disk_of(*after)
    with repository.index(receipt.digest) as index:
        assert (index.header.parent, index.header.checkpoint) == (bytes.fromhex(parent), "cp")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_may_be_given_and_used_again(
    repository: Repository, kind: type[bytes | bytearray | memoryview]
) -> None:
    buffer = bytearray(random_disk(1))
    wanted = bytes(buffer)
    with repository.disk_writer(2 * CHUNK) as writer:
        assert writer.write_chunk(0, kind(buffer)) is ChunkOutcome.NEW
        assert writer.write_chunk(1, kind(bytes(CHUNK))) is ChunkOutcome.HOLE
        if kind is not bytes:
            buffer[:] = bytes(CHUNK)
        assert read_disk(repository, writer.finish().digest) == wanted + bytes(CHUNK)


def test_a_receipt_counts(repository: Repository) -> None:
    with repository.disk_writer(5 * CHUNK) as writer:
        outcomes = [writer.write_chunk(slot, disk_of(one)) for slot, one in enumerate([b"a", b"b", b"a", b""])]
        receipt = writer.finish()
    assert outcomes == [ChunkOutcome.NEW, ChunkOutcome.NEW, ChunkOutcome.KNOWN, ChunkOutcome.HOLE]
    assert (receipt.chunks_new, receipt.chunks_known, receipt.bytes_read) == (2, 1, 4 * CHUNK)
    assert 0 < receipt.bytes_stored < CHUNK
    assert (
        store_disk(repository, disk_of(b"a", b"b", b"a", b"", b"")) == receipt.digest
    )  # the same disk, the same index


@pytest.mark.parametrize(("slot", "length"), [(-1, CHUNK), (2, CHUNK), (0, CHUNK - 1), (0, 0), (1, CHUNK), (1, 101)])
def test_a_chunk_that_does_not_fit_its_slot_is_refused(repository: Repository, slot: int, length: int) -> None:
    with repository.disk_writer(CHUNK + 100) as writer:
        with pytest.raises(ValueError, match="slot"):
            writer.write_chunk(slot, b"x" * length)
        writer.write_chunk(1, b"x" * 100)  # and the writer goes on
        writer.finish()


def test_writers_at_once_share_their_chunks(repository: Repository, root: Path) -> None:
    disk = random_disk(40) * 5

    def one(_: int) -> str:
        with Repository.open(root).disk_writer(len(disk)) as writer, ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: writer.write_chunk(n, disk[n * CHUNK : (n + 1) * CHUNK]), range(200)))
            receipt = writer.finish()
        assert receipt.chunks_new <= 40
        assert receipt.chunks_new + receipt.chunks_known == 200
        return receipt.digest

    with ThreadPoolExecutor(4) as pool:
        indexes = set(pool.map(one, range(4)))
    assert len(indexes) == 1
    assert read_disk(repository, indexes.pop()) == disk
    assert len(files(root, "chunks")) == 40
    assert files(root, "tmp") == []


def test_a_writer_that_forgets_stores_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_REMEMBERED", 2)
    repository = in_memory()
    disk = disk_of(b"a", b"b", b"c", b"d", b"a", b"b", b"a")
    assert read_disk(repository, store_disk(repository, disk)) == disk


def test_an_aborted_writer_leaves_no_index_and_no_temporary_file(repository: Repository, root: Path) -> None:
    with repository.disk_writer(8 * CHUNK) as writer:
        writer.write_chunk(0, random_disk(1))
    writer.abort()
    assert files(root, "indexes") == files(root, "tmp") == []


@pytest.mark.parametrize("call", ["create", "write", "fsync"])
@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, RepositoryFull), (errno.EDQUOT, RepositoryFull), (errno.EIO, RepositoryNotWritable)],
)
def test_a_disk_error_ends_the_writer_and_leaves_nothing(
    repository: Repository, root: Path, call: str, number: int, error: type[Exception]
) -> None:
    broken = Repository.open_in(DirectoryStore(root, Failing(call, number, nth=100)))
    disk = random_disk(300)
    with broken.disk_writer(len(disk)) as writer:
        with pytest.raises(error, match=str(root)):
            write(writer, disk)
        with pytest.raises(error):
            writer.finish()
        with pytest.raises(error):
            writer.write_chunk(0, random_disk(1))
    assert files(root, "indexes") == files(root, "tmp") == []
    assert read_disk(repository, store_disk(repository, disk)) == disk


def test_an_error_surfaces_before_the_end(root: Path, repository: Repository) -> None:
    """The transfer of a large disk must not go on to its end when the repository is full."""
    broken = Repository.open_in(DirectoryStore(root, Failing("write", errno.ENOSPC)))

    def transfer(writer: DiskWriter) -> None:
        for slot in range(100_000):
            writer.write_chunk(slot, slot.to_bytes(8, "big") * (CHUNK // 8))

    with broken.disk_writer(1 << 40) as writer, pytest.raises(RepositoryFull):
        transfer(writer)


def test_the_index_that_cannot_be_stored_is_an_error(root: Path, repository: Repository) -> None:
    broken = Repository.open_in(DirectoryStore(root, Failing("create", errno.ENOSPC, nth=1)))
    with broken.disk_writer(CHUNK) as writer:
        writer.write_chunk(0, disk_of(b"a"))
        with pytest.raises(RepositoryFull):
            writer.finish()
    assert files(root, "indexes") == []


def test_after_a_failed_look_nothing_is_finished() -> None:
    """Another thread may have counted on the chunk whose look failed, so the writer may not go on as if it were there."""

    class Blind(MemoryStore):
        def exists(self, name: str) -> bool:
            raise RepositoryNotWritable("no answer")

    with in_memory(Blind()).disk_writer(CHUNK) as writer:
        with pytest.raises(RepositoryNotWritable):
            writer.write_chunk(0, disk_of(b"a"))
        with pytest.raises(RepositoryNotWritable):
            writer.finish()


def test_a_hole_that_could_not_be_set_is_never_sealed_as_data(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = in_memory()
    parent = store_disk(repository, disk_of(b"a", b"b"))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with repository.disk_writer(2 * CHUNK, parent_index_digest=parent) as writer:
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(TemporaryStorageFailed, match="No space"):
            writer.set_zero(1)
        monkeypatch.undo()
        with pytest.raises(TemporaryStorageFailed):
            writer.finish()


def test_digests_that_could_not_be_written_are_not_taken_for_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    table, digest = SlotTable(1000), b"d" * DIGEST_BYTES
    for slot in (3, 4, 700):
        table.set(slot, digest)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(TemporaryStorageFailed, match="No space"):
        list(table.used())
    monkeypatch.undo()
    assert list(table.used()) == [(3, digest), (4, digest), (700, digest)]
    assert list(table.used(4, 700)) == [(4, digest)]
    table.close()


def test_a_slow_store_holds_the_writer_back(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 40 * CHUNK
    monkeypatch.setattr(commit, "QUEUE_BYTES", limit)
    monkeypatch.setattr(commit, "BATCH_BYTES", 4 * CHUNK)
    gate = threading.Event()
    stored = 0

    class Slow(MemoryStore):
        def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
            gate.wait()
            super().put_many(objects)

    queue = commit.CommitQueue(Slow())
    added = threading.Semaphore(0)

    def add() -> None:
        nonlocal stored
        for n in range(200):
            queue.add(str(n), bytes(CHUNK), CHUNK)
            stored += CHUNK
            added.release()

    feeder = threading.Thread(target=add)
    feeder.start()
    for _ in range(40):
        added.acquire()
    assert not added.acquire(timeout=0.2)  # the forty-first waits
    assert queue._queued_bytes == limit
    gate.set()
    feeder.join()
    queue.flush()
    assert (stored, queue._queued_bytes) == (200 * CHUNK, 0)


def test_a_buffer_is_used_again_once_its_chunk_is_stored_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "BATCH_OBJECTS", 4)
    gate = threading.Event()

    class Slow(MemoryStore):
        def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
            gate.wait()
            super().put_many(objects)

    repository, disk = in_memory(Slow()), random_disk(40)
    with repository.disk_writer(80 * CHUNK) as writer:
        first = [_write_buffer(writer, slot, disk) for slot in range(40)]
        assert len(set(first)) == 40  # none is stored yet
        _write_buffer(writer, 40, disk)  # known
        assert len({_write_buffer(writer, slot, disk) for slot in range(41, 60)}) == 1
        gate.set()
        writer._queue.flush()
        assert {_write_buffer(writer, slot, disk) for slot in range(60, 80)} <= set(first)
        assert read_disk(repository, writer.finish().digest) == disk * 2


def _write_buffer(writer: DiskWriter, slot: int, disk: bytes) -> ChunkBuffer:
    """Write the chunk of a slot of a disk that repeats; the buffer that the writer gave for it."""
    buffer = writer.take_buffer()
    buffer.chunk(CHUNK)[:] = disk[slot % 40 * CHUNK :][:CHUNK]
    writer.write_buffer(slot, buffer)
    return buffer


def test_a_parent_that_is_missing_is_damage(repository: Repository) -> None:
    with pytest.raises(IndexDamaged):
        repository.disk_writer(CHUNK, parent_index_digest="ab" * 32)
