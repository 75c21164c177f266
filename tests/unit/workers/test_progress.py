"""A transfer tells how far it is while it is at work: the orchestrator ends one that says nothing for too long."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from freezeframe.repository import ChunkBuffer, DiskWriter, Repository, Sessions
from freezeframe.repository.outcome import ChunkOutcome
from freezeframe.settings import OrchestratorSettings
from tests.unit.workers.exported import CHUNK, Guest
from workers.connection import DataConnection
from workers.host import Host
from workers.steps import reporter
from workers.steps.progress import Progress
from workers.steps.reading import Reading, _Coming
from workers.steps.reporter import Reporter


@pytest.fixture
def guest(host: Host, tmp_path: Path) -> Guest:
    return Guest(host, tmp_path)


def test_progress_is_told_while_a_chunk_is_being_stored(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    tell, write = Reporter._tell, DiskWriter.write_buffer

    def noted(telling: Reporter) -> None:
        tell(telling)
        told.set()

    def slow(writer: DiskWriter, slot: int, buffer: ChunkBuffer) -> ChunkOutcome:
        assert told.wait(20)
        return write(writer, slot, buffer)

    monkeypatch.setattr(reporter, "REPORT_S", 0.01)
    monkeypatch.setattr(Reporter, "_tell", noted)
    monkeypatch.setattr(DiskWriter, "write_buffer", slow)
    assert guest.full().bytes_read > 0


#: Reports that are made while a call hangs.
REPORTS = 6


def hang(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[str]:
    """Have such calls hang until a few reports were made; the signs of life in these."""
    pulses: list[str] = []
    hangs, released = threading.Event(), threading.Event()
    tell, call = Reporter._tell, getattr(owner, name)

    def noted(telling: Reporter) -> None:
        tell(telling)
        if hangs.is_set() and not released.is_set():
            pulses.append(telling._pulse())
            if len(pulses) == REPORTS:
                released.set()

    def hanging(*args: object, **named: object) -> object:
        hangs.set()
        assert released.wait(20)
        return call(*args, **named)

    monkeypatch.setattr(reporter, "REPORT_S", 0.01)
    monkeypatch.setattr(Reporter, "_tell", noted)
    monkeypatch.setattr(owner, name, hanging)
    return pulses


@pytest.mark.case("R7")
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Sessions, "check"),
        (Repository, "disk_writer"),
        (DiskWriter, "write_buffer"),
        (DiskWriter, "look_for_inherited"),
        (DiskWriter, "slots_to_read_again"),
        (DiskWriter, "finish"),
    ],
)
def test_a_transfer_that_waits_for_the_repository_gives_signs_of_life(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    pulses = hang(monkeypatch, owner, name)
    guest.full()
    assert len(pulses) == REPORTS
    # the first may have been on its way already when the call began
    assert len(set(pulses[1:])) == REPORTS - 1, pulses


def test_a_transfer_whose_source_hangs_gives_none(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reading, "_look_for_inherited", lambda _: None)
    pulses = hang(monkeypatch, DataConnection, "complete")
    guest.full()
    assert len(pulses) == REPORTS
    assert len(set(pulses)) == 1, pulses


def test_a_transfer_gives_signs_of_life_while_its_audit_reads(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 chunks of 16 MiB take minutes where a host may read 1 MiB a second, and no byte is done with by them."""
    signs: list[tuple[int, int]] = []
    compare = Reading._compare

    def noted(reading: Reading, chunk: _Coming, buffer: ChunkBuffer) -> None:
        with reading._progress.lock:
            signs.append((reading._progress.moves, reading._progress.bytes_done))
        compare(reading, chunk, buffer)

    full = guest.full()
    guest.disk.checkpoint()
    monkeypatch.setattr(Reading, "_compare", noted)
    result = guest.incremental(full)
    assert len(signs) == result.audited_chunks > 1
    assert len({moves for moves, _ in signs}) > 1
    assert len({done for _, done in signs}) == 1


def test_each_piece_that_the_source_gives_is_a_sign_of_life(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of slow storage 24 chunks of 16 MiB at once may take longer to come than a silence may last."""
    noted: list[int] = []
    note_piece = Progress.note_piece

    def note(progress: Progress) -> None:
        before = progress.moves
        note_piece(progress)
        noted.append(progress.moves - before)

    monkeypatch.setattr(Progress, "note_piece", note)
    monkeypatch.setattr("workers.connection.REQUEST_BYTES", CHUNK // 4)
    result = guest.full()
    assert len(noted) == result.bytes_read // (CHUNK // 4)
    assert min(noted) >= 1


def test_a_transfer_that_waits_for_its_limit_gives_signs_of_life(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    wait = Reading._wait_for

    def limited(reading: Reading, coming: _Coming) -> bool:
        stopped = reading._stopped

        class Stopped(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                assert timeout
                waits.append(reading._progress.waits)
                return stopped.is_set()

        monkeypatch.setattr(reading, "_stopped", Stopped())
        return wait(reading, coming._replace(not_before=time.monotonic() + 3600))

    guest.host = replace(guest.host, settings=guest.host.settings.model_copy(update={"transfer_threads": 1}))
    monkeypatch.setattr(Reading, "_look_for_inherited", lambda _: None)
    monkeypatch.setattr(Reading, "_wait_for", limited)
    guest.full()
    assert waits
    assert set(waits) == {1}


def test_the_last_that_is_told_is_how_far_the_transfer_came(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread beside it tells its number first: progress never goes back."""
    beside: list[bool] = []
    last = threading.Event()

    def late(telling: Reporter) -> None:
        assert telling._ended.wait(20)
        last.wait(0.2)  # as long as its word to Redis may take

    def noted(telling: Reporter) -> None:
        beside.append(telling._thread.is_alive())
        last.set()

    monkeypatch.setattr(Reporter, "_run", late)
    monkeypatch.setattr(Reporter, "_tell", noted)
    guest.full()
    assert beside == [False]


def test_a_disk_that_is_read_in_full_after_all_has_nothing_done() -> None:
    """Else more than all of it would be told as done."""
    progress = Progress(bytes_total=100)
    progress.add(60, 50)
    progress.begin_again()
    assert (progress.bytes_done, progress.bytes_read, progress.bytes_total) == (0, 0, 100)


def test_a_transfer_that_takes_hours_reports_less_often_than_one_that_has_just_begun() -> None:
    """Callers see a short one move, and a thousand hosts that read for hours keep Redis from nothing."""
    assert [reporter.pause_s(seconds) for seconds in (0, 10, 60, 100, 36_000)] == [0.5, 0.5, 3.0, 5.0, 5.0]
    assert reporter.pause_s(36_000) * 10 < OrchestratorSettings().transfer_stall_s
