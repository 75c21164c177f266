"""Undoing what a capture changed on a guest: what is not known to be unwanted stays, what is left over goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from workers import durable
from workers.claims import ClaimUnreadableError
from workers.host import Host
from workers.hypervisor import agent, backup, lost
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError, HypervisorError
from workers.hypervisor.fake_checkpoints import CheckpointedGuest
from workers.journal import BackupChange, CaptureJournal, ClaimChange, ScratchChange, ThawPendingChange
from workers.steps import undo
from workers.steps.undo import undo_capture, undo_guest

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
GUEST = "00000000-0000-4000-8000-00000000000a"
CHECKPOINT = "freezeframe.0123456789ab.01KAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def journal(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CaptureJournal:
    """Of a capture with one guest, which runs with a backup and its scratch file."""
    guest = CheckpointedGuest(tmp_path / "vda.qcow2")

    def find(_: Hypervisor, guest_uuid: str) -> Domain:
        assert guest_uuid == guest.uuid == GUEST
        return guest

    monkeypatch.setattr(Hypervisor, "domain", find)
    made = host.journal.of(CAPTURE)
    host.claims.take(GUEST, CAPTURE)
    made.record(ClaimChange(guest_uuid=GUEST))
    scratch = host.scratch_file(CAPTURE, GUEST, "vda")
    durable.make_directory(scratch.parent, durable.PASSABLE)
    made.record(ScratchChange(guest_uuid=GUEST, path=scratch))
    scratch.touch()
    made.record(BackupChange(guest_uuid=GUEST, socket=tmp_path / "s.sock", checkpoint=CHECKPOINT, repository_id="r"))
    return made


def test_neither_scratch_file_nor_socket_stays(host: Host, journal: CaptureJournal, tmp_path: Path) -> None:
    """A QEMU that was killed leaves its socket; the guest's directory is for its next start, too."""
    left = [tmp_path / "s.sock", host.scratch_file(CAPTURE, GUEST, "vda")]
    left[0].touch()
    assert undo_guest(host, journal, GUEST, sealed=True) == []
    assert [path for path in left if path.exists()] == []
    assert undo_guest(host, journal, GUEST, sealed=True) == []


@pytest.mark.case("G6")
@pytest.mark.parametrize(("sealed", "named"), [(False, CHECKPOINT), (True, None), (None, None)])
def test_of_a_backup_that_libvirt_lost_qemu_keeps_the_bitmap_unless_the_capture_is_known_as_not_sealed(
    host: Host, journal: CaptureJournal, monkeypatch: pytest.MonkeyPatch, *, sealed: bool | None, named: str | None
) -> None:
    """It is what the next capture builds upon."""
    ended: list[str | None] = []

    def end(_: Domain, scratch: Collection[Path], checkpoint: str | None) -> None:
        assert list(scratch) == [host.scratch_file(CAPTURE, GUEST, "vda")]
        ended.append(checkpoint)

    monkeypatch.setattr(lost, "is_lost", lambda _: True)
    monkeypatch.setattr(lost, "end", end)
    assert undo_guest(host, journal, GUEST, sealed=sealed) == []
    assert ended == [named]


@pytest.mark.case("G6")
@pytest.mark.parametrize(("active", "is_lost"), [(False, True), (True, False)])
def test_qemu_is_told_nothing_of_a_backup_that_libvirt_has_not_lost(
    host: Host, journal: CaptureJournal, monkeypatch: pytest.MonkeyPatch, *, active: bool, is_lost: bool
) -> None:
    """A guest whose monitor was used is marked as tainted, and one that is off has no QEMU."""
    monkeypatch.setattr(CheckpointedGuest, "active", lambda _: active)
    monkeypatch.setattr(lost, "is_lost", lambda _: is_lost)
    monkeypatch.setattr(lost, "end", _never)
    assert undo_guest(host, journal, GUEST, sealed=True) == []


@pytest.mark.case("G6")
def test_a_backup_that_ended_as_told_is_not_looked_for_in_qemu(
    host: Host, journal: CaptureJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "end", lambda *_: True)
    monkeypatch.setattr(lost, "is_lost", lambda _: True)
    monkeypatch.setattr(lost, "end", _never)
    assert undo_guest(host, journal, GUEST, sealed=True) == []


def _never(*_: object) -> None:
    raise AssertionError("QEMU was told to end a backup that libvirt knows")


