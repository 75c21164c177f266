"""An incremental looks at some of what it inherits; a disk that is not what its parent has is read in full (invariant 7)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from freezeframe.access import ConfiguredKey
from freezeframe.contract.result import TransferResult
from freezeframe.repository import Repository
from freezeframe.repository.crypto import Secret
from freezeframe.repository.errors import RepositoryNotWritable
from freezeframe.repository.suspects import Suspects
from tests.unit.workers.exported import CAPTURE, CHUNK, CONTENT, SLOTS, TARGET, Guest, noise
from workers.host import Host
from workers.hypervisor.backup import bitmap_name
from workers.steps import audit
from workers.steps.audit import Audit

OLDER = "01K99999999999999999999999"


@pytest.fixture
def guest(host: Host, tmp_path: Path) -> Guest:
    return Guest(host, tmp_path)


def incremental(guest: Guest, full: TransferResult) -> TransferResult:
    return guest.incremental(full, parent_capture_id=OLDER)


@contextmanager
def unrecorded(guest: Guest) -> Iterator[None]:
    """What is written meanwhile reaches no bitmap."""
    change = ["qemu-img", "bitmap", "-f", "qcow2"]
    subprocess.run([*change, "--disable", guest.disk.path, bitmap_name(TARGET)], check=True)
    yield
    subprocess.run([*change, "--enable", guest.disk.path, bitmap_name(TARGET)], check=True)


def changed(slots: range) -> bytes:
    """CONTENT with other noise in these slots."""
    new = noise(len(slots) * CHUNK, 7)
    return CONTENT[: slots.start * CHUNK] + new + CONTENT[slots.stop * CHUNK :]


def test_what_is_inherited_is_looked_at_and_not_counted_as_read(guest: Guest) -> None:
    full = guest.full()
    guest.disk.checkpoint()
    guest.disk.write(2 * CHUNK, noise(CHUNK, 2))
    result = incremental(guest, full)
    assert (result.audited_chunks, result.inherited_differs) == (SLOTS - 1, False)
    assert (result.full_reason, result.bytes_read, result.dirty_bytes) == (None, CHUNK, CHUNK)
    assert guest.repository.suspects.all() == []


def test_the_log_tells_what_the_audit_took_of_the_transfer(guest: Guest) -> None:
    """`ops/bench incremental` has its share from there."""
    full = guest.full()
    guest.disk.checkpoint()
    with structlog.testing.capture_logs() as lines:
        result = incremental(guest, full)
    (line,) = (line for line in lines if line["event"] == "audited")
    assert (line["disk"], line["chunks"]) == (TARGET, result.audited_chunks)
    assert 0 < line["seconds"] < result.seconds


def test_a_full_inherits_nothing(guest: Guest) -> None:
    assert guest.full().audited_chunks == 0


@pytest.mark.parametrize("slots", [range(5, 6), range(SLOTS), range(SLOTS - 1, SLOTS)])
def test_a_disk_with_other_data_than_its_parent_is_read_in_full_told_and_marked(guest: Guest, slots: range) -> None:
    full = guest.full()
    guest.disk.checkpoint()
    with unrecorded(guest):
        guest.disk.write(slots.start * CHUNK, changed(slots)[slots.start * CHUNK : slots.stop * CHUNK])
    result = incremental(guest, full)
    assert guest.read(result) == changed(slots)
    assert result.inherited_differs
    assert f"it is not what {OLDER} has of it" in (result.full_reason or "")
    assert f"{len(slots)} of {SLOTS} chunks" in (result.full_reason or "")
    assert (result.bytes_read, result.dirty_bytes) == (len(CONTENT), None)
    [mark] = guest.repository.suspects.pending()
    assert (mark.capture_id, mark.index, mark.found_by) == (OLDER, full.index, CAPTURE)
    assert (mark.guest, mark.target) == ("alpha", TARGET)
    assert guest.repository.suspects.marked().has(OLDER, full.index or "")


def test_what_was_dirty_is_in_it_all_the_same(guest: Guest) -> None:
    full = guest.full()
    guest.disk.checkpoint()
    guest.disk.write(0, noise(CHUNK, 3))
    with unrecorded(guest):
        guest.disk.write(4 * CHUNK, noise(CHUNK, 4))
    result = incremental(guest, full)
    want = noise(CHUNK, 3) + CONTENT[CHUNK : 4 * CHUNK] + noise(CHUNK, 4) + CONTENT[5 * CHUNK :]
    assert guest.read(result) == want


def test_a_hole_that_has_data_now_is_found(guest: Guest) -> None:
    guest.disk.write(0, bytes(4 * CHUNK))
    full = guest.full()
    guest.disk.checkpoint()
    with unrecorded(guest):
        guest.disk.write(CHUNK, noise(CHUNK, 4))
    result = incremental(guest, full)
    assert result.inherited_differs
    assert guest.read(result) == bytes(CHUNK) + noise(CHUNK, 4) + bytes(2 * CHUNK) + CONTENT[4 * CHUNK :]


@pytest.mark.parametrize("slot", range(0, SLOTS, 3))
def test_data_that_reads_as_zeros_now_is_found_whatever_the_sample(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, slot: int
) -> None:
    """A disk that was made smaller and larger again: its bitmap says nothing of the part that came anew."""
    monkeypatch.setattr(audit, "CHUNKS", 1)
    full = guest.full()
    guest.disk.checkpoint()
    with unrecorded(guest):
        guest.disk.discard(slot * CHUNK, CHUNK)
    result = incremental(guest, full)
    assert result.inherited_differs
    assert f"chunk {slot} reads as zeros now" in (result.full_reason or "")
    assert guest.read(result) == CONTENT[: slot * CHUNK] + bytes(CHUNK) + CONTENT[(slot + 1) * CHUNK :]


def test_zeros_that_the_parent_has_as_well_are_no_difference(guest: Guest) -> None:
    guest.disk.discard(3 * CHUNK, 2 * CHUNK)
    full = guest.full()
    guest.disk.checkpoint()
    result = incremental(guest, full)
    assert (result.inherited_differs, result.full_reason, result.bytes_read) == (False, None, 0)
    assert guest.read(result) == CONTENT[: 3 * CHUNK] + bytes(2 * CHUNK) + CONTENT[5 * CHUNK :]


def test_chunks_with_data_are_looked_at_before_those_that_read_as_zeros(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether zeros differ is known without reading; that of data is not."""
    monkeypatch.setattr(audit, "CHUNKS", 2)
    guest.disk.discard(2 * CHUNK, (SLOTS - 2) * CHUNK)
    full = guest.full()
    guest.disk.checkpoint()
    with unrecorded(guest):
        guest.disk.write(0, noise(2 * CHUNK, 4))
    result = incremental(guest, full)
    assert "2 of 2 chunks" in (result.full_reason or "")
    assert guest.read(result) == noise(2 * CHUNK, 4) + bytes((SLOTS - 2) * CHUNK)


