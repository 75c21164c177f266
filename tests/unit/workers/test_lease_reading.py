"""A lease of any version, whole or not, names guests that may be held: none is passed over."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from freezeframe.contract.words import HoldKind
from workers.boot import boot_id
from workers.guard.lease import LeasedGuest, LeaseFiles, StoredLease
from workers.guard.reading import FoundGuest, FoundLease, read_lease
from workers.journal import ClaimChange, HoldChange, Journal

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
A = "00000000-0000-4000-8000-00000000000a"
B = "00000000-0000-4000-8000-00000000000b"
C = "00000000-0000-4000-8000-00000000000c"
NOW = 5000.0  # of the guard's clock
BOOT = "11111111-2222-4333-8444-555555555555"
MONITOR = "/var/lib/libvirt/qemu/domain-2-b/monitor.sock"
SOCKET = "/run/libvirt/qemu/channel/1-a/org.qemu.guest_agent.0"

STORED = StoredLease(
    guests=(
        LeasedGuest(guest_uuid=A, hold=HoldKind.FREEZE, agent_socket=Path(SOCKET)),
        LeasedGuest(guest_uuid=B, hold=HoldKind.PAUSE, monitor_socket=Path(MONITOR)),
    ),
    capture_id=CAPTURE,
    deadline_s=12.5,
    boot_id=BOOT,
)
GUESTS = (
    FoundGuest(A, HoldKind.FREEZE, Path(SOCKET)),
    FoundGuest(B, HoldKind.PAUSE, monitor_socket=Path(MONITOR)),
)


def read(tmp_path: Path, content: str | bytes) -> FoundLease:
    path = tmp_path / f"{CAPTURE}.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_lease(path, tmp_path / "captures" / CAPTURE, NOW)


def test_a_lease_is_read_as_it_was_stored(tmp_path: Path) -> None:
    files = LeaseFiles(tmp_path)
    files.add(STORED)
    assert files.all() == [FoundLease(CAPTURE, GUESTS, 12.5, BOOT)]
    files.remove(CAPTURE)
    assert files.all() == []


def changed(**changes: Any) -> str:
    return json.dumps(json.loads(STORED.model_dump_json()) | changes)


@pytest.mark.case("S5")
@pytest.mark.parametrize("deadline", ["1" + "0" * 400, "-1e999", "1e999", "NaN", "true", '"12"', "null"])
def test_a_deadline_that_no_clock_shows_is_damage_and_its_guests_are_let_go(tmp_path: Path, deadline: str) -> None:
    """One such lease ended the guard's reading of all, or was kept for ever."""
    found = read(tmp_path, changed().replace("12.5", deadline))
    assert (found.guests, found.deadline_s) == (GUESTS, None)
    assert found.damage


@pytest.mark.case("S5")
@pytest.mark.parametrize("deadline", [NOW + 701, 50_100_000.0, 1e300])
@pytest.mark.parametrize("changes", [{}, {"boot_id": None}, {"v": 2}], ids=["whole", "without a boot", "newer"])
def test_a_deadline_that_no_guard_of_this_boot_can_have_written_is_damage(
    tmp_path: Path, deadline: float, changes: dict[str, Any]
) -> None:
    """One digit too many, and the guard would let its guests go again and again, for as long."""
    found = read(tmp_path, changed(**({"boot_id": boot_id(), "deadline_s": deadline} | changes)))
    assert (found.guests, found.deadline_s) == (GUESTS, None)
    assert found.damage


@pytest.mark.case("S5")
@pytest.mark.parametrize(("boot", "ahead_s"), [(None, 700.0), (None, -1.0), (BOOT, 1e7)])
def test_a_deadline_that_a_guard_can_have_written_is_no_damage(
    tmp_path: Path, boot: str | None, ahead_s: float
) -> None:
    """A boot before this one may have lasted for years."""
    found = read(tmp_path, changed(boot_id=boot or boot_id(), deadline_s=NOW + ahead_s))
    assert (found.deadline_s, found.damage) == (NOW + ahead_s, None)


@pytest.mark.case("S5")
def test_of_a_lease_with_an_impossible_deadline_the_capture_s_journal_is_asked_too(tmp_path: Path) -> None:
    """What else of it is damaged nobody knows: a guest may be missing."""
    Journal(tmp_path).of(CAPTURE).record(HoldChange(guest_uuid=C, hold=HoldKind.PAUSE))
    found = read(tmp_path, changed(boot_id=boot_id(), deadline_s=1e300))
    assert [guest.guest_uuid for guest in found.guests] == [A, B, C]


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    "content",
    [
        changed(v=2),
        changed(priority="high"),
        json.dumps(
            {"v": 1, "capture_id": CAPTURE, "guests": json.loads(STORED.model_dump_json())["guests"], "seconds": 12}
        ),
    ],
    ids=["newer", "a key more", "of the version before, without a boot and a deadline"],
)
def test_a_lease_of_another_version_names_the_same_guests(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content).guests == GUESTS


