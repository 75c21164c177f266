"""A host that gives no thread for a while: what was refused is told, nothing counts as begun, and then all works again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import libvirt as libvirt_library
import pytest
import structlog

from freezeframe.bounded import answered
from freezeframe.contract.words import HoldKind
from freezeframe.repository.errors import RepositoryNotReadable
from tests.unit.workers import watched_host
from tests.unit.workers.hold_site import FREEZE, HOSTS, Site, proof_of, results
from tests.unit.workers.watched_host import ALPHA, BETA, CAPTURE, TARGETS, Libvirt, begin, held, look, transferred
from workers import host_calls, storage_looks, writers
from workers.bounded import MOST_THREADS, GuestCalls, NoThreadError, NotStartedError, ThreadsInUseError
from workers.commands import thaw
from workers.fitness import DiskUse
from workers.guard import letting_go, watch
from workers.guard.lease import Lease, LeasedGuest, LeaseFiles
from workers.guard.ledger import Ledger
from workers.guard.reading import FoundGuest
from workers.guard.table import Look
from workers.guard.watch import Watch
from workers.host import Host
from workers.hypervisor import connection
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.errors import HypervisorUnreachableError
from workers.hypervisor.fake_held_guest import held_fake
from workers.hypervisor.guest_events import GuestEvent
from workers.scratch.open_backups import given_up
from workers.scratch.watcher import JOURNALS_S, Watcher

LONG_S = 60.0
GUESTS = tuple(f"00000000-0000-4000-8000-{number:012d}" for number in range(50))


class Shortage:
    """While it lasts, no thread can be started."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.lasts = True
        self.refused = 0
        self._start = threading.Thread.start

    def start(self, thread: threading.Thread) -> None:
        if self.lasts:
            self.refused += 1
            raise self.error
        self._start(thread)


@pytest.fixture(params=[RuntimeError("can't start new thread"), MemoryError()], ids=["threads", "memory"])
def shortage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Shortage:
    made = Shortage(request.param)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: made.start(thread))  # noqa: PLW0108  an instance binds nothing
    return made


def test_a_thread_that_could_not_be_started_has_no_place(shortage: Shortage) -> None:
    calls = GuestCalls()
    for number in range(MOST_THREADS):
        with pytest.raises(NoThreadError, match="no further thread") as told:
            calls.start(f"guest {number % 50}", lambda: None)
        assert "threads-max" in told.value.hint
    assert calls.threads == 0
    shortage.lasts = False
    assert calls.answered("guest 1", "Asking", LONG_S, lambda: 42) == 42
    assert calls.threads == 1


def test_a_thread_that_idles_is_used_while_no_other_can_be_started(shortage: Shortage) -> None:
    calls = GuestCalls()
    shortage.lasts = False
    calls.answered("a", "Asking", LONG_S, lambda: 1)
    shortage.lasts = True
    assert calls.answered("b", "Asking", LONG_S, lambda: 2) == 2
    assert shortage.refused == 0


def test_an_interrupt_while_a_thread_is_started_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = GuestCalls()

    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calls.start("a", lambda: None)
    assert calls.threads == 0
    assert calls.answered("a", "Asking", LONG_S, lambda: 1) == 1


def test_a_repository_is_not_asked_and_afterwards_it_is(shortage: Shortage) -> None:
    with pytest.raises(RepositoryNotReadable, match=r"The store was not asked\. This host gives .* thread") as told:
        answered("The store", LONG_S, lambda: 1)
    assert told.value.transient
    assert "threads-max" in told.value.hint
    shortage.lasts = False
    assert answered("The store", LONG_S, lambda: 1) == 1


def test_libvirt_that_was_not_asked_is_not_said_to_hang(host: Host, shortage: Shortage) -> None:
    with pytest.raises(HypervisorUnreachableError, match=r"was not asked \(listing the guests\)") as told:
        host_calls.answered(host, "listing the guests", LONG_S, list)
    assert told.value.code != host_calls.LibvirtHangsError.code
    assert "libvirtd" not in told.value.hint
    shortage.lasts = False
    assert host_calls.answered(host, "listing the guests", LONG_S, list) == []