def test_a_chunk_that_the_guest_discarded_is_no_difference(guest: Guest) -> None:
    full = guest.full()
    guest.disk.checkpoint()
    guest.disk.discard(3 * CHUNK, 2 * CHUNK)
    result = incremental(guest, full)
    assert not result.inherited_differs
    assert guest.read(result) == CONTENT[: 3 * CHUNK] + bytes(2 * CHUNK) + CONTENT[5 * CHUNK :]


def test_without_the_audit_the_difference_would_be_kept(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Audit, "slots", lambda _: [])
    full = guest.full()
    guest.disk.checkpoint()
    with unrecorded(guest):
        guest.disk.write(4 * CHUNK, noise(CHUNK, 4))
    assert guest.read(incremental(guest, full)) == CONTENT


def test_a_difference_to_a_capture_that_the_order_does_not_name_is_told_and_marks_none(guest: Guest) -> None:
    full = guest.full()
    guest.disk.checkpoint()
    with unrecorded(guest):
        guest.disk.write(0, noise(CHUNK, 4))
    result = guest.incremental(full)
    assert result.inherited_differs
    assert "it is not what its older capture has of it" in (result.full_reason or "")
    assert guest.repository.suspects.all() == []
    assert guest.read(result) == noise(CHUNK, 4) + CONTENT[CHUNK:]


def test_it_goes_on_if_the_older_capture_cannot_be_marked(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RepositoryNotWritable("as it happens")

    monkeypatch.setattr(Suspects, "mark", refuse)
    full = guest.full()
    guest.disk.checkpoint()
    with unrecorded(guest):
        guest.disk.write(0, noise(CHUNK, 4))
    assert incremental(guest, full).inherited_differs


def test_digests_of_an_encrypted_repository_are_compared_as_well(host: Host, tmp_path: Path) -> None:
    guest = Guest(host, tmp_path)
    root, key = tmp_path / "sealed", tmp_path / "key"
    key.touch(mode=0o600)
    key.write_bytes(bytes(range(64)))
    guest.repository = Repository.init(root, chunk_bytes=CHUNK, secret=Secret.key_file(key))
    guest.repository.sessions.begin(CAPTURE, "test")
    guest.host = replace(host, repository=str(root), repository_key=ConfiguredKey(key))
    full = guest.full()
    guest.disk.checkpoint()
    assert not incremental(guest, full).inherited_differs
    with unrecorded(guest):
        guest.disk.write(4 * CHUNK, noise(CHUNK, 4))
    result = incremental(guest, full)
    assert result.inherited_differs
    assert guest.read(result) == CONTENT[: 4 * CHUNK] + noise(CHUNK, 4) + CONTENT[5 * CHUNK :]


def test_data_goes_before_zeros_and_zeros_fill_up() -> None:
    few = Audit()
    few.inherit(range(4), data=True)
    few.inherit(range(4, 1000), data=False)
    assert len(few.slots()) == audit.CHUNKS
    assert few.slots()[:4] == [0, 1, 2, 3]
    many = Audit()
    many.inherit(range(1000), data=False)
    many.inherit(range(1000, 2000), data=True)
    assert len(many.slots()) == audit.CHUNKS
    assert min(many.slots()) >= 1000
