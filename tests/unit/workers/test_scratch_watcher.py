"""The watcher: a backup ends with its last disk, or before the guest's own write fails; nothing that still reads is cut."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
import structlog

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.words import Step
from tests.unit.told_run import tell_run
from tests.unit.workers.watched_host import (
    ALPHA,
    BETA,
    CAPTURE,
    GAMMA,
    MIB,
    TARGETS,
    Libvirt,
    begin,
    freed,
    grow,
    held,
    journal,
    look,
    transferred,
)
from workers import durable
from workers.host import Host
from workers.journal import (
    CaptureJournal,
    GivenUpChange,
)
from workers.scratch import account
from workers.scratch.forecast import ENDING_S
from workers.scratch.open_backups import given_up, open_backups
from workers.scratch.watcher import AGAIN_S, DROPPED_S, JOURNALS_S, Watcher
from workers.steps.undo import undo_guest

pytestmark = pytest.mark.usefixtures("room")


@pytest.mark.case("G5")
@pytest.mark.parametrize("fault", [None, Fault(code="export", message="It failed.")])
def test_a_backup_ends_with_its_last_disk_stored_or_given_up(host: Host, libvirt: Libvirt, fault: Fault | None) -> None:
    for uuid in (ALPHA, BETA):
        begin(host, libvirt, uuid)
    watcher = Watcher(host)
    look(watcher, 0)
    held(host, ALPHA, BETA)
    transferred(host, ALPHA, "vda")
    look(watcher, JOURNALS_S)
    assert libvirt.ended == []  # vdb may still be read
    transferred(host, ALPHA, "vdb", fault=fault)
    look(watcher, 2 * JOURNALS_S)
    assert libvirt.ended == freed(host) == ["alpha"]
    assert not any(host.scratch_file(CAPTURE, ALPHA, target).exists() for target in TARGETS)
    assert [one.guest for one in account.reservations(host)] == ["beta"]
    assert host.claims.holder(ALPHA) == CAPTURE  # its checkpoint is settled by the release
    look(watcher, 3 * JOURNALS_S)
    assert libvirt.ended == ["alpha"]


@pytest.mark.case("G5")
def test_a_new_control_worker_goes_on_watching(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    transferred(host, ALPHA, *TARGETS)
    look(Watcher(host), 0)
    assert libvirt.ended == ["alpha"]


def test_no_backup_ends_while_its_hold_is_at_work(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    look(Watcher(host), 0)
    assert libvirt.ended == []


@pytest.mark.case("G5")
def test_a_guest_that_did_not_begin_in_time_ends(host: Host, libvirt: Libvirt) -> None:
    for uuid in (ALPHA, BETA):
        begin(host, libvirt, uuid)
    held(host, ALPHA, late=(BETA,))
    look(Watcher(host), 0)
    assert libvirt.ended == ["beta"]


@pytest.mark.case("G5")
@pytest.mark.parametrize(
    ("state", "kept", "ended"),
    [
        ("holding", [], []),
        ("transferring", [ALPHA, BETA], []),
        ("transferring", [ALPHA], ["beta"]),
        ("sealing", [ALPHA], ["beta"]),
    ],
)
def test_a_guest_that_its_run_dropped_ends(
    host: Host, libvirt: Libvirt, state: str, kept: list[str], ended: list[str]
) -> None:
    for uuid in (ALPHA, BETA):
        begin(host, libvirt, uuid)
    held(host, ALPHA, BETA)
    tell_run(host.redis, CAPTURE, state, kept)
    look(Watcher(host), 0)
    assert libvirt.ended == ended


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.hset(names.run_key(CAPTURE), "v", "2"),
        lambda client: client.hset(names.run_key(CAPTURE), "v", "one"),
        lambda client: client.hdel(names.run_key(CAPTURE), "v"),
        lambda client: client.hset(names.run_key(CAPTURE), "state", "melting"),
        lambda client: client.hdel(names.run_key(CAPTURE), "state"),
        lambda client: client.hdel(names.run_key(CAPTURE), "kept"),
        lambda client: client.hset(names.run_key(CAPTURE), "kept", "2"),
        lambda client: client.hset(names.run_key(CAPTURE), "kept", "all"),
        lambda client: client.delete(names.kept_key(CAPTURE)),  # evicted
        lambda client: client.delete(names.run_key(CAPTURE)),
        # as an orchestrator of the version before wrote it, alone or after a later one
        lambda client: client.hdel(names.run_key(CAPTURE), "stated", "v", "state", "kept"),
        lambda client: client.hincrby(names.run_key(CAPTURE), "version", 1),
    ],
)
def test_a_run_that_is_not_understood_ends_no_backup_and_keeps_no_other_unwatched(
    host: Host, libvirt: Libvirt, change: Callable[[redis.Redis], object]
) -> None:
    """As that of a newer orchestrator. Beta's transfers are done with."""
    for uuid in (ALPHA, BETA):
        begin(host, libvirt, uuid)
    held(host, ALPHA, BETA)
    transferred(host, BETA, *TARGETS)
    tell_run(host.redis, CAPTURE, "transferring", [BETA])
    change(host.redis)
    look(Watcher(host), 0)
    assert libvirt.ended == ["beta"]