def test_libvirt_is_connected_to_when_its_events_have_a_thread(
    shortage: Shortage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the thread no keepalive is sent, and a libvirtd that hangs is waited for for ever."""
    ran = threading.Event()
    monkeypatch.setattr(connection, "_events_pid", [])
    monkeypatch.setattr(connection, "_loop", ran.set)
    monkeypatch.setattr(libvirt_library, "virEventRegisterDefaultImpl", lambda: None)
    for _ in range(2):
        with pytest.raises(HypervisorUnreachableError, match="no further thread"):
            Hypervisor("test:///default").lend()
    shortage.lasts = False
    assert Hypervisor("test:///default").domains()
    assert ran.wait(LONG_S)


# The guard.


class Clock:
    """A clock that a test puts ahead."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Watched:
    """The watching thread of a guard, turn by turn: fifty guests of a worker that was killed."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.ledger = Ledger(LeaseFiles(directory), lambda *_: False, self.clock)
        self.watch = Watch(self.ledger, Hypervisor("test:///default"))
        self.looked: set[str] = set()
        self.on_ask: Callable[[], None] = lambda: None
        self.all_looked = threading.Event()
        monkeypatch.setattr(letting_go, "look", self._look)
        guests = tuple(LeasedGuest(guest_uuid=uuid, hold=HoldKind.PAUSE) for uuid in GUESTS)
        assert self.ledger.arm(Lease(capture_id=CAPTURE, guests=guests, seconds=12), 1).ok
        self.ledger.hang_up(1)

    def _look(self, _hypervisor: Hypervisor, calls: GuestCalls, guest: FoundGuest) -> Look:
        try:
            calls.answered(guest.guest_uuid, "Letting go", LONG_S, self.on_ask)
        except NotStartedError:
            return Look.NO_ANSWER
        self.looked.add(guest.guest_uuid)
        if len(self.looked) == len(GUESTS):
            self.all_looked.set()
        return Look.RUNS

    def turns(self, seconds: float) -> None:
        until = self.clock.now_s + seconds
        while self.clock.now_s < until:
            self.watch.turn()
            self.clock.now_s += 0.5


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tmp_path, monkeypatch)


def test_a_guard_lets_all_go_when_there_are_threads_again(watched: Watched, shortage: Shortage) -> None:
    with structlog.testing.capture_logs() as lines:
        watched.turns(90.0)
    assert shortage.refused > MOST_THREADS
    assert any(line["event"] == "a look cannot begin" and "no further thread" in line["why"] for line in lines)
    assert watched.watch.at_work()  # another guard would have no more threads than this one, and no leases in memory
    assert not watched.looked
    shortage.lasts = False
    watched.turns(2.5)
    assert watched.all_looked.wait(LONG_S)


def test_a_guard_lets_all_go_although_the_host_gives_no_thread(watched: Watched, shortage: Shortage) -> None:
    """In turn, in the threads that it had ready; those of guests that hang are not ready any more."""
    hangs = threading.Event()
    shortage.lasts = False
    watched.watch.keep_ready()
    shortage.lasts = True
    for pool in (watched.watch.calls, watched.watch.asks):
        for number in range(watch.READY_THREADS - 1):
            pool.start(f"another guest {number}", hangs.wait)
    until = time.monotonic() + LONG_S
    while not watched.all_looked.is_set() and time.monotonic() < until:
        watched.turns(2.5)
    assert watched.looked == set(GUESTS)
    hangs.set()


def test_a_guard_has_its_threads_from_its_start(tmp_path: Path) -> None:
    begun = Watch(Ledger(LeaseFiles(tmp_path), lambda *_: False, Clock()), Hypervisor("test:///default"))
    begun.start()
    assert [pool.threads for pool in (begun.calls, begun.asks)] == 2 * [watch.READY_THREADS]
    assert begun.thread.is_alive()


def test_a_guard_for_which_there_are_too_few_threads_says_so_and_has_the_others(
    watched: Watched, shortage: Shortage
) -> None:
    with structlog.testing.capture_logs() as lines:
        watched.watch.keep_ready()
    [line] = lines
    assert (line["event"], line["ready"]) == ("the host gives too few threads", 0)
    shortage.lasts = False
    watched.watch.keep_ready()
    assert [pool.threads for pool in (watched.watch.calls, watched.watch.asks)] == 2 * [watch.READY_THREADS]


def test_no_more_threads_are_kept_ready_than_there_may_be() -> None:
    calls = GuestCalls(most_threads=3)
    assert calls.keep_ready(8) == 3
    assert calls.keep_ready(2) == 3
    assert calls.threads == 3


def test_a_guard_all_of_whose_threads_hang_says_that_it_is_not_at_work(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another guard has all of its threads again: each guest that answers gets its turn."""
    hangs = threading.Event()
    watched.watch.calls = GuestCalls(most_threads=1)
    hung = watched.watch.calls.start("another guest", hangs.wait)
    watched.turns(watch.STUCK_S - 1)
    assert watched.watch.at_work()
    watched.turns(2.0)
    assert not watched.watch.at_work()
    hangs.set()
    hung.result(LONG_S)
    watched.turns(2.5)  # each guest is tried again within two seconds
    assert watched.watch.at_work()


def test_a_guard_is_not_at_work_either_if_all_that_its_looks_have_asked_hangs(watched: Watched) -> None:
    """Looks begin, and end without an answer."""
    hangs = threading.Event()
    watched.watch.asks = GuestCalls(most_threads=1)
    hung = watched.watch.asks.start("another guest", hangs.wait)
    watched.turns(watch.STUCK_S - 1)
    assert watched.watch.at_work()
    watched.turns(2.0)
    assert not watched.watch.at_work()
    hangs.set()
    hung.result(LONG_S)
    until = time.monotonic() + LONG_S
    while not watched.watch.at_work() and time.monotonic() < until:
        watched.turns(2.5)
    assert watched.watch.at_work()


def test_a_pool_is_full_while_none_of_its_threads_can_take_a_call() -> None:
    calls, hangs = GuestCalls(most_threads=2), threading.Event()
    assert not calls.is_full()
    first = calls.start("a", hangs.wait)
    assert not calls.is_full()
    second = calls.start("b", hangs.wait)
    assert calls.is_full()
    hangs.set()
    first.result(LONG_S), second.result(LONG_S)
    assert calls.threads == 2
    assert not calls.is_full()


def test_a_guard_that_has_nobody_to_let_go_is_at_work_whatever_hung_before(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    watched.watch.calls = GuestCalls(most_threads=1)
    watched.watch.calls.start("another guest", hangs.wait)
    watched.turns(1.0)
    [kept] = watched.ledger.kept.values()
    kept.life.disarm(None)
    watched.ledger.settle(CAPTURE, kept)
    watched.turns(watch.STUCK_S)
    assert watched.watch.at_work()
    hangs.set()


# Workers.


@pytest.mark.usefixtures("room")
def test_backups_end_when_there_are_threads_again(host: Host, libvirt: Libvirt, shortage: Shortage) -> None:
    for uuid in (ALPHA, BETA):
        begin(host, libvirt, uuid)
        transferred(host, uuid, *TARGETS)
    held(host, ALPHA, BETA)
    watcher = Watcher(host)
    look(watcher, 0)
    assert (shortage.refused, libvirt.ended) == (2, [])  # both were tried
    shortage.lasts = False
    look(watcher, JOURNALS_S)
    assert sorted(libvirt.ended) == ["alpha", "beta"]


def test_a_backup_that_a_second_writer_spoils_is_given_up_and_ends_later(
    host: Host, libvirt: Libvirt, shortage: Shortage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = frozenset({"lun"})
    uses = {uuid: [DiskUse(uuid, watched_host.NAMES[uuid], "vda", shared, shared)] for uuid in (ALPHA, BETA)}
    begin(host, libvirt, ALPHA)
    held(host, ALPHA)
    monkeypatch.setattr(writers, "boot_id", lambda: "b")
    monkeypatch.setattr(storage_looks, "uses_of_guest", lambda _, uuid: uses[uuid])
    shortage.lasts = False
    host.calls.answered("warm", "Asking", LONG_S, lambda: 1)  # a thread that idles, for the questions
    shortage.lasts = True
    writers.WriterWatch(host).take([GuestEvent(BETA, time.monotonic_ns())])
    assert given_up(host.journal.of(CAPTURE), ALPHA) is not None  # its transfers fail, and the watcher ends it then
    assert shortage.refused == 1
    assert libvirt.ended == []


def test_with_one_thread_guests_are_asked_for_their_storage_in_turn(
    host: Host, shortage: Shortage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_looks, "uses_of_guest", lambda *_: [])
    shortage.lasts = False
    host.calls.answered("warm", "Asking", LONG_S, lambda: 1)
    shortage.lasts = True
    assert storage_looks.looks(host, [ALPHA, BETA], LONG_S) == dict.fromkeys((ALPHA, BETA), storage_looks.Look())


@pytest.mark.parametrize("purpose", ["ready", "hold", "let go", "look"])
def test_a_guest_for_which_there_is_no_thread_is_left_out_and_nobody_else(
    site: Site, monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    short_of = site.guests[HOSTS[0]][0]
    one = short_of.uuid
    start, refused = GuestCalls.start, []

    def short(calls: GuestCalls, key: str, call: Callable[[], Any]) -> Future[Any]:
        if key == f"{one} {purpose}":
            refused.append(key)
            raise NoThreadError.of(RuntimeError("can't start new thread"))
        return start(calls, key, call)

    monkeypatch.setattr(GuestCalls, "start", short)
    told = results(site.hold(hold=FREEZE, all_or_nothing=False))
    assert refused
    # the guard, whose lease it still has, lets go of it
    begun = {one.guest_uuid for host in proof_of(told).hosts for one in host.guests if one.begun_ns is not None}
    assert begun >= {guest.uuid for guests in site.guests.values() for guest in guests} - {one}
    assert site.held_ones() == ([short_of.label] if purpose == "let go" else [])


def test_thawing_all_goes_on_without_a_guest_that_has_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    guests = [held_fake(number).domain() for number in range(3)]
    start, shown = GuestCalls.start, []

    def short(calls: GuestCalls, key: str, call: Callable[[], Any]) -> Future[Any]:
        if key == guests[0].uuid:
            raise ThreadsInUseError("All 1024 threads for calls on guests are in use.")
        return start(calls, key, call)

    monkeypatch.setattr(GuestCalls, "start", short)
    monkeypatch.setattr(thaw, "_let_go", lambda _h, guest, _s: thaw.LetGo(guest.name, guest.uuid, "paused", 0))
    shown = thaw._let_go_all(Hypervisor("test:///default"), guests, 1)
    assert [one.problem is None for one in shown] == [False, True, True]
    assert "Nothing was asked of it" in (shown[0].problem or "")
