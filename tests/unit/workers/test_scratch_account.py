"""The account of scratch room: guests of all captures share one file system, and are judged together."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from workers import durable
from workers.claims import Claims
from workers.host import Host
from workers.journal import CaptureJournal, ClaimChange, FreedChange, Journal, ReservationChange, ScratchChange
from workers.scratch import account
from workers.scratch.errors import ScratchSpaceError
from workers.steps.undo import undo_guest

MIB = 1 << 20
ONE, OTHER = "01KAAAAAAAAAAAAAAAAAAAAAAA", "01KAAAAAAAAAAAAAAAAAAAAAAB"
NAMES = ("alpha", "beta", "gamma")
UUIDS = {name: f"00000000-0000-4000-8000-00000000000{name[0]}" for name in ("alpha", "beta")} | {
    "gamma": "00000000-0000-4000-8000-00000000000c"
}


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch, host: Host) -> SimpleNamespace:
    """A file system with 1000 MiB free, and only for scratch files."""
    found = SimpleNamespace(free=1000 * MIB)
    durable.make_directory(host.settings.scratch_dir)

    def usage(path: Path) -> SimpleNamespace:
        assert path == host.settings.scratch_dir
        return found

    monkeypatch.setattr("shutil.disk_usage", usage)
    return found


def take(host: Host, guest: str, capture_id: str = ONE) -> CaptureJournal:
    """As prepare does before it reserves."""
    journal = host.journal.of(capture_id)
    host.claims.take(UUIDS[guest], capture_id)
    journal.record(ClaimChange(guest_uuid=UUIDS[guest]))
    return journal


def reserve(host: Host, guest: str, mib: int, capture_id: str = ONE) -> CaptureJournal:
    journal = take(host, guest, capture_id)
    change = ReservationChange(guest_uuid=UUIDS[guest], guest=guest, needed_bytes=mib * MIB, targets=("vda",))
    account.reserve(host, journal, change)
    return journal


def restarted(host: Host) -> Host:
    """The same host, as a process that was started anew finds it."""
    state = host.settings.state_dir
    return Host(
        settings=host.settings,
        bus=host.bus,
        repository=host.repository,
        hypervisor=host.hypervisor,
        redis=host.redis,
        journal=Journal(state),
        claims=Claims(state),
        paces=host.paces,
    )


@pytest.mark.case("G5")
@pytest.mark.parametrize("second", [ONE, OTHER])
def test_two_guests_that_fit_alone_and_not_together(host: Host, second: str) -> None:
    reserve(host, "alpha", 600)
    with pytest.raises(ScratchSpaceError) as refused:
        reserve(restarted(host), "beta", 500, second)
    assert refused.value.message == (
        f"The scratch files of guest beta need 500 MiB on host host-a, and {host.settings.scratch_dir} has 1000 MiB free, "
        f"of which 600 MiB are reserved: 600 MiB by capture {ONE} for alpha."
    )
    assert str(host.settings.scratch_dir) in refused.value.hint
    reserve(host, "gamma", 400, second)  # which is refused for nothing that beta wanted


def test_a_guest_too_large_alone_is_told_of_no_reservations(host: Host) -> None:
    with pytest.raises(ScratchSpaceError, match=r"has 1000 MiB free\.$"):
        reserve(host, "alpha", 1001)


@pytest.mark.case("G5")
def test_a_refused_guest_reserves_nothing_and_an_undone_one_no_more(host: Host) -> None:
    journal = reserve(host, "alpha", 600)
    with pytest.raises(ScratchSpaceError):
        reserve(host, "beta", 500)
    assert [one.guest for one in account.reservations(host)] == ["alpha"]
    assert undo_guest(host, journal, UUIDS["alpha"], sealed=False) == []
    assert account.reservations(host) == []
    reserve(host, "alpha", 900)  # the same guest, by the same capture: the last of its reservations counts
    assert [one.promised_bytes for one in account.reservations(host)] == [900 * MIB]


def test_what_files_occupy_is_not_counted_twice(host: Host, room: SimpleNamespace) -> None:
    journal = reserve(host, "alpha", 600)
    path = host.settings.scratch_dir / "one.qcow2"
    journal.record(ScratchChange(guest_uuid=UUIDS["alpha"], path=path))
    path.write_bytes(b"x" * 4 * MIB)
    [one] = account.reservations(host)
    assert (one.occupied_bytes, one.outstanding_bytes) == (4 * MIB, 596 * MIB)
    room.free -= 4 * MIB
    reserve(host, "beta", 400)


def test_a_guest_that_occupies_more_than_it_reserved_gives_nothing_back(host: Host) -> None:
    assert account.Reservation(ONE, UUIDS["alpha"], "alpha", 1 * MIB, 5 * MIB).outstanding_bytes == 0


@pytest.mark.case("G5")
def test_a_backup_that_ended_with_its_last_disk_frees_its_room(host: Host) -> None:
    journal = reserve(host, "alpha", 600)
    journal.record(FreedChange(guest_uuid=UUIDS["alpha"]))
    reserve(host, "beta", 1000, OTHER)


@pytest.mark.case("G5", "S5")
def test_a_capture_whose_journal_cannot_be_read_counts_by_its_files(host: Host) -> None:
    journal = take(host, "alpha")
    path = host.scratch_file(ONE, UUIDS["alpha"], "vda")
    durable.make_directory(path.parent)
    path.write_bytes(b"QFI\xfb".ljust(24, b"\0") + (6000 * MIB).to_bytes(8, "big"))

    changes = host.settings.state_dir / "captures" / ONE / UUIDS["alpha"] / "changes"
    changes.write_text('\n{"v": 99, "change": "reservation"}\n')
    with pytest.raises(ScratchSpaceError, match=f"by capture {ONE}"):
        reserve(host, "beta", 500, OTHER)
    assert not journal.ended


@pytest.mark.case("G5")
def test_guests_that_are_prepared_side_by_side_are_judged_one_after_the_other(host: Host) -> None:
    """Six at once want 300 MiB of 1000 each: three get it, whoever they are."""
    start, refused = threading.Barrier(6), []

    def prepare(number: int) -> None:
        uuid = f"00000000-0000-4000-8000-00000000001{number}"
        host.claims.take(uuid, ONE)
        change = ReservationChange(guest_uuid=uuid, guest=f"g{number}", needed_bytes=300 * MIB, targets=("vda",))
        start.wait()
        try:
            account.reserve(host, host.journal.of(ONE), change)
        except ScratchSpaceError:
            refused.append(number)

    threads = [threading.Thread(target=prepare, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert len(account.reservations(host)) == 3


def test_what_a_guest_needs(host: Host) -> None:
    assert account.needed_bytes([10 << 30, 10 << 30], 0.1) == 2 << 30
    assert account.needed_bytes([1], 0.1) == 64 * MIB


def test_a_capture_that_has_used_all_that_it_was_promised_is_not_named_as_the_one_that_has_the_room(
    host: Host, room: SimpleNamespace
) -> None:
    """Waiting for it would help nobody: the free room is told without what it has written."""
    journal = reserve(host, "alpha", 600)
    used = reserve(host, "gamma", 2, OTHER)
    path = host.settings.scratch_dir / "one.qcow2"
    used.record(ScratchChange(guest_uuid=UUIDS["gamma"], path=path))
    path.write_bytes(b"x" * 4 * MIB)
    with pytest.raises(ScratchSpaceError) as refused:
        reserve(host, "beta", 500)
    assert refused.value.message.endswith(f"are reserved: 600 MiB by capture {ONE} for alpha.")
    assert not journal.ended
