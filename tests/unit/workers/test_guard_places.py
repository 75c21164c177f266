"""The guard's places are for holds: prepare asks about guests in trouble, and waits, without one of them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from freezeframe.contract.words import HoldKind
from tests.unit.workers.guard_site import CAPTURE, OTHER, GuardInThread, paused, until
from workers.guard import client, letting_go, server
from workers.guard.client import GuardError, GuardLine
from workers.guard.lease import LONGEST_INQUIRY_S, LeasedGuest
from workers.guard.server import Place
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


def test_a_worker_that_has_the_last_place_to_wait_keeps_it() -> None:
    """For its next question; it would be answered at once."""
    holds, inquirers = threading.BoundedSemaphore(1), threading.BoundedSemaphore(1)
    assert holds.acquire(blocking=False)
    place = Place(holds)
    assert [place.move(inquirers) for _ in range(3)] == [True] * 3
    assert holds.acquire(blocking=False)
    place.leave()
    assert inquirers.acquire(blocking=False)


def test_a_worker_waits_for_a_place_in_the_guards_queue(tmp_path: Path) -> None:
    """More workers at once than the guard has accepted: the kernel refuses them, where they should wait."""
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        listener.bind(str(tmp_path / "guard"))
        listener.listen(0)
        stack.enter_context(GuardLine(tmp_path / "guard"))  # and the queue is full
        tries = threading.Event()
        waits = pool.submit(lambda: stack.enter_context(_line_that_tries(tmp_path / "guard", tries)))
        assert tries.wait(60)
        for _ in range(2):
            stack.enter_context(listener.accept()[0])
        assert isinstance(waits.result(60), GuardLine)


def _line_that_tries(path: Path, tries: threading.Event) -> GuardLine:
    def refused(seconds: float) -> None:
        tries.set()
        time.sleep(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "time", SimpleNamespace(monotonic=time.monotonic, sleep=refused))
        return GuardLine(path)


def test_a_queue_that_stays_full_is_told_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "guard"))
        listener.listen(0)
        with GuardLine(tmp_path / "guard"), pytest.raises(GuardError, match="Resource temporarily unavailable"):
            GuardLine(tmp_path / "guard")
