"""Reading an export through the threads of a transfer, served by a real QEMU."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from freezeframe.contract.order import TransferOrder
from freezeframe.contract.words import CaptureKind
from freezeframe.repository import ChunkBuffer, DiskWriter, Repository
from freezeframe.repository.errors import RepositoryNotWritable
from freezeframe.repository.outcome import ChunkOutcome
from ops.qemu_export import FakeGuest, exporting
from workers import bandwidth
from workers.connection import DataConnection
from workers.export import ExportError
from workers.host import Host
from workers.steps import reading
from workers.steps.progress import Progress
from workers.steps.transfer import transfer

GUEST = "00000000-0000-4000-8000-00000000000a"
CHUNK = 64 << 10
SIZE = 40 * CHUNK + 512  # the last chunk is a short one


def order(**changes: object) -> TransferOrder:
    usual = TransferOrder(
        capture_id="01KAAAAAAAAAAAAAAAAAAAAAAA",
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(hours=1),
        guest_uuid=GUEST,
        guest_name="alpha",
        target="vda",
        size_bytes=SIZE,
        chunk_bytes=CHUNK,
        kind=CaptureKind.FULL,
        checkpoint=None,
        parent_index=None,
    )
    return usual.model_copy(update=changes)


@contextmanager
def served(host: Host, content: bytes) -> Iterator[subprocess.Popen[str]]:
    disk, guest = host.settings.run_dir / "disk", FakeGuest("alpha", GUEST, host.settings.libvirt_run_dir)
    disk.write_bytes(content)
    with exporting(guest, guest.begun(host.journal, order().capture_id), disk) as server:
        yield server


@pytest.fixture
def host(host: Host) -> Host:
    Repository.init(host.repository).sessions.begin(order().capture_id, "test")
    host.settings.scratch_dir.mkdir(exist_ok=True)
    return host


def with_settings(host: Host, **settings: object) -> Host:
    return replace(host, settings=host.settings.model_copy(update=settings))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_every_byte_arrives_in_its_place_whoever_reads_it(host: Host, threads: int) -> None:
    content = os.urandom(SIZE)
    with served(host, content):
        result = transfer(with_settings(host, transfer_threads=threads), order())
    with Repository.open(host.repository).disk_reader(result.index or "") as reader:
        assert b"".join(extent.data or b"" for extent in reader) == content
    assert result.bytes_read == SIZE


def test_an_export_that_ends_in_the_middle_is_told_as_such(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(host, os.urandom(SIZE)) as server:
        written: list[int] = []

        def die(_self: object, done: int, _read: int) -> None:
            written.append(done)
            server.kill()
            server.wait()

        monkeypatch.setattr(Progress, "add", die)
        with pytest.raises(ExportError, match="Reading the export of disk vda"):
            transfer(with_settings(host, transfer_threads=1), order())
    assert written


@pytest.mark.parametrize(
    ("settings", "limit_bytes_s"),
    [({"transfer_limit_mib_s": 1.0}, None), ({"host_limit_mib_s": 1.0}, None), ({}, 1 << 20)],
    ids=["transfer", "host", "capture"],
)
def test_a_limit_is_kept(
    host: Host, monkeypatch: pytest.MonkeyPatch, settings: dict[str, float], limit_bytes_s: int | None
) -> None:
    """Every read is allowed by a bucket before it is asked for: by a clock that only waiting for limits moves."""
    clock = Clock()
    monkeypatch.setattr(bandwidth, "time", clock)
    monkeypatch.setattr(reading, "time", clock)
    asked: list[tuple[float, int]] = []
    begin = DataConnection.begin

    def noted(connection: DataConnection, start: int, view: memoryview) -> range:
        asked.append((clock.now, len(view)))
        return begin(connection, start, view)

    monkeypatch.setattr(DataConnection, "begin", noted)
    monkeypatch.setattr(reading.Reading, "_wait_for", clock.wait_for)
    with served(host, os.urandom(SIZE)):
        transfer(with_settings(host, transfer_threads=2, **settings), order(limit_bytes_s=limit_bytes_s))
    assert sum(count for _, count in asked) == SIZE
    passed = 0
    for at, count in sorted(asked):
        passed += count
        assert passed <= (at + bandwidth.BURST_S) * (1 << 20) * (1 + 1e-6)
    assert clock.now > 2.0


class Clock:
    """In place of the module `time`: stands still but for those who wait, and never goes back."""

    def __init__(self) -> None:
        self.now = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def wait_for(self, coming: reading._Coming) -> bool:
        with self._lock:
            self.now = max(self.now, coming.not_before)
        return True


def test_when_one_thread_fails_the_others_end_with_what_they_have_in_hand(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is read for nothing from then on, and the guest waits for its backup to end."""
    begun: list[int] = []
    failed, lock = threading.Event(), threading.Lock()
    begin, fail, write = DataConnection.begin, reading.Reading.fail, DiskWriter.write_buffer

    def noted(connection: DataConnection, start: int, view: memoryview) -> range:
        begun.append(start)
        return begin(connection, start, view)

    def failing(one: reading.Reading, error: BaseException) -> None:
        fail(one, error)
        failed.set()

    def full(writer: DiskWriter, slot: int, buffer: ChunkBuffer) -> ChunkOutcome:
        if lock.acquire(blocking=False):
            raise RepositoryNotWritable("No space left on device.")
        assert failed.wait(30)
        return write(writer, slot, buffer)

    monkeypatch.setattr(DataConnection, "begin", noted)
    monkeypatch.setattr(reading.Reading, "fail", failing)
    monkeypatch.setattr(DiskWriter, "write_buffer", full)
    with served(host, os.urandom(SIZE)), pytest.raises(RepositoryNotWritable, match="No space left"):
        transfer(with_settings(host, transfer_threads=2), order())
    assert len(begun) <= 2 * (reading.AHEAD + 2)  # of 41