def test_a_run_that_keeps_no_guest_any_more_drops_them_all(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    tell_run(host.redis, CAPTURE, "releasing", [])
    look(Watcher(host), 0)
    assert libvirt.ended == ["alpha"]


def test_a_redis_that_does_not_answer_ends_nothing(
    host: Host, libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    monkeypatch.setattr(host.redis, "pipeline", away)
    look(Watcher(host), 0)
    assert libvirt.ended == []


@pytest.mark.case("G5")
def test_scratch_full_with_no_transfer_running_ends_the_fastest_growing_and_no_other(
    host: Host, libvirt: Libvirt, room: SimpleNamespace
) -> None:
    for uuid in (ALPHA, BETA):
        begin(host, libvirt, uuid)
    held(host, ALPHA, BETA)
    watcher = Watcher(host)
    grow(host, BETA, 8)  # the larger
    look(watcher, 0)
    grow(host, ALPHA, 2)
    room.free = 10 * MIB
    look(watcher, 0.1)
    assert libvirt.ended == ["alpha"]
    room.free = 500 * MIB
    look(watcher, 0.2)
    look(watcher, 2 * JOURNALS_S)
    assert libvirt.ended == freed(host) == ["alpha"]
    fault = given_up(journal(host), ALPHA)
    assert fault is not None
    assert (fault.code, fault.guest, fault.host) == ("scratch-runs-out", "alpha", "host-a")
    assert "alpha" in fault.message
    assert given_up(journal(host), BETA) is None


@pytest.mark.case("G5")
def test_the_reason_is_on_disk_before_the_export_closes(
    host: Host, libvirt: Libvirt, room: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transfer whose connection closes looks for it at once."""
    begin(host, libvirt, ALPHA)
    seen = []

    def end(domain: SimpleNamespace, _: Path) -> bool:
        seen.append(given_up(journal(host), domain.uuid))
        return True

    monkeypatch.setattr("workers.hypervisor.backup.end", end)
    room.free = 0
    look(Watcher(host), 0)
    [fault] = seen
    assert fault is not None


@pytest.mark.case("G5", "G4")
def test_a_guest_that_hangs_costs_no_other_its_room(host: Host, libvirt: Libvirt, room: SimpleNamespace) -> None:
    for uuid in (ALPHA, BETA, GAMMA):
        begin(host, libvirt, uuid)
    held(host, ALPHA, BETA, GAMMA)
    libvirt.hung[ALPHA] = threading.Event()
    watcher = Watcher(host)
    watcher.look(0)
    grow(host, ALPHA, 8)
    grow(host, BETA, 4)
    room.free = 0
    watcher.look(0.1)
    transferred(host, GAMMA, *TARGETS)
    watcher.look(JOURNALS_S)
    for thread in threading.enumerate():
        if thread.name == "end-gamma":
            thread.join()
    watcher.look(JOURNALS_S + 0.1)  # alpha's end may still give the room back
    assert (libvirt.ended, given_up(journal(host), BETA)) == (["gamma"], None)
    watcher.look(0.1 + ENDING_S + 0.1)
    libvirt.hung[ALPHA].set()
    watcher.wait()
    assert sorted(libvirt.ended) == ["alpha", "beta", "gamma"]
    assert given_up(journal(host), BETA) is not None
    assert given_up(journal(host), GAMMA) is None


@pytest.mark.case("G5")
def test_an_end_that_failed_is_tried_again(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    transferred(host, ALPHA, *TARGETS)
    libvirt.refused.add(ALPHA)
    watcher = Watcher(host)
    with structlog.testing.capture_logs():
        look(watcher, 0)
    libvirt.refused.clear()
    look(watcher, JOURNALS_S)
    assert libvirt.ended == []
    assert host.scratch_file(CAPTURE, ALPHA, "vda").exists()
    look(watcher, AGAIN_S + JOURNALS_S)
    assert freed(host) == ["alpha"]


def test_a_backup_that_libvirt_lost_keeps_its_files_until_the_release(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    transferred(host, ALPHA, *TARGETS)
    libvirt.lost.add(ALPHA)
    look(Watcher(host), 0)
    assert freed(host) == []
    assert host.scratch_file(CAPTURE, ALPHA, "vda").exists()


def test_a_guest_that_is_gone_leaves_no_scratch_files(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    transferred(host, ALPHA, *TARGETS)
    libvirt.gone.add(ALPHA)
    look(Watcher(host), 0)
    assert (libvirt.ended, freed(host)) == ([], ["alpha"])
    assert not host.scratch_file(CAPTURE, ALPHA, "vda").exists()


def test_after_the_release_there_is_nothing_to_watch(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    assert [one.guest for one in open_backups(host)] == ["alpha"]
    assert undo_guest(host, journal(host), ALPHA, sealed=True) == []
    assert open_backups(host) == []


@pytest.mark.case("S5")
def test_a_line_of_a_newer_version_keeps_no_guest_unwatched(host: Host, libvirt: Libvirt) -> None:
    for uuid in (ALPHA, BETA):
        begin(host, libvirt, uuid)
    durable.append_line(
        host.settings.state_dir / "captures" / CAPTURE / ALPHA / "changes", '{"v": 99, "change": "new"}'
    )
    assert sorted(one.guest for one in open_backups(host)) == ["alpha", "beta"]


def test_redis_is_not_asked_at_every_look(host: Host, libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)

    def noting(_: Host, capture_id: str, __: str) -> bool:
        asked.append(capture_id)
        return False

    monkeypatch.setattr("workers.scratch.open_backups.goes_on_without", noting)
    watcher = Watcher(host)
    for second in range(int(DROPPED_S) + 1):
        look(watcher, second)
    assert asked == [CAPTURE] * 2


def test_the_result_of_a_hold_is_read_once_for_all_its_guests(
    host: Host, libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has all of them: reading it for each would be 40,000 proofs a second with 200 guests."""
    read: list[Step] = []
    result = CaptureJournal.result

    def counted(own: CaptureJournal, step: Step, part: str) -> str | None:
        read.append(step)
        return result(own, step, part)

    for uuid in (ALPHA, BETA):
        begin(host, libvirt, uuid)
    held(host, ALPHA, BETA)
    monkeypatch.setattr(CaptureJournal, "result", counted)
    watcher = Watcher(host)
    look(watcher, 0)
    look(watcher, JOURNALS_S)
    assert read.count(Step.HOLD) == 1
    assert libvirt.ended == []


def test_a_guest_that_was_given_up_and_captured_again_is_not_given_up(host: Host, libvirt: Libvirt) -> None:
    begin(host, libvirt, ALPHA)
    journal(host).record(GivenUpChange(guest_uuid=ALPHA, fault=Fault(code="scratch-runs-out", message="full")))
    assert given_up(journal(host), ALPHA) is not None
    assert given_up(host.journal.of("01KAAAAAAAAAAAAAAAAAAAAAAB"), ALPHA) is None