@pytest.mark.case("S5")
def test_a_guest_with_keys_that_are_not_known_and_in_another_order(tmp_path: Path) -> None:
    guest = {"hold": "pause", "since": 3, "id": {"uuid": A}}
    found = read(tmp_path, changed(v=3, guests=[guest, {"guest": B, "hold": "freeze-more"}]))
    assert found.guests == (FoundGuest(A, HoldKind.PAUSE), FoundGuest(B, HoldKind.FREEZE_PAUSE))
    assert found.damage is not None


@pytest.mark.case("S5")
def test_a_lease_that_is_cut_off_anywhere_behind_its_first_guest_names_the_guests_before_the_cut(
    tmp_path: Path,
) -> None:
    text = STORED.model_dump_json()
    for end in range(text.index(A) + len(A), len(text)):
        found = read(tmp_path, text[:end])
        assert found.guests
        assert found.guests[0].guest_uuid == A
        assert found.guests[0].hold in {HoldKind.FREEZE, HoldKind.FREEZE_PAUSE}  # unknown: everything is let go
        assert {guest.guest_uuid for guest in found.guests} <= {A, B}
        assert found.damage == "it is not whole"


def test_a_uuid_in_a_string_that_is_too_long_for_a_path_may_be_a_guest_s(tmp_path: Path) -> None:
    """Of a file that is not whole: what stands so far behind a key need not be its value."""
    begin = f'{{"agent_socket": "/run/{A}'
    assert read(tmp_path, begin).guests == ()
    assert read(tmp_path, begin + "x" * (7 * 4096) + B).guests == (FoundGuest(B, HoldKind.FREEZE_PAUSE),)


@pytest.mark.parametrize("content", [f'"{A}"', f'["{A}"]', f"{A}\n\x00\xff"])
def test_whatever_has_a_uuid_in_it_names_a_guest(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content).guests == (FoundGuest(A, HoldKind.FREEZE_PAUSE),)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\x00" * 512,
        b"null",
        b'{"guests": 5}',
        b"\xff\xfe",
        b'{"v": 1, "guests": [], "deadline_s": 1.0, "boot_id": "1"}',
    ],
)
def test_a_lease_that_names_nobody_is_told_and_the_journal_is_asked(tmp_path: Path, content: bytes) -> None:
    found = read(tmp_path, content)
    assert found.guests == ()
    assert found.damage
    journal = Journal(tmp_path).of(CAPTURE)
    journal.record(HoldChange(guest_uuid=A, hold=HoldKind.PAUSE))
    journal.record(HoldChange(guest_uuid=B, hold=HoldKind.FREEZE))
    assert read(tmp_path, content).guests == (FoundGuest(A, HoldKind.PAUSE), FoundGuest(B, HoldKind.FREEZE))


@pytest.mark.case("S5")
def test_a_lease_that_the_disk_does_not_give_is_told_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = LeaseFiles(tmp_path)
    files.add(STORED)
    Journal(tmp_path).of(CAPTURE).record(HoldChange(guest_uuid=A, hold=HoldKind.FREEZE))
    real = Path.read_bytes

    def fails(path: Path) -> bytes:
        if path.suffix == ".json":
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    (tmp_path / "captures" / CAPTURE / "changes.unreadable").mkdir()  # neither is part of the journal
    monkeypatch.setattr(Path, "read_bytes", fails)
    (found,) = files.all()
    assert found.damage == "it cannot be read: Input/output error"
    assert found.guests == (FoundGuest(A, HoldKind.FREEZE),)


def test_a_whole_lease_names_all_its_guests_and_the_journal_no_other(tmp_path: Path) -> None:
    """A guest that was disarmed has left the lease and not the journal: it may be paused by somebody else since."""
    alone = STORED.model_copy(update={"guests": STORED.guests[:1]})
    Journal(tmp_path).of(CAPTURE).record(HoldChange(guest_uuid=B, hold=HoldKind.PAUSE))
    assert read(tmp_path, alone.model_dump_json()).guests == GUESTS[:1]


def test_of_a_guest_that_both_name_the_lease_says_more(tmp_path: Path) -> None:
    """It has the sockets, without which a guest that libvirt has lost stays frozen."""
    Journal(tmp_path).of(CAPTURE).record(HoldChange(guest_uuid=A, hold=HoldKind.PAUSE))
    assert read(tmp_path, changed(v=2)).guests == GUESTS


def test_a_boot_that_cannot_be_read_may_be_this_one(tmp_path: Path) -> None:
    """Of an earlier boot one look would be enough, and a call could still be pending."""
    assert read(tmp_path, changed(boot_id=7)).boot_id is None


def test_a_journal_names_the_guests_that_were_held_and_not_those_that_were_only_claimed(tmp_path: Path) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    journal.record(ClaimChange(guest_uuid=B))
    journal.record(HoldChange(guest_uuid=A, hold=HoldKind.PAUSE))
    assert read(tmp_path, b"").guests == (FoundGuest(A, HoldKind.PAUSE),)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_leases_that_cannot_be_listed_are_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    files = LeaseFiles(tmp_path)

    def refuse(path: os.PathLike[str] | str = ".") -> NoReturn:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        files.all()