@pytest.mark.parametrize("stopped", [False, True])
def test_a_chunk_waits_until_its_limit_allows_it_and_no_longer_than_another_thread_s_failure(
    host: Host, monkeypatch: pytest.MonkeyPatch, *, stopped: bool
) -> None:
    clock, waited = Clock(), []
    clock.now = 5000.0
    monkeypatch.setattr(reading, "time", clock)
    one = reading.Reading(host, order(), cast("DiskWriter", None), Progress(SIZE), bitmap=False)

    def wait(timeout: float) -> bool:
        waited.append(timeout)
        return stopped

    monkeypatch.setattr(one._stopped, "wait", wait)
    assert one._wait_for(reading._Coming(0, 0, CHUNK, 4999.0)) is True
    assert one._wait_for(reading._Coming(0, 0, CHUNK, 5002.5)) is not stopped
    assert waited == [2.5]


class Looker:
    """As much of a writer as looks for what is inherited."""

    def __init__(self) -> None:
        self.told: list[bool] = []

    def look_for_inherited(self, stopped: Callable[[], bool]) -> None:
        self.told.append(stopped())


def test_a_failure_ends_the_look_for_what_is_inherited_and_the_wait_for_a_limit(host: Host) -> None:
    """Either may take as long as the whole disk, and the guest's backup goes on meanwhile."""
    writer = Looker()
    one = reading.Reading(host, order(), cast("DiskWriter", writer), Progress(SIZE), bitmap=False)
    one._look_for_inherited()
    one.fail(RepositoryNotWritable("No space left on device."))
    one._look_for_inherited()
    assert writer.told == [False, True]
    assert not one._wait_for(reading._Coming(0, 0, CHUNK, time.monotonic() + 0.5))


def test_a_thread_has_some_reads_on_their_way_and_no_more() -> None:
    """Each has a buffer, and those of all threads are what a transfer may have of the host's memory."""
    connection = SimpleNamespace(begin=lambda start, _: range(start, start + 1), complete=lambda _: None)
    buffer = SimpleNamespace(chunk=lambda length: memoryview(bytes(length)))
    lane = reading._Lane(cast("Any", connection), cast("Any", SimpleNamespace(take_buffer=lambda: buffer)))
    for slot in range(reading.AHEAD):
        assert lane.has_room
        lane.begin(reading._Coming(slot, slot, 1, 0.0))
    assert not lane.has_room
    assert lane.complete()[0].slot == 0
    assert lane.has_room
