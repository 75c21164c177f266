"""Calls on guests are bounded from outside: one that hangs costs one thread, and no other guest's call waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from workers import bounded
from workers.bounded import GuestCalls, GuestHangsError

LONG_S = 60.0
GUESTS = 200


class Hanging:
    """A call that waits until the test lets it go."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = threading.Event()
        self.may_end = threading.Event()

    def __call__(self) -> str:
        self.calls += 1
        self.called.set()
        self.may_end.wait()
        return "late"


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    one = Hanging()
    yield one
    one.may_end.set()


def test_an_answer_is_returned_and_an_error_is_raised() -> None:
    calls = GuestCalls()
    assert calls.answered("a", "Asking", LONG_S, lambda: 5) == 5
    for error in (ValueError("its own"), TimeoutError("its own")):

        def fail(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error), match="its own"):
            calls.answered("a", "Asking", LONG_S, fail)


@pytest.mark.case("G4")
def test_a_call_that_hangs_is_given_up_and_named_and_other_guests_are_answered(hanging: Hanging) -> None:
    calls = GuestCalls()
    with pytest.raises(GuestHangsError, match="Pausing guest a has not ended"):
        calls.answered("a", "Pausing guest a", 0.01, hanging)
    assert calls.is_hanging("a")
    assert not calls.is_hanging("b")
    assert calls.answered("b", "Pausing guest b", LONG_S, lambda: "paused") == "paused"


@pytest.mark.case("G4")
def test_a_guest_that_hangs_costs_one_thread_however_often_it_is_called(hanging: Hanging) -> None:
    calls = GuestCalls()
    with pytest.raises(GuestHangsError):
        calls.answered("a", "Pausing", 0.01, hanging)
    for _ in range(20):
        with pytest.raises(GuestHangsError, match="An earlier call on guest a has not returned"):
            calls.answered("a", "Pausing", LONG_S, hanging)
    assert hanging.called.wait(LONG_S)
    assert hanging.calls == 1
    assert calls.threads == 1


def test_a_guest_whose_call_has_returned_at_last_is_called_again(hanging: Hanging) -> None:
    calls = GuestCalls()
    future = calls.start("a", hanging)
    calls.give_up("a", future)
    hanging.may_end.set()
    assert future.result(LONG_S) == "late"
    assert not calls.is_hanging("a")
    assert calls.answered("a", "Asking", LONG_S, lambda: "answer") == "answer"


def test_giving_up_a_call_that_has_just_returned_refuses_nothing() -> None:
    calls = GuestCalls()
    future = calls.start("a", lambda: 1)
    future.result(LONG_S)
    calls.give_up("a", future)
    assert not calls.is_hanging("a")


def test_threads_are_used_again_and_bounded(hanging: Hanging) -> None:
    calls = GuestCalls(most_threads=3)
    for _ in range(10):
        calls.answered("a", "Asking", LONG_S, lambda: 1)
    assert calls.threads == 1
    for key in "abc":
        calls.start(key, hanging)
    with pytest.raises(GuestHangsError, match="All 3 threads"):
        calls.start("d", hanging)
    assert calls.threads == 3


def test_two_hundred_guests_at_once_have_a_thread_each_and_few_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "IDLE_THREADS", 8)
    calls = GuestCalls()
    for _ in range(2):
        together = threading.Barrier(GUESTS)
        futures = [calls.start(str(number), together.wait) for number in range(GUESTS)]
        assert sorted(future.result(LONG_S) for future in futures) == list(range(GUESTS))
        assert calls.threads == 8


def test_an_idle_thread_keeps_nothing_alive_that_a_call_has_returned() -> None:
    class Connection:
        ended = threading.Event()

        def __del__(self) -> None:
            self.ended.set()

    assert isinstance(GuestCalls().answered("a", "Connecting", LONG_S, Connection), Connection)
    assert Connection.ended.wait(LONG_S)
