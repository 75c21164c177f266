"""The watcher: a backup ends with its last disk, or before the guest's own write fails; nothing that still reads is cut."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
import structlog

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.proof import GuestProof, HostProof
from freezeframe.contract.result import HoldResult, TransferResult
from freezeframe.contract.words import HoldKind, Step
from workers import durable
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.errors import GuestGoneError, HypervisorError
from workers.journal import (
    BackupChange,
    CaptureJournal,
    ClaimChange,
    FreedChange,
    GivenUpChange,
    ReservationChange,
    ScratchChange,
)
from workers.scratch import account
from workers.scratch.forecast import ENDING_S
from workers.scratch.open_backups import given_up, open_backups
from workers.scratch.watcher import AGAIN_S, DROPPED_S, JOURNALS_S, Watcher
from workers.steps.undo import undo_guest

MIB = 1 << 20
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ALPHA, BETA, GAMMA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "abc")
NAMES = {ALPHA: "alpha", BETA: "beta", GAMMA: "gamma"}
TARGETS = ("vda", "vdb")


def export_socket(host: Host, uuid: str) -> Path:
    """Where the guest's backup is served, as its journal says."""
    return host.settings.libvirt_run_dir / uuid / f"{CAPTURE}.sock"


@dataclass
class Libvirt:
    """Stands in for libvirt: which guests have a backup of ours, and what ended."""

    host: Host
    running: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    ended: list[str] = field(default_factory=list)
    hung: dict[str, threading.Event] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def domain(self, uuid: str) -> SimpleNamespace:
        if uuid in self.gone:
            raise GuestGoneError("It is not here.")
        return SimpleNamespace(uuid=uuid, active=lambda: True)

    def end(self, domain: SimpleNamespace, socket: Path) -> bool:
        assert socket == export_socket(self.host, domain.uuid)
        if domain.uuid in self.hung:
            self.hung[domain.uuid].wait()
        if domain.uuid in self.refused:
            raise HypervisorError("libvirtd is away")
        self.ended.append(NAMES[domain.uuid])
        found = domain.uuid in self.running - self.lost
        self.running.discard(domain.uuid)
        return found

    def is_lost(self, domain: SimpleNamespace) -> bool:
        return domain.uuid in self.lost


@pytest.fixture
def libvirt(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Libvirt]:
    stand_in = Libvirt(host)
    monkeypatch.setattr(Hypervisor, "domain", stand_in.domain)
    monkeypatch.setattr("workers.hypervisor.backup.end", stand_in.end)
    monkeypatch.setattr("workers.hypervisor.lost.is_lost", stand_in.is_lost)
    yield stand_in
    for event in stand_in.hung.values():
        event.set()


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch, host: Host) -> SimpleNamespace:
    found = SimpleNamespace(free=1000 * MIB)
    durable.make_directory(host.settings.scratch_dir)
    monkeypatch.setattr("shutil.disk_usage", lambda _: found)
    return found


def journal(host: Host) -> CaptureJournal:
    return host.journal.of(CAPTURE)


def begin(host: Host, libvirt: Libvirt, uuid: str) -> None:
    """What prepare and hold leave on the host for a guest with two disks."""
    host.claims.take(uuid, CAPTURE)
    own = journal(host)
    own.record(ClaimChange(guest_uuid=uuid))
    own.record(ReservationChange(guest_uuid=uuid, guest=NAMES[uuid], needed_bytes=300 * MIB, targets=TARGETS))
    for target in TARGETS:
        path = host.scratch_file(CAPTURE, uuid, target)
        durable.make_directory(path.parent)
        own.record(ScratchChange(guest_uuid=uuid, path=path))
        path.touch()
    socket = export_socket(host, uuid)
    own.record(BackupChange(guest_uuid=uuid, socket=socket, checkpoint=None, repository_id="r"))
    libvirt.running.add(uuid)


def held(host: Host, *uuids: str, late: tuple[str, ...] = ()) -> None:
    """The hold is over; these guests began, and `late` ones did not."""
    guests = tuple(
        GuestProof(
            guest_uuid=uuid,
            hold=GuestHold(kind=HoldKind.FREEZE),
            hold_start_ns=1,
            begun_ns=None if uuid in late else 2,
        )
        for uuid in (*uuids, *late)
    )
    result = HoldResult(
        capture_id=CAPTURE, host_id="host-a", proof=HostProof(host_id="host-a", boot_id="b", guests=guests)
    )
    journal(host).store_result(Step.HOLD, "", result.model_dump_json())


def transferred(host: Host, uuid: str, *targets: str, fault: Fault | None = None) -> None:
    for target in targets:
        result = TransferResult(capture_id=CAPTURE, host_id="host-a", guest_uuid=uuid, target=target, fault=fault)
        journal(host).store_result(Step.TRANSFER, f"{uuid}.{target}", result.model_dump_json())


def grow(host: Host, uuid: str, mib: int) -> None:
    with host.scratch_file(CAPTURE, uuid, "vda").open("ab") as file:
        file.write(b"x" * mib * MIB)


def look(watcher: Watcher, at_s: float) -> None:
    watcher.look(at_s)
    watcher.wait()


def freed(host: Host) -> list[str]:
    return [NAMES[change.guest_uuid] for change in journal(host).changes() if isinstance(change, FreedChange)]


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
    host.redis.hset(names.run_key(CAPTURE), "record", json.dumps({"state": state, "kept": kept}))
    look(Watcher(host), 0)
    assert libvirt.ended == ended


def test_a_redis_that_does_not_answer_ends_nothing(
    host: Host, libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise redis.ConnectionError("away")

    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    monkeypatch.setattr(host.redis, "hget", away)
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
    durable.append_line(host.settings.state_dir / "captures" / CAPTURE / ALPHA / "changes", '{"v": 2, "change": "new"}')
    assert sorted(one.guest for one in open_backups(host)) == ["alpha", "beta"]


def test_redis_is_not_asked_at_every_look(host: Host, libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    monkeypatch.setattr(host.redis, "hget", lambda key, _: asked.append(key))
    watcher = Watcher(host)
    for second in range(int(DROPPED_S) + 1):
        look(watcher, second)
    assert asked == [names.run_key(CAPTURE)] * 2


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
