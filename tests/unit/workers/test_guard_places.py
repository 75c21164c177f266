"""The guard's places are for holds: prepare asks about guests in trouble, and waits, without one of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from freezeframe.contract.words import HoldKind
from tests.unit.workers.guard_site import CAPTURE, OTHER, GuardInThread, paused, until
from workers.guard import letting_go, server
from workers.guard.client import GuardLine
from workers.guard.lease import LONGEST_INQUIRY_S, LeasedGuest
from workers.guard.table import Look

PLACES = 3


def in_trouble(count: int) -> list[LeasedGuest]:
    return [
        LeasedGuest(guest_uuid=f"00000000-0000-4000-8000-{number:012d}", hold=HoldKind.FREEZE)
        for number in range(count)
    ]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> list[Look]:
    """The answer of every look, which a test may change."""
    answer = [Look.NO_ANSWER]
    monkeypatch.setattr(letting_go, "look", lambda *_: answer[0])
    return answer


def started(guard: GuardInThread, monkeypatch: pytest.MonkeyPatch, *, troubled: int, inquirers: int) -> GuardInThread:
    """A guard of few places that lets go of guests which do not answer."""
    monkeypatch.setattr(server, "CONNECTIONS", PLACES)
    monkeypatch.setattr(server, "INQUIRERS", inquirers)
    guard.guard = guard.another()
    guard.store(in_trouble(troubled))
    guard.start()
    return guard


def _ask(line: GuardLine, guest: LeasedGuest, told: list[dict[str, str]]) -> None:
    told.append(line.inquire([guest], LONGEST_INQUIRY_S))


@contextmanager
def waiting(guard: GuardInThread, guests: list[LeasedGuest], told: list[dict[str, str]]) -> Iterator[None]:
    """Have a worker for each guest that waits at the guard, as prepare does; end them with the block."""
    with ExitStack() as stack:
        threads = []
        for guest in guests:
            line = stack.enter_context(guard.line())
            threads.append(threading.Thread(target=_ask, args=(line, guest, told), daemon=True))
            threads[-1].start()
        yield
        for thread in threads:
            thread.join()


def taken(guard: GuardInThread) -> int:
    """Return the places that workers have; one more is the next worker's already."""
    return PLACES - 1 - guard.guard._places._value


def asks(guard: GuardInThread, inquirers: int) -> int:
    return inquirers - guard.guard._inquirers._value


@pytest.mark.case("G9", "S4")
def test_holds_reach_the_guard_while_prepare_asks_about_many_guests_in_trouble(
    guard: GuardInThread, look: list[Look], monkeypatch: pytest.MonkeyPatch
) -> None:
    troubled = 4 * PLACES
    started(guard, monkeypatch, troubled=troubled, inquirers=troubled)
    told: list[dict[str, str]] = []
    with waiting(guard, in_trouble(troubled), told):
        until(lambda: (asks(guard, troubled), taken(guard)) == (troubled, 0))
        with guard.line() as line, guard.line() as other:  # other captures, of guests with which nothing is wrong
            other.ping()
            assert line.arm(OTHER, paused(guard.domain.uuid), 5.0) == {}
            assert line.disarm(OTHER)
        assert told == []
        look[0] = Look.RUNS
    assert told == [{}] * troubled
    until(lambda: asks(guard, troubled) == taken(guard) == 0)  # each that hangs up leaves its place


def test_an_inquiry_that_finds_no_place_to_wait_is_answered_at_once(
    guard: GuardInThread, look: list[Look], monkeypatch: pytest.MonkeyPatch
) -> None:
    started(guard, monkeypatch, troubled=2, inquirers=1)
    first, second = in_trouble(2)
    told: list[dict[str, str]] = []
    with waiting(guard, [first], told):
        until(lambda: asks(guard, 1) == 1)
        with guard.line() as line:
            assert line.inquire([second], LONGEST_INQUIRY_S) == {second.guest_uuid: CAPTURE}
            line.ping()
            until(lambda: taken(guard) == 1)
        assert told == []
        look[0] = Look.RUNS
    assert told == [{}]


def test_a_worker_takes_one_place_for_all_that_it_asks(
    guard: GuardInThread, look: list[Look], monkeypatch: pytest.MonkeyPatch
) -> None:
    started(guard, monkeypatch, troubled=1, inquirers=1)
    with guard.line() as line:
        for _ in range(3):
            assert line.inquire(in_trouble(1), 0) == {in_trouble(1)[0].guest_uuid: CAPTURE}
            line.ping()
            assert asks(guard, 1) == 1
    until(lambda: asks(guard, 1) == taken(guard) == 0)
    assert look == [Look.NO_ANSWER]
