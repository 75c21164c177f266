"""The thaw guard, with libvirt's own test driver: guests are let go when the deadline passes, the worker dies or it starts.

Pausing is what the test driver can do; freezing is tried on real guests in tests/lab. When a lease may leave the disk is
decided by the table (`test_lease_table.py`); here the guard is seen to keep to it, on a clock that the test puts ahead.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest
import structlog

from freezeframe.contract.words import HoldKind
from tests.unit.workers.guard_site import CAPTURE, NOBODY, OTHER, GuardInThread, paused, running, until
from workers import hold as holding
from workers.boot import boot_id
from workers.bounded import GuestCalls, GuestHangsError
from workers.guard import client, letting_go, server, watch
from workers.guard.client import GuardError, GuardLine
from workers.guard.fake_agent import FakeAgent
from workers.guard.fake_monitor import FakeMonitor
from workers.guard.lease import LeasedGuest, LeaseFiles, StoredLease
from workers.guard.reading import FoundGuest, FoundLease
from workers.guard.table import SETTLE_S, Look
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorUnreachableError

STORED_WHOLE = StoredLease(
    guests=(LeasedGuest(guest_uuid=NOBODY, hold=HoldKind.NONE),), capture_id=OTHER, deadline_s=0.0, boot_id=NOBODY
)


def test_a_lease_is_on_disk_when_it_is_acknowledged_and_gone_when_disarmed(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        guard.arm(line, 60)
        (stored,) = guard.files.all()
        assert [(one.guest_uuid, one.hold) for one in stored.guests] == [(guard.domain.uuid, HoldKind.PAUSE)]
        assert stored.boot_id == boot_id()
        assert stored.deadline_s is not None
        assert guard.now() < stored.deadline_s <= guard.now() + 60
        assert line.disarm(CAPTURE)
        assert guard.files.all() == []


def test_a_guest_is_let_go_when_the_deadline_passes_and_the_worker_learns_of_it(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        guard.domain.pause()
        guard.arm(line, 0.2)
        until(lambda: running(guard))
        assert not line.disarm(CAPTURE)
    assert guard.files.all() == []  # the worker says that the guest runs, and that no call of its own is pending


def test_a_guest_is_let_go_when_the_worker_dies(guard: GuardInThread) -> None:
    guard.start()
    line = guard.line()
    guard.arm(line, 60)
    guard.domain.pause()
    line.__exit__(None, None, None)
    until(lambda: running(guard))
    until(guard.retired)


def test_a_guest_of_a_lease_found_at_start_is_let_go(guard: GuardInThread) -> None:
    guard.store(paused(guard.domain.uuid))
    guard.domain.pause()
    guard.start()
    until(lambda: running(guard))
    until(guard.retired)


def test_a_disarmed_lease_touches_nobody(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        guard.arm(line, 60)
        assert line.disarm(CAPTURE)
        guard.domain.pause()  # by somebody else, for reasons of their own
        guard.forward(61)
        line.arm(OTHER, paused(NOBODY), 0.1)
    until(guard.retired)  # the guard has looked at deadlines since
    assert not running(guard)
    guard.domain.resume()  # the test driver's guest is the same one in every test


def test_a_guest_that_is_gone_needs_no_letting_go(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        line.arm(CAPTURE, paused(NOBODY), 0.1)
    until(guard.retired)


def test_letting_go_is_tried_until_it_succeeds(guard: GuardInThread, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Domain.resume
    failures: list[Domain] = []

    def fails_twice(domain: Domain) -> None:
        if len(failures) < 2:
            failures.append(domain)
            raise libvirt.libvirtError("libvirt is away")
        real(domain)

    guard.start()
    with guard.line() as line:
        guard.domain.pause()
        monkeypatch.setattr(Domain, "resume", fails_twice)
        guard.arm(line, 0.1)
        until(lambda: running(guard))
    assert len(failures) == 2


def test_a_guard_that_is_stopping_takes_no_new_lease_and_says_so(guard: GuardInThread) -> None:
    guard.start()
    guard.drain().join()
    with guard.line() as line, pytest.raises(GuardError, match="the guard is stopping"):
        guard.arm(line, 60)
    assert guard.files.all() == []


def test_a_guard_that_is_stopping_waits_for_the_worker_to_disarm(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        guard.arm(line, 60)
        draining = guard.drain()
        draining.join(0.2)
        assert draining.is_alive()
        assert line.disarm(CAPTURE)
        draining.join()
    assert guard.files.all() == []


def test_a_guard_that_is_stopping_lets_go_at_the_deadline_and_only_then_ends(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        guard.domain.pause()
        guard.arm(line, 0.2)
        draining = guard.drain()
        until(lambda: running(guard))
        assert draining.is_alive()  # the worker may still send a call
    until(guard.retired)
    draining.join()


def test_a_guard_that_is_stopping_lets_go_when_the_worker_dies(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        guard.arm(line, 60)
        guard.domain.pause()
        draining = guard.drain()
    until(lambda: running(guard))
    until(guard.retired)
    draining.join()


def test_a_guard_that_is_stopping_first_lets_go_of_what_an_earlier_one_left(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, may = Domain.resume, threading.Event()

    def waits(domain: Domain) -> None:
        may.wait()
        real(domain)

    monkeypatch.setattr(Domain, "resume", waits)
    guard.store(paused(guard.domain.uuid))
    guard.domain.pause()
    guard.start()
    draining = guard.drain()
    draining.join(0.2)
    assert draining.is_alive()
    may.set()
    until(guard.retired)
    draining.join()
    assert running(guard)


def test_a_guard_does_not_end_before_its_last_answer_is_sent(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the worker would take its lease for one that did not stand, and the capture would claim nothing."""
    real, may, removed = LeaseFiles.remove, threading.Event(), threading.Event()

    def slow(files: LeaseFiles, capture_id: str) -> None:
        real(files, capture_id)
        removed.set()
        may.wait()

    guard.start()
    with guard.line() as line:
        guard.arm(line, 60)
        monkeypatch.setattr(LeaseFiles, "remove", slow)
        told: list[bool] = []
        worker = threading.Thread(target=lambda: told.append(line.disarm(CAPTURE)), daemon=True)
        worker.start()
        removed.wait()
        draining = guard.drain()
        draining.join(0.2)
        assert draining.is_alive()
        may.set()
        draining.join()
        worker.join()
    assert told == [True]