def test_a_capture_s_scratch_directory_goes_durably_and_only_when_it_is_empty(
    host: Host, journal: CaptureJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its journal has ended nobody looks there again."""
    directory = host.settings.scratch_dir / CAPTURE
    synced: list[tuple[Path, bool]] = []
    fsync_folder = durable.calls.fsync_folder

    def noted(path: Path) -> None:
        synced.append((path, directory.exists()))
        fsync_folder(path)

    monkeypatch.setattr(durable.calls, "fsync_folder", noted)
    assert undo_capture(host, journal, sealed=()) == []
    assert (host.settings.scratch_dir, False) in synced
    assert journal.ended


def test_a_capture_whose_scratch_directory_holds_something_else_ends_all_the_same(
    host: Host, journal: CaptureJournal
) -> None:
    other = host.settings.scratch_dir / CAPTURE / "notes"
    other.write_text("of the administrator")
    assert undo_capture(host, journal, sealed=()) == []
    assert journal.ended
    assert other.exists()


def test_a_capture_that_is_not_undone_keeps_its_journal_open_and_its_scratch_directory(
    host: Host, journal: CaptureJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "undo_guests", lambda *_, sealed: ["guest alpha: no"])
    assert undo_capture(host, journal, sealed=()) == ["guest alpha: no"]
    assert not journal.ended
    assert (host.settings.scratch_dir / CAPTURE).exists()


def not_undone(host: Host, journal: CaptureJournal) -> str:
    """Undo the capture in vain: it stays open, and so does its claim. Return what is told of it."""
    [told] = undo_capture(host, journal, sealed=())
    assert not journal.ended
    assert (host.settings.state_dir / "claims" / GUEST).exists()
    return told


@pytest.mark.case("G4")
def test_a_guest_that_a_step_has_stays_to_be_undone_and_is_named(host: Host, journal: CaptureJournal) -> None:
    with journal.guest(GUEST).lock():
        told = not_undone(host, journal)
    assert told == f"guest {GUEST}: a step of the capture, or an earlier undo, is at work on it"
    assert undo_capture(host, journal, sealed=()) == []
    assert journal.ended


@pytest.mark.case("G4")
@pytest.mark.parametrize("call", ["hold", "let go"])
def test_a_guest_with_a_call_of_its_hold_that_has_not_returned_stays_to_be_undone(
    host: Host, journal: CaptureJournal, call: str
) -> None:
    """It may still begin a backup, which nobody would end."""
    back = threading.Event()
    key = f"{GUEST} {call}"
    host.calls.give_up(key, host.calls.start(key, back.wait))
    assert "may still begin a backup" in not_undone(host, journal)
    back.set()
    while host.calls.is_hanging(key):
        time.sleep(0.001)
    assert undo_capture(host, journal, sealed=()) == []


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied", "/state/captures"), OSError("as it happens")]
)
def test_a_capture_whose_guests_cannot_be_listed_stays_open_and_the_trouble_is_told(
    host: Host, journal: CaptureJournal, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    """Those that are known by their claims are undone all the same."""

    def unlisted(_: CaptureJournal) -> list[str]:
        raise error

    monkeypatch.setattr(CaptureJournal, "guests", unlisted)
    [told] = undo_capture(host, journal, sealed=())
    assert told == f"{error.filename or 'the journal'} cannot be read: {error.strerror or error}"
    assert not journal.ended
    assert host.claims.holder(GUEST) is None


@pytest.mark.case("S5")
def test_a_claim_that_cannot_be_read_is_told_with_what_to_do_and_other_trouble_in_its_own_words(
    host: Host, journal: CaptureJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = host.settings.state_dir / "claims" / GUEST
    text = claim.read_text()
    claim.write_text("\x00")
    told = not_undone(host, journal)
    assert str(claim) in told
    assert told.endswith(f" {ClaimUnreadableError.advice}")
    claim.write_text(text)

    def fails(*_: object) -> bool:
        raise HypervisorError("QEMU says no.")

    monkeypatch.setattr(backup, "end", fails)
    assert not_undone(host, journal) == f"guest {GUEST}: QEMU says no."


def test_a_guest_that_was_only_claimed_is_free_again_without_libvirt(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepare was refused because libvirtd is away: the claim must not wait for it."""

    def away(_: Hypervisor, _uuid: str) -> Domain:
        raise HypervisorError("libvirtd is away.")

    other = "00000000-0000-4000-8000-00000000000b"
    host.claims.take(other, CAPTURE)
    host.journal.of(CAPTURE).record(ClaimChange(guest_uuid=other))
    monkeypatch.setattr(Hypervisor, "domain", away)
    assert undo_guest(host, host.journal.of(CAPTURE), other, sealed=False) == []
    assert host.claims.holder(other) is None


@pytest.mark.parametrize("running", [False, True])
def test_a_thaw_that_waits_for_an_agent_is_over_when_the_guest_is_off(
    host: Host, journal: CaptureJournal, monkeypatch: pytest.MonkeyPatch, *, running: bool
) -> None:
    """A guest that is started again is not frozen; one that runs may be, as long as its agent does not answer."""

    def silent(*_: object) -> int:
        raise AgentError("The agent does not answer.")

    journal.record(ThawPendingChange(guest_uuid=GUEST))
    monkeypatch.setattr(agent, "thaw", silent)
    monkeypatch.setattr(CheckpointedGuest, "active", lambda _: running)
    left = undo_guest(host, journal, GUEST, sealed=True)
    assert len(left) == running
    assert host.claims.holder(GUEST) == (CAPTURE if running else None)
