"""A transfer tells how far it is while it is at work: the orchestrator ends one that says nothing for too long."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from freezeframe.repository import ChunkBuffer, DiskWriter
from freezeframe.repository.outcome import ChunkOutcome
from tests.unit.workers.exported import Guest
from workers.host import Host
from workers.steps import transfer
from workers.steps.transfer import _Reporter


@pytest.fixture
def guest(host: Host, tmp_path: Path) -> Guest:
    return Guest(host, tmp_path)


def test_progress_is_told_while_a_chunk_is_being_stored(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    tell, write = _Reporter._tell, DiskWriter.write_buffer

    def noted(reporter: _Reporter) -> None:
        tell(reporter)
        told.set()

    def slow(writer: DiskWriter, slot: int, buffer: ChunkBuffer) -> ChunkOutcome:
        assert told.wait(20)
        return write(writer, slot, buffer)

    monkeypatch.setattr(transfer, "REPORT_S", 0.01)
    monkeypatch.setattr(_Reporter, "_tell", noted)
    monkeypatch.setattr(DiskWriter, "write_buffer", slow)
    assert guest.full().bytes_read > 0


def test_the_last_that_is_told_is_how_far_the_transfer_came(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the thread beside it was about to tell comes before: progress never goes back."""
    beside: list[bool] = []
    last = threading.Event()

    def late(reporter: _Reporter) -> None:
        assert reporter._ended.wait(20)
        last.wait(0.2)  # as long as its word to Redis may take

    def noted(reporter: _Reporter) -> None:
        beside.append(reporter._thread.is_alive())
        last.set()

    monkeypatch.setattr(_Reporter, "_run", late)
    monkeypatch.setattr(_Reporter, "_tell", noted)
    guest.full()
    assert beside == [False]
