"""Work on many guests: those that hang are told as such, and keep no other from its turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from concurrent.futures._base import DoneAndNotDoneFutures

import pytest

from workers.bounded import GuestCalls, GuestHangsError
from workers.steps import each_guest as module
from workers.steps.each_guest import SIDE_BY_SIDE, each_guest

GUESTS = [f"guest{number:03}" for number in range(60)]


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What a guest that hangs waits for; it comes when the test has ended."""
    event = threading.Event()
    yield event
    event.set()


def test_each_guest_has_its_answer_and_an_error_is_its_own() -> None:
    def work(guest: str) -> str:
        if guest == GUESTS[1]:
            raise ValueError(guest)
        return guest.upper()

    answers = each_guest(GuestCalls(), GUESTS, "trying", 30.0, work)
    assert isinstance(answers.pop(GUESTS[1]), ValueError)
    assert answers == {guest: guest.upper() for guest in GUESTS if guest != GUESTS[1]}


def test_more_guests_hang_than_are_worked_on_side_by_side_and_the_others_are_done(
    never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LATE_S", 0.05)
    hanging = set(GUESTS[: SIDE_BY_SIDE + 3])

    def work(guest: str) -> bool:
        return never.wait() if guest in hanging else True

    calls = GuestCalls()
    answers = each_guest(calls, GUESTS, "trying", 2.0, work)
    assert {guest for guest, answer in answers.items() if answer is True} == set(GUESTS) - hanging
    assert all(isinstance(answers[guest], GuestHangsError) for guest in hanging)
    assert calls.threads <= len(hanging) + SIDE_BY_SIDE


def test_a_guest_that_hangs_costs_one_thread_however_often_it_is_tried(never: threading.Event) -> None:
    calls = GuestCalls()
    for _ in range(5):
        [answer] = each_guest(calls, GUESTS[:1], "trying", 0.05, lambda _: never.wait()).values()
        assert isinstance(answer, GuestHangsError)
    assert calls.threads == 1


def test_when_no_thread_is_left_the_guests_behind_are_told_so(never: threading.Event) -> None:
    answers = each_guest(GuestCalls(most_threads=2), GUESTS[:4], "trying", 0.1, lambda _: never.wait())
    assert all(isinstance(answer, GuestHangsError) for answer in answers.values())


class Ended(BaseException):
    """No trouble of a guest's: the process is to end."""


def test_what_is_to_end_the_process_is_no_answer_of_a_guest() -> None:
    def work(_: str) -> None:
        raise Ended

    with pytest.raises(Ended):
        each_guest(GuestCalls(), GUESTS[:1], "trying", 30.0, work)


def test_no_more_guests_than_a_bound_are_worked_on_side_by_side_while_none_is_late(
    never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes libvirt and an agent; hundreds at once would keep both from everything else."""
    monkeypatch.setattr(module, "LATE_S", 600.0)  # less than a machine has run, and more than this test takes
    calls = GuestCalls()
    answers = each_guest(calls, GUESTS, "trying", 0.05, lambda _: never.wait())
    assert calls.threads == SIDE_BY_SIDE
    told = [str(answers[guest]) for guest in GUESTS]
    assert told[:SIDE_BY_SIDE] == ["Trying has not ended within 0.05 s."] * SIDE_BY_SIDE
    assert set(told[SIDE_BY_SIDE:]) == {"Trying did not get its turn."}


def test_a_guest_that_is_late_gives_its_place_to_the_next(
    never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is late, and not only when another ends or all patience is at an end."""
    monkeypatch.setattr(module, "LATE_S", 0.05)
    monkeypatch.setattr(module, "SIDE_BY_SIDE", 1)
    begun = threading.Event()

    def work(guest: str) -> bool:
        if guest == GUESTS[0]:
            return never.wait()
        begun.set()
        never.set()
        return True

    answers = each_guest(GuestCalls(), GUESTS[:2], "trying", 60.0, work)
    assert begun.is_set()
    assert answers == {GUESTS[0]: True, GUESTS[1]: True}


def test_a_guest_that_was_given_up_is_not_worked_on_again_before_its_call_returns(never: threading.Event) -> None:
    calls, done = GuestCalls(), threading.Event()

    def work(_: str) -> None:
        never.wait()
        done.set()

    each_guest(calls, GUESTS[:1], "trying", 0.05, work)
    asked: list[str] = []
    [answer] = each_guest(calls, GUESTS[:1], "trying", 30.0, asked.append).values()
    assert isinstance(answer, GuestHangsError)
    assert asked == []
    never.set()
    assert done.wait(30)
    while calls.is_hanging(f"{GUESTS[0]}, trying"):
        time.sleep(0.001)
    assert each_guest(calls, GUESTS[:1], "trying", 30.0, asked.append) == {GUESTS[0]: None}
    assert asked == GUESTS[:1]


def test_a_caller_that_waits_for_guests_sleeps_until_one_ends_or_is_late(
    never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor that looks without a pause is missing to the guests that are at work."""
    waits: list[float] = []

    def noted(futures: Iterable[Future[object]], timeout: float, return_when: str) -> DoneAndNotDoneFutures[object]:
        waits.append(timeout)
        return wait(futures, timeout, return_when)

    monkeypatch.setattr(module, "wait", noted)
    monkeypatch.setattr(module, "LATE_S", 0.1)
    monkeypatch.setattr(module, "SIDE_BY_SIDE", 1)
    each_guest(GuestCalls(), GUESTS[:4], "trying", 0.8, lambda _: never.wait())
    assert len(waits) <= 2 * 4  # one for each guest, and what rounding may cost; without a pause thousands
