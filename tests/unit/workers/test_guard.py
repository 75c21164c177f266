"""The thaw guard, with libvirt's own test driver: guests are let go when the deadline passes, the worker dies or it starts.

Pausing is what the test driver can do; freezing is tried on real guests in tests/lab.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from freezeframe.contract.words import HoldKind
from workers.guard import server
from workers.guard.client import GuardError, GuardLine
from workers.guard.fake_agent import FakeAgent
from workers.guard.lease import Lease, LeasedGuest, LeaseFiles
from workers.guard.server import Guard
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
OTHER = "01KBBBBBBBBBBBBBBBBBBBBBBB"
NOBODY = "00000000-0000-4000-8000-00000000000a"


def paused(guest_uuid: str) -> tuple[LeasedGuest, ...]:
    return (LeasedGuest(guest_uuid=guest_uuid, hold=HoldKind.PAUSE),)


class Clock:
    """The guard's clock, which can be put ahead."""

    ahead_s = 0.0
    sleep = staticmethod(time.sleep)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


class GuardInThread:
    """A guard on a socket of its own, with its files."""

    def __init__(self, directory: Path) -> None:
        self.files = LeaseFiles(directory)
        self.hypervisor = Hypervisor("test:///default")
        self.domain: Domain = self.hypervisor.domains()[0]
        self.socket = directory / "guard.sock"
        self._guard = Guard(self.files, self.hypervisor)

    def start(self) -> None:
        threading.Thread(target=self._guard.run, args=(self.socket,), daemon=True).start()
        until(self._answers)

    def _answers(self) -> bool:
        try:
            with self.line() as line:
                line.ping()
        except GuardError:
            return False
        return True

    def line(self) -> GuardLine:
        return GuardLine(self.socket)

    def drain(self) -> threading.Thread:
        """Told to end; the thread ends when the guard would. Returns once it takes no new leases."""
        thread = threading.Thread(target=self._guard.drain, daemon=True)
        thread.start()
        until(lambda: not self._answers())
        return thread

    def arm(self, line: GuardLine, seconds: float) -> None:
        line.arm(CAPTURE, paused(self.domain.uuid), seconds)


def until(true: Callable[[], bool]) -> None:
    """Wait for something that must come; pytest's own time-out is the bound."""
    while not true():
        time.sleep(0.005)


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[GuardInThread]:
    gc.collect()  # a hold that failed is in a ring with its traceback, and libvirt's test driver lives as long
    one = GuardInThread(tmp_path)
    yield one
    for thread in threading.enumerate():
        if thread.name in {one.domain.uuid, NOBODY}:  # the guard's threads are named after the guest they let go of
            thread.join()
    one.hypervisor.close()  # the guard serves for ever, and with it libvirt's test driver would remember its guests


def running(guard: GuardInThread) -> bool:
    return guard.domain.state() == "running"


def test_a_lease_is_on_disk_when_it_is_acknowledged_and_gone_when_disarmed(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        guard.arm(line, 60)
        assert [lease.guests for lease in guard.files.all()] == [paused(guard.domain.uuid)]
        assert line.disarm(CAPTURE)
        assert guard.files.all() == []


def test_a_guest_is_let_go_when_the_deadline_passes_and_the_worker_learns_of_it(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        guard.domain.pause()
        guard.arm(line, 0.2)
        until(lambda: running(guard))
        until(lambda: guard.files.all() == [])
        assert not line.disarm(CAPTURE)


def test_a_guest_is_let_go_when_the_worker_dies(guard: GuardInThread) -> None:
    guard.start()
    line = guard.line()
    guard.arm(line, 60)
    guard.domain.pause()
    line.__exit__(None, None, None)
    until(lambda: running(guard))
    until(lambda: guard.files.all() == [])


def test_a_guest_of_a_lease_found_at_start_is_let_go(guard: GuardInThread) -> None:
    guard.files.add(Lease(capture_id=CAPTURE, guests=paused(guard.domain.uuid), seconds=60))
    guard.domain.pause()
    guard.start()
    until(lambda: running(guard))
    until(lambda: guard.files.all() == [])


def test_a_disarmed_lease_touches_nobody(guard: GuardInThread, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(server, "time", clock)
    guard.start()
    with guard.line() as line:
        guard.arm(line, 60)
        assert line.disarm(CAPTURE)
        guard.domain.pause()  # by somebody else, for reasons of their own
        clock.ahead_s = 61
        line.arm(OTHER, paused(NOBODY), 0.1)
        until(lambda: guard.files.all() == [])  # the guard has looked at deadlines since
    assert not running(guard)
    guard.domain.resume()  # the test driver's guest is the same one in every test


def test_a_guest_that_is_gone_needs_no_letting_go(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        line.arm(CAPTURE, paused(NOBODY), 0.1)
        until(lambda: guard.files.all() == [])


def test_letting_go_is_tried_until_it_succeeds(guard: GuardInThread, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = Domain.resume, []

    def fails_twice(domain: Domain) -> None:
        tries.append(domain)
        if len(tries) <= 2:
            raise libvirt.libvirtError("libvirt is away")
        real(domain)

    guard.start()
    with guard.line() as line:
        guard.domain.pause()
        monkeypatch.setattr(Domain, "resume", fails_twice)
        guard.arm(line, 0.1)
        until(lambda: running(guard))
    assert len(tries) == 3


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
        guard.drain().join()
        assert running(guard)
        assert guard.files.all() == []


def test_a_guard_that_is_stopping_lets_go_when_the_worker_dies(guard: GuardInThread) -> None:
    guard.start()
    with guard.line() as line:
        guard.arm(line, 60)
        guard.domain.pause()
        draining = guard.drain()
    draining.join()
    assert running(guard)


def test_a_guard_that_is_stopping_first_lets_go_of_what_an_earlier_one_left(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, may = Domain.resume, threading.Event()
    monkeypatch.setattr(Domain, "resume", lambda domain: may.wait() and real(domain))
    guard.files.add(Lease(capture_id=CAPTURE, guests=paused(guard.domain.uuid), seconds=60))
    guard.domain.pause()
    guard.start()
    draining = guard.drain()
    draining.join(0.2)
    assert draining.is_alive()
    may.set()
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
    until(lambda: guard.files.all() == [])
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
    until(lambda: guard.files.all() == [])


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
    until(lambda: guard.files.all() == [])
