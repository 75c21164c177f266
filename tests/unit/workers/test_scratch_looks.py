"""The watcher's looks: as rare as they may be, and no doubt about one backup ends it or keeps another unwatched."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import HoldResult
from freezeframe.contract.words import Step
from tests.unit.workers.watched_host import (
    ALPHA,
    BETA,
    CAPTURE,
    GAMMA,
    TARGETS,
    Libvirt,
    begin,
    export_socket,
    freed,
    grow,
    held,
    journal,
    look,
    transferred,
)
from workers.host import Host
from workers.journal import BackupChange, ClaimChange
from workers.scratch import ending, open_backups, watcher
from workers.scratch.forecast import LONGEST_PAUSE_S
from workers.scratch.watcher import AGAIN_S, DROPPED_S, JOURNALS_S, Watcher, watch_forever
from workers.steps.undo import undo_capture

pytestmark = pytest.mark.usefixtures("room")

OLDER = "01J" + CAPTURE[3:]
#: A monotonic clock is far from 0 on most machines.
NOW_S = 50_000.0


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A word for each reading of all journals."""
    seen: list[str] = []
    find = open_backups.open_backups

    def noted(host: Host) -> list[open_backups.OpenBackup]:
        seen.append("read")
        return find(host)

    monkeypatch.setattr(watcher, "open_backups", noted)
    return seen


def test_the_journals_are_read_once_a_second_however_often_the_room_is_looked_at(
    host: Host, libvirt: Libvirt, read: list[str]
) -> None:
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    one = Watcher(host)
    for step in range(11):
        look(one, NOW_S + step * JOURNALS_S / 10)
    assert len(read) == 2


def test_an_end_that_is_over_is_news_once_and_one_that_hangs_is_none(
    host: Host, libvirt: Libvirt, read: list[str]
) -> None:
    """Its room is back, so that the journals are read at once; and not 50 times a second for it."""
    for uuid in (ALPHA, BETA, GAMMA):
        begin(host, libvirt, uuid)
    held(host, ALPHA, BETA, GAMMA)
    for uuid in (ALPHA, BETA, GAMMA):
        transferred(host, uuid, *TARGETS)
    libvirt.hung[BETA] = threading.Event()
    libvirt.refused.add(GAMMA)
    one = Watcher(host)
    with structlog.testing.capture_logs():
        one.look(NOW_S)
        for thread in threading.enumerate():
            if thread.name in {"end-alpha", "end-gamma"}:
                thread.join()
        assert len(read) == 1
        for step in range(1, 6):
            one.look(NOW_S + step * JOURNALS_S / 10)
    assert len(read) == 2
    assert freed(host) == ["alpha"]


