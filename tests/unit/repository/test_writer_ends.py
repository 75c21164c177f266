"""How a writer ends, what it inherits, and what becomes of its buffers: nothing stays at work, open or in use."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from typing_extensions import Buffer

from freezeframe.repository import ChunkOutcome, DiskWriter, Repository, commit
from freezeframe.repository.errors import RepositoryNotWritable
from freezeframe.repository.store import MemoryStore

from .locked import PROTECTIONS, protected
from .samples import CHUNK, disk_of, random_disk, read_disk, store_disk, write

DISK = disk_of(b"a", b"", b"c")[: 2 * CHUNK + 100]


@pytest.fixture(params=PROTECTIONS)
def held(request: pytest.FixtureRequest) -> Repository:
    return protected(request.param)


def writers_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("commit")]


def is_open(writer: DiskWriter) -> bool:
    assert writer._parent is not None
    return not writer._builder._table._file.closed or not writer._parent.table._file.closed


@pytest.mark.parametrize("end", ["finish", "abort", "leave"])
def test_nothing_is_open_or_at_work_when_a_writer_has_ended(held: Repository, end: str) -> None:
    parent = store_disk(held, DISK)
    with held.disk_writer(len(DISK), CHUNK, parent_index_digest=parent) as writer:
        writer.write_chunk(0, disk_of(b"new"))
        assert is_open(writer)
        if end == "finish":
            digest = writer.finish().digest
            assert read_disk(held, digest) == disk_of(b"new") + DISK[CHUNK:]
            assert not is_open(writer)
        if end == "abort":
            writer.abort()
            assert not is_open(writer)
    writer.abort()
    assert not is_open(writer)
    assert writers_threads() == []


def test_no_thread_is_left_of_a_writer_that_was_left_while_it_stored(
    held: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "BATCH_OBJECTS", 1)
    with held.disk_writer(8 * CHUNK) as writer:
        for slot in range(8):
            writer.write_chunk(slot, random_disk(1))
        assert writers_threads()
    assert writers_threads() == []


def test_what_is_queued_when_a_writer_is_aborted_is_not_stored_any_more() -> None:
    store = MemoryStore()
    with Repository.init_in(store, chunk_bytes=CHUNK).disk_writer(8 * CHUNK) as writer:
        for slot in range(8):
            writer.write_chunk(slot, random_disk(1))
    assert not [name for name in store._objects if name.startswith(("chunks", "indexes"))]


def test_an_error_of_the_store_is_every_later_calls_too() -> None:
    class Broken(MemoryStore):
        def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
            raise RepositoryNotWritable("no answer")

    with Repository.init_in(Broken(), chunk_bytes=CHUNK).disk_writer(CHUNK) as writer:
        writer.write_chunk(0, disk_of(b"a"))
        for _ in range(2):
            with pytest.raises(RepositoryNotWritable):
                writer.finish()


def test_a_parent_is_asked_what_it_has_in_which_slots(held: Repository) -> None:
    parent = store_disk(held, DISK)
    with held.disk_writer(len(DISK), CHUNK, parent_index_digest=parent) as writer:
        assert [writer.first_inherited(range(first, 3)) for first in range(4)] == [0, 2, 2, None]
        assert writer.first_inherited(range(1, 2)) is None


def inherits(writer: DiskWriter, slot: int, data: bytes) -> bool:
    buffer = writer.take_buffer()
    buffer.chunk(len(data))[:] = data
    same = writer.is_inherited(slot, buffer)
    assert writer.take_buffer() is buffer  # it was given back, whatever the answer
    writer._buffers.give_back(buffer)
    return same


def test_data_is_inherited_if_it_is_the_parents_to_the_byte(held: Repository) -> None:
    parent = store_disk(held, DISK)
    with held.disk_writer(len(DISK), CHUNK, parent_index_digest=parent) as writer:
        for slot in range(3):
            data = DISK[slot * CHUNK : (slot + 1) * CHUNK]
            assert inherits(writer, slot, data)
            assert not inherits(writer, slot, data[:-1] + b"\xff")
        assert not inherits(writer, 0, bytes(CHUNK))


def test_a_full_capture_inherits_nothing(held: Repository) -> None:
    with held.disk_writer(CHUNK) as writer:
        assert writer.first_inherited(range(1)) is None
        with pytest.raises(ValueError, match="inherits nothing"):
            writer.is_inherited(0, writer.take_buffer())


def test_a_buffer_is_used_again_whatever_became_of_its_chunk(held: Repository) -> None:
    """In an encrypted repository what is stored is a copy, so a new chunk's is free at once too."""
    with held.disk_writer(8 * CHUNK) as writer:
        for slot, content, outcome in (
            (0, b"a", ChunkOutcome.NEW),
            (1, b"a", ChunkOutcome.KNOWN),
            (2, b"", ChunkOutcome.HOLE),
        ):
            buffer = writer.take_buffer()
            buffer.chunk(CHUNK)[:] = disk_of(content)
            assert writer.write_buffer(slot, buffer) is outcome
            if outcome is not ChunkOutcome.NEW or held.config.authenticated:
                assert list(writer._buffers._free)[-1] is buffer
        index = writer.finish().digest
    assert read_disk(held, index) == disk_of(b"a", b"a", *[b""] * 6)


def test_a_slot_that_is_written_again_as_zeros_is_a_hole(held: Repository) -> None:
    parent = store_disk(held, DISK)
    with held.disk_writer(len(DISK), CHUNK, parent_index_digest=parent) as writer:
        assert writer.write_chunk(0, bytes(CHUNK)) is ChunkOutcome.HOLE
        assert read_disk(held, writer.finish().digest) == bytes(CHUNK) + DISK[CHUNK:]


@pytest.mark.parametrize(("slot", "length"), [(3, CHUNK), (3, 0), (-1, CHUNK), (2, CHUNK), (2, 99), (0, 100)])
def test_data_that_does_not_fit_its_slot_changes_nothing(held: Repository, slot: int, length: int) -> None:
    with held.disk_writer(len(DISK), CHUNK) as writer:
        with pytest.raises(ValueError, match=f"{length} bytes for slot {slot} of 3"):
            writer.write_chunk(slot, b"x" * length)
        assert write(writer, DISK).bytes_read == len(DISK)


def test_there_is_no_slot_behind_the_last_not_even_for_nothing(held: Repository) -> None:
    with held.disk_writer(2 * CHUNK) as writer, pytest.raises(ValueError, match="0 bytes for slot 2 of 2"):
        writer.write_chunk(2, b"")


def test_the_pressure_is_told_of_each_chunk_and_of_what_the_store_made_it_wait(
    held: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str | float] = []
    with held.disk_writer(2 * CHUNK) as writer:
        monkeypatch.setattr(writer._pressure, "begin", lambda: told.append("begin"))
        monkeypatch.setattr(writer._pressure, "waited", told.append)
        monkeypatch.setattr(writer._pressure, "end", lambda: told.append("end"))
        monkeypatch.setattr(writer._queue, "add", lambda *_: 0.25)
        writer.write_chunk(0, disk_of(b"a"))
        writer.write_chunk(1, disk_of(b"a"))
    assert told == ["begin", 0.25, "end", "begin", "end"]
