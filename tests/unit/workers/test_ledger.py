"""The leases of a guard: whoever waits for a change of them is told, and what did not change is not written anew."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from freezeframe.contract.words import HoldKind
from tests.unit.workers.guard_site import CAPTURE, NOBODY, OTHER, paused, until
from workers.guard.lease import Answer, Disarm, Inquire, Lease, LeasedGuest, LeaseFiles, Refusal, StoredLease
from workers.guard.ledger import DueLook, Ledger
from workers.guard.table import SETTLE_S, Look

ANOTHER_GUEST = "00000000-0000-4000-8000-00000000000b"
LAST_GUEST = "00000000-0000-4000-8000-00000000000c"
HOLDER = 7


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Files(LeaseFiles):
    """Counts what is written; `before` happens first, and may fail."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.added: list[StoredLease] = []
        self.before: Callable[[], None] = lambda: None

    def add(self, lease: StoredLease) -> None:
        self.before()
        super().add(lease)
        self.added.append(lease)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(files: Files, clock: Clock) -> Ledger:
    return Ledger(files, lambda *_: False, clock)


def arm(ledger: Ledger, *guests: str, capture_id: str = CAPTURE) -> Answer:
    return ledger.arm(Lease(capture_id=capture_id, guests=paused(*guests), seconds=60), HOLDER)


class Waiter:
    """A thread that sleeps until it is told of a change after which `true` is so. It looks at nothing by itself."""

    def __init__(self, ledger: Ledger, true: Callable[[], bool]) -> None:
        self._ledger = ledger
        self._true = true
        self._sleeps = threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()
        assert self._sleeps.wait(60)
        with ledger.changed:  # it has given the lock back, so it sleeps
            pass

    def _wait(self) -> None:
        with self._ledger.changed:
            self._sleeps.set()
            self._ledger.changed.wait_for(self._true)

    def was_told(self) -> bool:
        self._thread.join(10)
        return not self._thread.is_alive()


def test_who_sleeps_until_the_next_deadline_is_told_of_a_new_lease(ledger: Ledger) -> None:
    waiter = Waiter(ledger, lambda: ledger.next_time() is not None)
    assert arm(ledger, NOBODY).ok
    assert waiter.was_told()


def test_who_waits_until_no_lease_is_left_is_told_of_one_that_could_not_be_stored(ledger: Ledger, files: Files) -> None:
    waiters: list[Waiter] = []

    def fails() -> None:
        waiters.append(Waiter(ledger, lambda: not ledger.kept))
        raise OSError(28, "No space left on device")

    files.before = fails
    assert arm(ledger, NOBODY).reason is Refusal.DISK
    assert waiters[0].was_told()


def test_who_waits_until_no_lease_is_left_is_told_of_the_last_look(ledger: Ledger, clock: Clock) -> None:
    """A guard that is to end waits so, and its supervisor for it."""
    arm(ledger, NOBODY)
    ledger.hang_up(HOLDER)
    for seconds in (0.0, SETTLE_S):
        clock.now_s += seconds
        [due] = ledger.due(clock())
        waiter = Waiter(ledger, lambda: not ledger.kept)
        ledger.looked(due, Look.RUNS, clock())
    assert not ledger.kept
    assert waiter.was_told()


def test_a_disarming_that_changes_nothing_writes_nothing(ledger: Ledger, files: Files) -> None:
    """Each write is waited for by a hold."""
    arm(ledger, NOBODY, ANOTHER_GUEST)
    assert ledger.disarm(Disarm(capture_id=CAPTURE, guests=())).ok
    assert len(files.added) == 1
    assert ledger.disarm(Disarm(capture_id=CAPTURE, guests=(NOBODY,))).ok
    assert [[one.guest_uuid for one in lease.guests] for lease in files.added] == [
        [NOBODY, ANOTHER_GUEST],
        [ANOTHER_GUEST],
    ]


def test_a_guest_that_is_held_is_not_one_that_is_still_let_go(ledger: Ledger) -> None:
    """Whose it is, its claim says."""
    arm(ledger, NOBODY)
    inquiry = Inquire(guests=paused(NOBODY, ANOTHER_GUEST), seconds=0)
    assert ledger.inquire(inquiry).refused == ()
    ledger.hang_up(HOLDER)
    assert [(one.guest_uuid, one.capture_id) for one in ledger.inquire(inquiry).refused] == [(NOBODY, CAPTURE)]


def test_where_the_disk_hangs_one_thread_of_a_lease_waits_for_it(ledger: Ledger, files: Files, clock: Clock) -> None:
    """Two guests are done with, and the third is looked at until it runs: each look would have left a thread behind."""
    guests = [NOBODY, ANOTHER_GUEST, LAST_GUEST]
    arm(ledger, *guests)
    ledger.hang_up(HOLDER)
    hangs, entered = threading.Event(), threading.Event()

    def stands_still() -> None:
        entered.set()
        assert hangs.wait(60)

    files.before = stands_still
    looks = {due.guest.guest_uuid: due for due in ledger.due(clock())}

    def look(guest: str, answer: Look) -> threading.Thread:
        clock.now_s += SETTLE_S
        thread = threading.Thread(target=ledger.looked, args=(looks[guest], answer, clock()), daemon=True)
        thread.start()
        return thread

    for guest in guests[:2]:
        look(guest, Look.RUNS).join(60)
    writes = look(NOBODY, Look.RUNS)
    assert entered.wait(60)
    waits = look(ANOTHER_GUEST, Look.RUNS)
    until(lambda: ledger.kept[CAPTURE].is_awaited)
    for _ in range(5):
        again = look(LAST_GUEST, Look.NO_ANSWER)
        again.join(10)
        assert not again.is_alive()
    hangs.set()
    for thread in (writes, waits):
        thread.join(60)
    assert [[one.guest_uuid for one in found.guests] for found in files.all()] == [[LAST_GUEST]]


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        (HoldKind.FREEZE, HoldKind.FREEZE, True),
        (HoldKind.FREEZE, HoldKind.PAUSE, False),
        (HoldKind.PAUSE, HoldKind.FREEZE, False),
        (HoldKind.PAUSE, HoldKind.FREEZE_PAUSE, True),
        (HoldKind.FREEZE_PAUSE, HoldKind.FREEZE, True),
    ],
)
def test_an_earlier_lease_stands_in_the_way_of_a_hold_that_its_look_would_undo(
    ledger: Ledger, clock: Clock, first: HoldKind, second: HoldKind, *, is_refused: bool
) -> None:
    def lease(capture_id: str, hold: HoldKind) -> Lease:
        guests = (LeasedGuest(guest_uuid=NOBODY, hold=hold), LeasedGuest(guest_uuid=ANOTHER_GUEST, hold=hold))
        return Lease(capture_id=capture_id, guests=guests[: 1 if capture_id == CAPTURE else 2], seconds=60)

    assert ledger.arm(lease(CAPTURE, first), HOLDER).ok
    ledger.hang_up(HOLDER)
    looks: list[DueLook] = ledger.due(clock())
    assert len(looks) == 1
    answer = ledger.arm(lease(OTHER, second), HOLDER + 1)
    assert answer.ok
    assert [one.guest_uuid for one in answer.refused] == ([NOBODY] if is_refused else [])
    assert ledger.kept[OTHER].life.guests == ([ANOTHER_GUEST] if is_refused else [NOBODY, ANOTHER_GUEST])