def test_without_a_guard_nothing_may_be_held(tmp_path: Path) -> None:
    with pytest.raises(GuardError, match="does not answer"):
        GuardLine(tmp_path / "nobody")


def test_without_a_descriptor_for_the_guard_nothing_may_be_held(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the hold's trouble as any other of the guard, which under `degrade` costs this host's guests only."""
    guard.start()
    opened = Refusing(socket.socket, OSError(errno.EMFILE, "Too many open files"), 1)
    monkeypatch.setattr(
        client, "socket", SimpleNamespace(socket=opened, AF_UNIX=socket.AF_UNIX, SOCK_STREAM=socket.SOCK_STREAM)
    )
    with pytest.raises(GuardError, match="Too many open files"):
        GuardLine(guard.socket)
    with GuardLine(guard.socket) as line:
        line.ping()


def test_nonsense_is_answered_and_does_not_disturb_others(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line, guard.line() as other:
        guard.arm(other, 60)
        line._socket.sendall(b'{"verb": "rm -rf"}\n\x00\xff\n')
        assert b'"ok":false' in line._lines.readline()
        assert b'"ok":false' in line._lines.readline()
        assert other.disarm(CAPTURE)


@pytest.mark.parametrize("seconds", [0, -1, 701, float("nan")])
def test_a_lease_without_bounds_is_refused(guard: GuardInThread, seconds: float) -> None:
    guard.start()
    with guard.line() as line, pytest.raises(ValueError, match="seconds"):
        guard.arm(line, seconds)


def test_a_frozen_guest_that_libvirt_calls_shut_off_is_thawed_past_it(guard: GuardInThread, tmp_path: Path) -> None:
    """Its QEMU runs on, since the agent's socket is open; a first thaw that does nothing is followed by another."""
    path = tmp_path / "agent"
    agent = FakeAgent(path, lies=1)
    guard.start()
    guard.domain.handle.destroy()
    with guard.line() as line:
        line.arm(CAPTURE, [LeasedGuest(guest_uuid=guard.domain.uuid, hold=HoldKind.FREEZE, agent_socket=path)], 60)
    until(guard.retired)
    assert agent.status == "thawed"
    agent.end()


def test_a_guest_that_is_shut_off_and_whose_qemu_is_gone_needs_no_letting_go(
    guard: GuardInThread, tmp_path: Path
) -> None:
    guard.start()
    guard.domain.handle.destroy()
    gone = LeasedGuest(guest_uuid=guard.domain.uuid, hold=HoldKind.FREEZE_PAUSE, agent_socket=tmp_path / "gone")
    with guard.line() as line:
        line.arm(CAPTURE, [gone], 60)
    until(guard.retired)


def test_a_pause_of_a_guest_that_libvirt_has_lost_is_not_called_over(guard: GuardInThread, tmp_path: Path) -> None:
    path = tmp_path / "agent"
    agent = FakeAgent(path)
    guard.start()
    guard.domain.handle.destroy()
    with guard.line() as line:
        line.arm(
            CAPTURE, [LeasedGuest(guest_uuid=guard.domain.uuid, hold=HoldKind.FREEZE_PAUSE, agent_socket=path)], 60
        )
    until(lambda: agent.status == "thawed")
    assert guard.files.all() != []
    agent.end()  # its QEMU is gone
    until(guard.retired)


@pytest.mark.case("S4")
def test_a_suspend_that_takes_effect_after_the_guard_has_seen_the_guest_run_is_taken_back(guard: GuardInThread) -> None:
    """The worker died while its suspend waited in libvirtd, which carries it out all the same."""
    guard.start()
    with guard.line() as line:
        guard.arm(line, 60)
    until(lambda: guard.guard.ledger.kept[CAPTURE].life.all_run)
    guard.domain.pause()
    guard.forward(5.0)
    until(lambda: running(guard))
    assert guard.files.all() != []
    until(guard.retired)


@pytest.mark.case("S4")
def test_a_guard_that_was_restarted_before_the_hold_lets_go_of_what_is_held_after_its_first_look(
    guard: GuardInThread,
) -> None:
    guard.store(paused(guard.domain.uuid))
    guard.start()
    until(lambda: guard.guard.ledger.kept[CAPTURE].life.all_run)
    guard.forward(SETTLE_S + 5)  # the deadline of the lease is later
    guard.domain.pause()
    until(lambda: running(guard))
    assert guard.files.all() != []
    until(guard.retired)


def test_a_lease_from_before_the_host_was_restarted_is_retired_by_one_look(guard: GuardInThread) -> None:
    guard.store(paused(guard.domain.uuid), boot=NOBODY)
    guard.start()
    until(lambda: guard.files.all() == [])


def test_a_lease_of_several_guests_leaves_the_disk_with_the_last(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    may = threading.Event()
    real = Hypervisor.domain

    def knows_one(hypervisor: Hypervisor, guest_uuid: str) -> Domain:
        if guest_uuid == NOBODY and not may.is_set():
            raise RuntimeError("a failure that nobody has thought of")
        return real(hypervisor, guest_uuid)

    guard.start()
    monkeypatch.setattr(Hypervisor, "domain", knows_one)
    with guard.line() as line:
        guard.domain.pause()
        line.arm(CAPTURE, paused(guard.domain.uuid, NOBODY), 60)
    until(lambda: running(guard))
    until(lambda: guard.guard.ledger.kept[CAPTURE].life.guests == [NOBODY] or guard.retired())
    (left,) = guard.files.all()
    assert NOBODY in {one.guest_uuid for one in left.guests}
    may.set()
    until(guard.retired)


@pytest.mark.parametrize("how", ["the thaw is answered and not done", "the guest says so"])
def test_a_guest_that_is_not_seen_running_keeps_its_lease(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    honest = threading.Event()
    real = Domain.resume

    def resume(domain: Domain) -> None:
        if honest.is_set() or how == "the guest says so":
            real(domain)

    def verify(domain: Domain, kind: HoldKind, timeout_s: int) -> None:
        assert kind is HoldKind.PAUSE
        assert timeout_s > 0
        if how == "the guest says so" and not honest.is_set():
            raise holding.StillHeldError("it is still held")
        holding_verify(domain, kind, timeout_s)

    holding_verify = holding.verify_let_go
    monkeypatch.setattr(Domain, "resume", resume)
    monkeypatch.setattr(holding, "verify_let_go", verify)
    guard.start()
    with guard.line() as line:
        guard.domain.pause()
        guard.arm(line, 60)
    for _ in range(20):
        guard.forward(SETTLE_S)
        time.sleep(0.005)
    assert guard.files.all() != []
    honest.set()
    until(lambda: running(guard))
    until(guard.retired)


def test_guests_are_disarmed_one_by_one_and_the_rest_of_the_lease_stays(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        line.arm(CAPTURE, paused(guard.domain.uuid, NOBODY), 60)
        guard.domain.pause()
        assert line.disarm(CAPTURE, [guard.domain.uuid])
        (left,) = guard.files.all()
        assert [one.guest_uuid for one in left.guests] == [NOBODY]
    until(guard.retired)
    assert not running(guard)  # whoever has paused it, it is none of the lease's guests any more
    guard.domain.resume()


def test_a_guest_that_a_newer_lease_holds_is_left_to_that(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        guard.arm(line, 60)
    until(lambda: guard.guard.ledger.kept[CAPTURE].life.all_run)
    with guard.line() as line:
        line.arm(OTHER, paused(guard.domain.uuid), 600)
        guard.domain.pause()
        guard.forward(5.0)
        until(lambda: not guard.guard.ledger.kept[CAPTURE].life.all_run)  # put off
        assert not running(guard)
    until(lambda: running(guard))
    until(guard.retired)


def test_a_capture_has_one_lease(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line, guard.line() as other:
        guard.arm(line, 60)
        with pytest.raises(GuardError, match="a lease of this capture already"):
            guard.arm(other, 60)
        assert line.disarm(CAPTURE)


def test_a_lease_is_on_stable_storage_before_it_is_acknowledged(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes, then its name, then the name's directory, then the answer."""
    done: list[str] = []
    fsync, rename, sendall = os.fsync, Path.rename, socket.socket.sendall

    def spy_fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        fsync(descriptor)
        done.append("directory" if name == guard.leases else "file")

    def spy_rename(path: Path, target: Path) -> Path:
        assert json.loads(path.read_text())["capture_id"] == CAPTURE
        done.append("rename")
        return rename(path, target)

    def spy_sendall(one: socket.socket, data: bytes) -> None:
        if data.startswith(b'{"v":1,"ok"'):
            done.append("answer")
        sendall(one, data)

    guard.start()
    with guard.line() as line:
        monkeypatch.setattr(os, "fsync", spy_fsync)
        monkeypatch.setattr(Path, "rename", spy_rename)
        monkeypatch.setattr(socket.socket, "sendall", spy_sendall)
        guard.arm(line, 60)
        assert done == ["file", "rename", "directory", "answer"]
        assert line.disarm(CAPTURE)


def test_a_lease_that_cannot_be_stored_is_refused(guard: GuardInThread, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    guard.start()
    monkeypatch.setattr(LeaseFiles, "add", full)
    with guard.line() as line, pytest.raises(GuardError, match="cannot be stored: No space left"):
        guard.arm(line, 60)
    assert guard.guard.ledger.kept == {}


@pytest.mark.case("S5")
def test_a_lease_that_cannot_be_read_lets_its_guest_go_when_it_can_be(guard: GuardInThread) -> None:
    """Nothing in it says whom; the guard goes on reading it, and neither removes it nor takes it for nothing."""
    path = guard.leases / f"{CAPTURE}.json"
    path.write_bytes(b"")
    guard.domain.pause()
    guard.start()
    guard.forward(watch.READ_AGAIN_S + 1)
    assert path.exists()
    assert not running(guard)
    path.write_text(json.dumps({"v": 9, "held": [{"uuid": guard.domain.uuid, "hold": "pause"}]}))
    guard.forward(watch.READ_AGAIN_S + 1)
    until(lambda: running(guard))
    until(guard.retired)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of leases on disk, each time that they are read."""
    found: list[int] = []
    real = LeaseFiles.all

    def read(files: LeaseFiles, now: float) -> list[FoundLease]:
        leases = real(files, now)
        found.append(len(leases))
        return leases

    monkeypatch.setattr(LeaseFiles, "all", read)
    return found


def looked_at(guard: GuardInThread, capture_id: str) -> None:
    """Have the watching thread at work, without putting its clock ahead."""
    with guard.line() as line:
        line.arm(capture_id, paused(NOBODY), 0.01)
        until(lambda: guard.guard.ledger.kept[capture_id].life.all_run)
        line.disarm(capture_id)


def test_leases_are_read_from_disk_once(guard: GuardInThread, reads: list[int]) -> None:
    """Later the disk says less than the guard knows: of a lease that cannot be changed there, all its guests."""
    guard.start()
    for _ in range(3):
        guard.forward(watch.READ_AGAIN_S + 1)
        looked_at(guard, CAPTURE)
    assert len(reads) == 1


@pytest.mark.case("S5")
def test_a_lease_that_cannot_be_read_is_read_again_every_few_seconds_only(
    guard: GuardInThread, reads: list[int]
) -> None:
    (guard.leases / f"{OTHER}.json").write_bytes(b"")
    guard.start()
    for number in (1, 2, 3):
        looked_at(guard, CAPTURE)
        assert len(reads) == number
        guard.forward(watch.READ_AGAIN_S + 1)
        until(lambda number=number: len(reads) > number)  # type: ignore[misc]


@pytest.mark.case("S5")
def test_a_lease_that_cannot_be_read_is_told_once_and_read_again_until_it_can_be(
    guard: GuardInThread, reads: list[int]
) -> None:
    path = guard.leases / f"{CAPTURE}.json"
    path.write_bytes(b"")
    guard.files.add(STORED_WHOLE)
    with structlog.testing.capture_logs() as lines:
        guard.start()
        for number in (2, 3):
            guard.forward(watch.READ_AGAIN_S + 1)
            until(lambda number=number: len(reads) >= number)  # type: ignore[misc]
        assert set(guard.guard.ledger.unread) == {CAPTURE}
        path.write_text(json.dumps({"v": 9, "held": [{"uuid": guard.domain.uuid, "hold": "pause"}]}))
        guard.forward(watch.READ_AGAIN_S + 1)
        until(lambda: guard.guard.ledger.unread == {})
    told = [line for line in lines if line["event"] == "lease is not as this version writes it"]
    assert [line["capture"] for line in told] == [CAPTURE, CAPTURE]  # and that it is another version's, when it is
    assert told[0]["why"] != told[1]["why"]
    until(guard.retired)


@pytest.mark.case("S5")
def test_reading_again_leaves_the_leases_of_this_guard_as_they_are(guard: GuardInThread) -> None:
    """An armed lease that is taken up from disk would be let go of in the middle of its hold."""
    (guard.leases / f"{OTHER}.json").write_bytes(b"")
    guard.start()
    with guard.line() as line:
        guard.arm(line, 600)
        for _ in range(3):
            due_s = guard.now() + watch.READ_AGAIN_S + 1
            guard.forward(watch.READ_AGAIN_S + 1)
            until(lambda due_s=due_s: guard.now() >= due_s)  # type: ignore[misc]
            line.ping()
        time.sleep(0.05)
        assert line.disarm(CAPTURE)


@pytest.mark.case("S5")
def test_a_lease_of_an_earlier_guard_stays_on_disk_as_that_wrote_it_until_its_last_guest(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be of a newer version, which reads it again after a downgrade that was taken back."""
    monkeypatch.setattr(letting_go, "look", lambda *_: Look.NO_ANSWER)
    guard.store(paused(guard.domain.uuid, NOBODY))
    path = guard.leases / f"{CAPTURE}.json"
    text = path.read_text().replace('"v":1', '"v":2')
    path.write_text(text)
    guard.start()
    with guard.line() as line:
        assert not line.disarm(CAPTURE, [NOBODY])
        assert path.read_text() == text
        assert not line.disarm(CAPTURE, [guard.domain.uuid])
        assert not path.exists()


@pytest.mark.case("P4", "S4")
def test_a_lease_of_an_earlier_guard_of_this_version_names_a_guest_no_more_that_was_let_go(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside one whose agent never answers: what others do to the first, hours later, would be undone with its capture."""

    def one_answers(_: Hypervisor, __: GuestCalls, guest: FoundGuest) -> Look:
        return Look.NO_ANSWER if guest.guest_uuid == NOBODY else Look.RUNS

    monkeypatch.setattr(letting_go, "look", one_answers)
    guard.store(paused(guard.domain.uuid, NOBODY), deadline_s=0.0)
    stored = guard.files.all()
    guard.start()
    until(lambda: guard.guard.ledger.kept[CAPTURE].life.guests == [NOBODY] or guard.retired())
    until(lambda: [one.guest_uuid for found in guard.files.all() for one in found.guests] == [NOBODY])
    assert [(one.deadline_s, one.boot_id) for one in guard.files.all()] == [
        (one.deadline_s, one.boot_id) for one in stored
    ]


def test_a_guest_is_looked_at_at_its_deadline_and_not_a_pause_later(guard: GuardInThread) -> None:
    """On a clock that does not run: what would be done later is not done."""
    now = guard.now()
    guard.guard.ledger.clock = lambda: now + guard.now.ahead_s
    guard.start()
    with guard.line() as line:
        guard.arm(line, 60)
        guard.domain.pause()
        guard.forward(60.0)
        until(lambda: running(guard))
    guard.guard.ledger.clock = guard.now


def test_of_several_leases_the_first_deadline_counts(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        line.arm(OTHER, paused(NOBODY), 600)
        guard.domain.pause()
        guard.arm(line, 0.3)
        until(lambda: running(guard))
        assert line.disarm(OTHER)


def test_the_watching_thread_sleeps_until_the_deadline(guard: GuardInThread) -> None:
    guard.start()
    assert guard.guard.watch.pause_s(guard.now()) is None
    with guard.line() as line:
        guard.arm(line, 600)
        pause_s = guard.guard.watch.pause_s(guard.now())
        assert pause_s is not None
        assert 500 < pause_s <= 600
        line.disarm(CAPTURE)


@pytest.mark.case("S5")
def test_a_lease_that_cannot_be_read_is_read_again_though_nothing_else_happens(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "READ_AGAIN_S", 0.02)
    path = guard.leases / f"{CAPTURE}.json"
    path.write_bytes(b"")
    guard.domain.pause()
    threading.Thread(target=guard.guard.run, args=(guard.socket,), daemon=True).start()
    until(lambda: guard.guard.ledger.unread != {})
    whole = path.with_suffix(".new")
    whole.write_text(json.dumps({"v": 9, "held": [{"uuid": guard.domain.uuid, "hold": "pause"}]}))
    whole.rename(path)
    until(lambda: running(guard))
    until(guard.retired)


def test_a_guest_for_whose_look_there_is_no_thread_is_looked_at_later(guard: GuardInThread) -> None:
    """Calls that hang have them all. A guest that then counted as being looked at would stay held for ever."""
    start = Refusing(guard.guard.watch.calls.start, GuestHangsError("All threads are in use."), 3)
    guard.guard.watch.calls.start = start  # type: ignore[method-assign]
    guard.store(paused(guard.domain.uuid))
    guard.domain.pause()
    guard.start()
    until(lambda: running(guard))
    assert start.left == 0
    until(guard.retired)


def test_the_guard_makes_its_socket_for_its_own_user_whatever_was_there(guard: GuardInThread, tmp_path: Path) -> None:
    guard.socket = tmp_path / "run" / "guard.sock"
    mask = os.umask(0o022)
    try:
        guard.start()
        assert guard.socket.stat().st_mode & 0o777 == 0o600
        assert os.umask(0o022) == 0o022  # files that the guard makes later have their modes
        guard.guard, guard.socket = guard.another(), tmp_path / "run" / "left.sock"
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(guard.socket))
        assert guard.socket.is_socket()  # it is still there, and nobody answers at it
        guard.start()
    finally:
        os.umask(mask)


def test_a_socket_that_cannot_be_bound_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    def noted(*words: Any) -> socket.socket:
        made.append(socket.socket(*words))
        return made[-1]

    parts = SimpleNamespace(socket=noted, AF_UNIX=socket.AF_UNIX, SOCK_STREAM=socket.SOCK_STREAM)
    monkeypatch.setattr(server, "socket", parts)
    with pytest.raises(OSError, match="too long"):
        server._listen(tmp_path / ("a" * 120))
    assert [one.fileno() for one in made] == [-1]


def test_what_has_no_lease_is_answered_and_the_line_stays(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        assert not line.disarm(CAPTURE)
        assert line.stands()
        line.ping()


@pytest.mark.case("G9")
@pytest.mark.parametrize("how", ["dead", "hung"])
def test_a_frozen_guest_is_thawed_over_its_agent_s_socket_while_libvirt_does_not_answer(
    guard: GuardInThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    back = threading.Event()

    def away(_hypervisor: Hypervisor, _guest_uuid: str) -> Domain:
        if how == "dead":
            raise HypervisorUnreachableError("Connecting to libvirt failed.")
        back.wait()
        raise HypervisorUnreachableError("The connection was closed.")

    monkeypatch.setattr(letting_go, "LIBVIRT_S", 0.01)
    monkeypatch.setattr(Hypervisor, "domain", away)
    agent = FakeAgent(tmp_path / "agent")
    guard.start()
    leased = LeasedGuest(guest_uuid=guard.domain.uuid, hold=HoldKind.FREEZE, agent_socket=tmp_path / "agent")
    with guard.line() as line:
        line.arm(CAPTURE, [leased], 60)
    until(lambda: agent.status == "thawed")
    until(guard.retired)
    # a look, the call that hangs, and no more, however often it was tried: each in a thread that was ready
    assert [pool.threads for pool in (guard.guard.watch.calls, guard.guard.watch.asks)] == 2 * [watch.READY_THREADS]
    back.set()
    agent.end()


@pytest.mark.case("G9")
def test_a_pause_is_tried_on_while_libvirt_is_away_and_taken_back_when_it_is_back(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, back = Hypervisor.domain, threading.Event()

    def away(hypervisor: Hypervisor, guest_uuid: str) -> Domain:
        if not back.is_set():
            raise HypervisorUnreachableError("Connecting to libvirt failed.")
        return real(hypervisor, guest_uuid)

    guard.start()
    guard.domain.pause()
    monkeypatch.setattr(Hypervisor, "domain", away)
    with guard.line() as line:
        guard.arm(line, 60)
    for _ in range(10):
        guard.forward(SETTLE_S)
        time.sleep(0.005)
    assert guard.files.all() != []
    back.set()
    until(lambda: running(guard))
    until(guard.retired)


def test_a_guard_without_free_descriptors_goes_on(guard: GuardInThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """EMFILE is told by accept, and passes when descriptors are free again."""
    real, failed = socket.socket.accept, threading.Event()

    def fails(listener: socket.socket) -> Any:
        if not failed.is_set():
            failed.set()
            raise OSError(errno.EMFILE, "Too many open files")
        return real(listener)

    monkeypatch.setattr(server, "ACCEPT_PAUSE_S", 0.001)
    monkeypatch.setattr(socket.socket, "accept", fails)
    guard.start()
    assert failed.is_set()


class Refusing:
    """Lets a call fail some times, with this error, before it is made."""

    def __init__(self, call: Callable[..., Any], error: Exception, times: int) -> None:
        self._call, self._error, self.left = call, error, times

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.left:
            self.left -= 1
            raise self._error
        return self._call(*arguments, **named)


@pytest.fixture
def small_guard(guard: GuardInThread, monkeypatch: pytest.MonkeyPatch) -> GuardInThread:
    """A guard with two places for workers."""
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    guard.guard = guard.another()
    return guard


def test_a_worker_that_has_hung_up_leaves_its_place_to_the_next(small_guard: GuardInThread) -> None:
    small_guard.start()
    for _ in range(5):
        with small_guard.line() as line, small_guard.line() as other:
            line.ping()
            other.ping()


def test_connections_that_cannot_be_accepted_take_no_place_and_are_tried_after_a_pause(
    small_guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = Refusing(socket.socket.accept, OSError(errno.EMFILE, "Too many open files"), 5)
    monkeypatch.setattr(socket.socket, "accept", lambda listener: accept(listener))  # noqa: PLW0108  an instance binds nothing
    pauses: list[float] = []
    sleep = time.sleep

    def pause(seconds: float) -> None:
        if seconds == server.ACCEPT_PAUSE_S:
            pauses.append(seconds)
        else:
            sleep(seconds)

    monkeypatch.setattr(time, "sleep", pause)
    small_guard.start()
    assert len(pauses) == 5
    with small_guard.line() as line, small_guard.line() as other:
        line.ping()
        other.ping()


def test_a_worker_for_whom_there_is_no_thread_is_hung_up_on_and_takes_no_place(
    small_guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_guard.start()
    start = Refusing(threading.Thread.start, RuntimeError("can't start new thread"), 5)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: start(thread))  # noqa: PLW0108
    while start.left:
        with small_guard.line() as line, pytest.raises(GuardError, match="did not answer"):
            line.ping()
    with small_guard.line() as line, small_guard.line() as other:
        line.ping()
        other.ping()


def test_a_guard_is_at_work_until_nobody_watches_the_deadlines(guard: GuardInThread) -> None:
    assert guard.guard.at_work()  # it lets go of what it has found first
    guard.start()
    assert guard.guard.at_work()
    over = threading.Thread(target=lambda: None)
    over.start()
    over.join()
    guard.guard.watch.thread = over
    assert not guard.guard.at_work()


def test_a_line_tells_at_once_that_its_guard_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "guard.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with GuardLine(path) as line:
            connection, _ = listener.accept()
            assert line.stands()
            connection.close()
            assert not line.stands()
            assert not line.disarm(CAPTURE)  # nobody says that the lease stood
            with pytest.raises(GuardError, match="did not answer"):
                line.ping()


def test_a_guard_that_is_silent_lets_nobody_hold_and_nobody_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process that is suspended: it takes the connection, and neither answers nor hangs up."""
    monkeypatch.setattr(client, "ANSWER_S", 0.05)
    path = tmp_path / "guard.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with GuardLine(path) as line, pytest.raises(GuardError, match="did not answer"):
            line.arm(CAPTURE, paused(NOBODY), 60)
        with GuardLine(path) as line:
            assert not line.disarm(CAPTURE)


@pytest.mark.case("G9")
@pytest.mark.parametrize("hold", [HoldKind.PAUSE, HoldKind.FREEZE_PAUSE])
def test_a_paused_guest_is_resumed_over_qemu_s_monitor_while_libvirt_is_dead(
    guard: GuardInThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: HoldKind
) -> None:
    def dead(_hypervisor: Hypervisor, _guest_uuid: str) -> Domain:
        raise HypervisorUnreachableError("Connecting to libvirt failed.")

    monkeypatch.setattr(Hypervisor, "domain", dead)
    agent, monitor = FakeAgent(tmp_path / "agent"), FakeMonitor(tmp_path / "monitor")
    guard.start()
    leased = LeasedGuest(
        guest_uuid=guard.domain.uuid,
        hold=hold,
        agent_socket=tmp_path / "agent",
        monitor_socket=tmp_path / "monitor",
    )
    with guard.line() as line:
        line.arm(CAPTURE, [leased], 60)
    until(lambda: monitor.status == "running")
    until(guard.retired)
    assert (agent.status == "thawed") == hold.freezes
    agent.end()
    monitor.end()
