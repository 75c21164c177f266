"""Transfers from a real export with a real bitmap: what is read, stored and repaired, and when it is read in full."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from freezeframe.contract import names
from freezeframe.contract.event import ProgressEvent
from freezeframe.contract.result import TransferResult
from freezeframe.repository import DiskWriter, verify
from freezeframe.repository.buffer import ChunkBuffer
from freezeframe.repository.errors import ChunkDamaged, RepositoryNotReadable
from freezeframe.repository.layout import index_name
from freezeframe.repository.outcome import ChunkOutcome
from freezeframe.repository.store.filesystem import Filesystem
from tests.unit.workers.exported import CAPTURE, CHUNK, CONTENT, FIRST, GUEST, SLOTS, TARGET, ExportedDisk, Guest, noise
from workers.connection import DataConnection
from workers.export import ExportError
from workers.host import Host
from workers.steps import transfer as step


@pytest.fixture
def guest(host: Host, tmp_path: Path) -> Guest:
    return Guest(host, tmp_path)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_an_incremental_reads_what_is_dirty_and_no_more(guest: Guest) -> None:
    full = guest.full()
    guest.disk.checkpoint()
    guest.disk.write(2 * CHUNK, changed := noise(CHUNK, 2))
    result = guest.incremental(full)
    assert result.full_reason is None
    assert (result.bytes_read, result.dirty_bytes, result.chunks_new) == (CHUNK, CHUNK, 1)
    assert guest.read(result) == CONTENT[: 2 * CHUNK] + changed + CONTENT[3 * CHUNK :]


def test_the_seconds_that_a_transfer_took_are_told(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(7000.0, 12.5)
    monkeypatch.setattr(step, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert guest.full().seconds == 12.5


def test_the_last_event_tells_all_of_the_disk_as_done_and_only_what_was_read_as_read(guest: Guest) -> None:
    full = guest.full()
    guest.disk.checkpoint()
    guest.disk.write(2 * CHUNK, noise(CHUNK, 2))
    guest.host.redis.flushall()
    result = guest.incremental(full)
    [(_, fields)] = cast("list[Any]", guest.host.redis.xrevrange(names.events_key(CAPTURE), count=1))
    event = ProgressEvent.model_validate_json(fields["event"])
    assert (event.guest, event.target) == ("alpha", TARGET)
    assert (event.bytes_done, event.bytes_total) == (len(CONTENT), len(CONTENT))
    assert event.bytes_read == result.bytes_read + result.audited_chunks * CHUNK
    pulse = guest.host.redis.hgetall(names.pulse_key(CAPTURE))
    assert list(pulse) == [names.pulse_field("host-a", f"{GUEST}.{TARGET}")]
    moves, _ = pulse.popitem()[1].split()
    assert int(moves) >= len(CONTENT) // CHUNK  # one a chunk at least, and it has ended
    assert guest.host.redis.ttl(names.events_key(CAPTURE)) > 0
    assert guest.host.redis.ttl(names.pulse_key(CAPTURE)) > 0


@pytest.mark.parametrize("how", [ExportedDisk.discard, ExportedDisk.zero])
@pytest.mark.parametrize("count", [1, 3])
def test_a_chunk_that_the_guest_has_emptied_keeps_nothing_of_the_parents(
    guest: Guest, how: Callable[[ExportedDisk, int, int], None], count: int
) -> None:
    full = guest.full()
    guest.disk.checkpoint()
    how(guest.disk, 2 * CHUNK, count * CHUNK)
    guest.disk.write(6 * CHUNK, changed := noise(CHUNK, 2))
    result = guest.incremental(full)
    assert result.full_reason is None
    assert result.bytes_read == CHUNK
    emptied = CONTENT[: 2 * CHUNK] + bytes(count * CHUNK) + CONTENT[(2 + count) * CHUNK : 6 * CHUNK]
    assert guest.read(result) == emptied + changed + CONTENT[7 * CHUNK :]
    assert guest.read(full) == CONTENT


@pytest.mark.parametrize("planned", [len(CONTENT) - CHUNK, len(CONTENT) + CHUNK, len(CONTENT) - 512])
def test_a_disk_of_another_size_than_planned_is_not_stored(guest: Guest, planned: int) -> None:
    """It was resized between prepare and hold; stored by its planned size it would be cut off."""
    with pytest.raises(ExportError, match=f"vda of guest alpha has {len(CONTENT)} bytes .* had {planned}"):
        guest.full(size_bytes=planned)
    assert not list((guest.root / "indexes").rglob("??/*"))


def test_a_clean_chunk_that_was_set_aside_is_read_again_and_both_captures_are_whole(guest: Guest) -> None:
    full = guest.full()
    manifest = guest.seal(full)
    flip(guest.chunk_file(full, 5))
    assert len(verify(guest.repository, [manifest], set_aside=True).chunks) == 1
    guest.disk.checkpoint()
    guest.disk.write(2 * CHUNK, changed := noise(CHUNK, 2))
    result = guest.incremental(full)
    assert result.full_reason is None
    assert (result.bytes_read, result.dirty_bytes, result.chunks_new) == (2 * CHUNK, CHUNK, 2)
    assert guest.read(full) == CONTENT
    assert guest.read(result) == CONTENT[: 2 * CHUNK] + changed + CONTENT[3 * CHUNK :]
    assert verify(guest.repository, [manifest], set_aside=True).whole_again == (manifest.capture_id,)


def test_a_clean_chunk_that_is_missing_is_read_again(guest: Guest) -> None:
    full = guest.full()
    guest.chunk_file(full, 5).unlink()
    guest.disk.checkpoint()
    result = guest.incremental(full)
    assert (result.bytes_read, result.dirty_bytes, result.chunks_new) == (CHUNK, 0, 1)
    assert guest.read(full) == guest.read(result) == CONTENT


def test_a_transfer_that_lacks_nothing_reads_once_and_says_nothing_of_the_repository(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second round of connections, and a warning that something is missing, are for what is."""
    connections: list[str] = []
    enter = DataConnection.__enter__

    def noted(connection: DataConnection) -> DataConnection:
        connections.append(threading.current_thread().name)
        return enter(connection)

    monkeypatch.setattr(DataConnection, "__enter__", noted)
    with structlog.testing.capture_logs() as logs:
        guest.full()
    assert len(connections) == guest.host.settings.transfer_threads
    assert [line["event"] for line in logs if "lacks" in line["event"]] == []