def test_where_no_backup_is_open_the_file_system_is_not_looked_at(
    host: Host, libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scratch directory is not even there before the first capture."""

    def missing(path: Path) -> SimpleNamespace:
        raise FileNotFoundError(path)

    monkeypatch.setattr("shutil.disk_usage", missing)
    assert Watcher(host).look(NOW_S) == LONGEST_PAUSE_S


def test_what_is_known_of_captures_that_are_over_is_forgotten(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    one = Watcher(host)
    look(one, NOW_S)
    assert list(one._begun) == [CAPTURE]
    assert undo_capture(host, journal(host), sealed=()) == []
    look(one, NOW_S + JOURNALS_S)
    assert one._begun == {}


@pytest.mark.case("S5")
def test_a_hold_whose_result_cannot_be_read_ends_no_backup(host: Host, libvirt: Libvirt) -> None:
    """Whether the guest began is not known; a transfer may be reading."""
    begin(host, libvirt, ALPHA)
    journal(host).store_result(Step.HOLD, "", '{"v": 2}')
    transferred(host, ALPHA, *TARGETS)
    with structlog.testing.capture_logs() as logs:
        look(Watcher(host), NOW_S)
    assert libvirt.ended == []
    assert [line["capture"] for line in logs if line["event"].startswith("cannot tell")] == [CAPTURE]


def test_while_a_hold_is_at_work_nothing_is_known_of_it_and_nothing_warned_of(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    with structlog.testing.capture_logs() as logs:
        look(Watcher(host), NOW_S)
    assert open_backups.begun_guests(journal(host)) is None
    assert logs == []


@pytest.mark.case("G5")
def test_a_hold_that_failed_as_a_whole_ends_what_it_may_have_begun(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    fault = Fault(code="interrupted", message="Its worker ended.")
    result = HoldResult(capture_id=CAPTURE, host_id="host-a", fault=fault)
    journal(host).store_result(Step.HOLD, "", result.model_dump_json())
    look(Watcher(host), NOW_S)
    assert libvirt.ended == freed(host) == ["alpha"]


@pytest.mark.case("S5")
def test_a_capture_whose_journals_cannot_be_listed_keeps_no_other_unwatched(host: Host, libvirt: Libvirt) -> None:
    host.journal.of(OLDER).record(ClaimChange(guest_uuid=BETA))
    begin(host, libvirt, ALPHA)
    older = host.settings.state_dir / "captures" / OLDER
    for path in (older / BETA).iterdir():
        path.unlink()
    (older / BETA).rmdir()
    older.rmdir()
    older.write_text("not a folder")
    with structlog.testing.capture_logs() as logs:
        found = open_backups.open_backups(host)
    assert [one.guest for one in found] == ["alpha"]
    assert [line["capture"] for line in logs] == [OLDER]


@pytest.mark.case("S5")
def test_a_guest_whose_reservation_was_not_understood_keeps_no_other_unwatched(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    host.claims.take(BETA, CAPTURE)
    change = BackupChange(guest_uuid=BETA, socket=export_socket(host, BETA), checkpoint=None, repository_id="r")
    journal(host).record(change)
    assert [one.guest for one in open_backups.open_backups(host)] == ["alpha"]


@pytest.mark.case("G5")
def test_a_backup_that_has_ended_by_itself_leaves_no_files_and_gives_its_room_back(
    host: Host, libvirt: Libvirt
) -> None:
    """Somebody else ended it, or its guest is off: there is nothing to end, and nothing that libvirt has lost."""
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    transferred(host, ALPHA, *TARGETS)
    libvirt.running.clear()
    look(Watcher(host), NOW_S)
    assert freed(host) == ["alpha"]
    assert not any(host.scratch_file(CAPTURE, ALPHA, target).exists() for target in TARGETS)


def test_an_end_that_comes_after_the_release_writes_nothing_into_a_journal_that_has_ended(
    host: Host, libvirt: Libvirt
) -> None:
    begin(host, libvirt, ALPHA)
    [one] = open_backups.open_backups(host)
    assert undo_capture(host, journal(host), sealed=()) == []
    changes = journal(host).changes()
    ending.end(host, one)
    assert journal(host).changes() == changes


@pytest.mark.case("G5")
def test_a_guest_whose_end_hangs_keeps_the_others_only_for_a_while_on_any_clock(
    host: Host, libvirt: Libvirt, room: SimpleNamespace
) -> None:
    for uuid in (ALPHA, BETA):
        begin(host, libvirt, uuid)
    held(host, ALPHA, BETA)
    libvirt.hung[ALPHA] = threading.Event()
    one = Watcher(host)
    one.look(NOW_S)
    grow(host, ALPHA, 8)
    room.free = 0
    one.look(NOW_S + 0.1)  # alpha is being ended
    one.look(NOW_S + 0.2)
    for thread in threading.enumerate():
        if thread.name == "end-beta":
            thread.join()
    assert open_backups.given_up(journal(host), BETA) is None
    libvirt.hung[ALPHA].set()
    one.wait()


@pytest.mark.case("G5")
def test_an_end_that_failed_is_not_tried_again_at_every_look_on_any_clock(
    host: Host, libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    transferred(host, ALPHA, *TARGETS)
    one = Watcher(host)

    def fails(_host: Host, _one: open_backups.OpenBackup) -> None:
        tried.append(at_s)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ending, "end", fails)
    with structlog.testing.capture_logs():
        for step in range(int(AGAIN_S) + 3):
            at_s = NOW_S + step * JOURNALS_S
            look(one, at_s)
    assert tried == [NOW_S, NOW_S + AGAIN_S + JOURNALS_S]


def test_the_watch_goes_on_after_a_look_that_failed_and_ends_when_it_is_told_to(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, looks = threading.Event(), 0
    paused: list[float] = []

    class Told(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            paused.append(timeout or 0.0)
            return stop.is_set()

    def failing_at_first(_: Watcher, now_s: float) -> float:
        nonlocal looks
        assert now_s <= time.monotonic()
        looks += 1
        if looks == 1:
            raise OSError(5, "Input/output error")
        if looks == 3:
            stop.set()
        return 0.25

    monkeypatch.setattr(Watcher, "look", failing_at_first)
    with structlog.testing.capture_logs():
        watch_forever(host, Told())
    assert looks == 3
    assert paused == [0.0, LONGEST_PAUSE_S, 0.25, 0.25]


def test_redis_is_asked_about_dropped_guests_again_only_after_a_while_on_any_clock(
    host: Host, libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)

    def told(asking: Host, capture_id: str, guest_uuid: str) -> bool:
        assert (asking, capture_id, guest_uuid) == (host, CAPTURE, ALPHA)
        asked.append(at_s)
        return False

    monkeypatch.setattr("workers.scratch.open_backups.goes_on_without", told)
    one = Watcher(host)
    for step in range(int(DROPPED_S) + 1):
        at_s = NOW_S + step * JOURNALS_S
        look(one, at_s)
    assert asked == [NOW_S, NOW_S + DROPPED_S]