def test_without_the_second_reading_it_would_stay_lost(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiskWriter, "slots_to_read_again", lambda _: iter(()))
    full = guest.full()
    guest.chunk_file(full, 5).unlink()
    guest.disk.checkpoint()
    with pytest.raises(ChunkDamaged, match="missing"):
        guest.read(guest.incremental(full))


def test_the_disk_is_read_while_the_search_for_what_is_inherited_stands(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = guest.full()
    guest.chunk_file(full, 5).unlink()
    guest.disk.checkpoint()
    guest.disk.write(2 * CHUNK, noise(CHUNK, 2))
    written, look, write = threading.Event(), DiskWriter.look_for_inherited, DiskWriter.write_buffer

    def look_late(writer: DiskWriter, stopped: Callable[[], bool]) -> None:
        assert written.wait(60)
        look(writer, stopped)

    def write_and_tell(writer: DiskWriter, slot: int, buffer: ChunkBuffer) -> ChunkOutcome:
        outcome = write(writer, slot, buffer)
        written.set()
        return outcome

    monkeypatch.setattr(DiskWriter, "look_for_inherited", look_late)
    monkeypatch.setattr(DiskWriter, "write_buffer", write_and_tell)
    result = guest.incremental(full)
    assert (result.bytes_read, result.chunks_new) == (2 * CHUNK, 2)
    assert guest.read(full) == CONTENT


def test_a_search_that_fails_ends_the_transfer(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_writer: DiskWriter, _stopped: Callable[[], bool]) -> None:
        raise RepositoryNotReadable("as it happens")

    full = guest.full()
    guest.disk.checkpoint()
    monkeypatch.setattr(DiskWriter, "look_for_inherited", fail)
    with pytest.raises(RepositoryNotReadable):
        guest.incremental(full)


def missing(guest: Guest, full: TransferResult) -> dict[str, Any]:
    (guest.root / index_name(bytes.fromhex(full.index or ""))).unlink()
    return {}


def damaged(guest: Guest, full: TransferResult) -> dict[str, Any]:
    flip(guest.root / index_name(bytes.fromhex(full.index or "")))
    return {}


def other(guest: Guest, full: TransferResult) -> dict[str, Any]:
    return {"parent_index": "ab" * 32}


def resized(guest: Guest, full: TransferResult) -> dict[str, Any]:
    with guest.repository.disk_writer(CHUNK, CHUNK, checkpoint=FIRST) as writer:
        return {"parent_index": writer.finish().digest}


def cut_otherwise(guest: Guest, full: TransferResult) -> dict[str, Any]:
    with guest.repository.disk_writer(len(CONTENT), 2 * CHUNK, checkpoint=FIRST) as writer:
        return {"parent_index": writer.finish().digest}


def of_another_checkpoint(guest: Guest, full: TransferResult) -> dict[str, Any]:
    return {"parent_checkpoint": "freezeframe.test.0"}


def newer(guest: Guest, full: TransferResult) -> dict[str, Any]:
    data = bytearray((guest.root / index_name(bytes.fromhex(full.index or ""))).read_bytes())
    data[4] = 2
    digest = hashlib.sha256(data).digest()
    place = guest.root / index_name(digest)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    return {"parent_index": digest.hex()}


def no_file(guest: Guest, full: TransferResult) -> dict[str, Any]:
    place = guest.root / index_name(bytes.fromhex(full.index or ""))
    place.unlink()
    place.symlink_to(guest.root / "elsewhere")
    return {}


@pytest.mark.parametrize(
    ("lose", "reason"),
    [
        (no_file, "is a link to nothing"),
        (missing, "is missing"),
        (damaged, "has other bytes than were written"),
        (other, "is missing"),
        (newer, "was written by a newer version of freezeframe"),
        (resized, f"has {CHUNK} bytes in chunks of {CHUNK}"),
        (cut_otherwise, f"in chunks of {2 * CHUNK}"),
        (of_another_checkpoint, f"began checkpoint {FIRST}, and changes are known since freezeframe.test.0"),
    ],
)
def test_without_proof_it_is_read_in_full_with_the_reason_and_nothing_is_stored_twice(
    guest: Guest, lose: Any, reason: str
) -> None:
    full = guest.full()
    guest.disk.checkpoint()
    result = guest.incremental(full, **lose(guest, full))
    assert reason in (result.full_reason or "")
    assert (result.bytes_read, result.chunks_new, result.chunks_known) == (len(CONTENT), 0, SLOTS)
    assert result.dirty_bytes is None
    assert guest.read(result) == CONTENT


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_parents_index_that_the_storage_refuses_alone_costs_a_full_and_no_capture(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    full = guest.full()
    guest.disk.checkpoint()
    real = Filesystem.open

    def refuse(self: Filesystem, path: Path) -> io.RawIOBase:
        if str(full.index) in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return real(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Filesystem, "open", refuse)
        result = guest.incremental(full)
    assert os.strerror(number) in (result.full_reason or "")
    assert (result.bytes_read, result.chunks_new, result.dirty_bytes) == (len(CONTENT), 0, None)
    assert guest.read(result) == CONTENT


def test_while_the_store_is_away_no_parent_is_given_up(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    full = guest.full()
    guest.disk.checkpoint()
    real = Filesystem.open
    away: list[bool] = []

    def refuse(self: Filesystem, path: Path) -> io.RawIOBase:
        if away or str(full.index) in str(path):
            away.append(True)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(self, path)

    monkeypatch.setattr(Filesystem, "open", refuse)
    with pytest.raises(RepositoryNotReadable):
        guest.incremental(full)
