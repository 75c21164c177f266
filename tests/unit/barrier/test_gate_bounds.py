"""How long a gate waits for each answer, on a connection and a clock of the test's own: with guests held it is a bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
import redis

from freezeframe.barrier import Gate, GateBrokenError, GateUnreachableError
from freezeframe.barrier.gate import EXCHANGE_S, RETRY_PAUSE_S

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
MEMBERS = ("a", "b")
NOW = 100.0


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


class Line:
    """A pool of one connection, which answers with what it was given; an answer may take a while by the test's clock."""

    def __init__(self, clock: Clock, answers: Sequence[Any], takes_s: float = 0.0) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.waits: list[float] = []
        self.taken = 0
        self._clock, self._answers, self._takes_s = clock, iter(answers), takes_s

    def get_connection(self) -> Line:
        assert self.taken == 0, "the connection was not given back"
        self.taken += 1
        return self

    def release(self, connection: Line) -> None:
        assert connection is self
        self.taken -= 1

    def send_command(self, *words: str | int) -> None:
        self.sent.append(words)

    def read_response(self, *, timeout: float) -> Any:
        assert len(self.sent) == len(self.waits) + 1
        self.waits.append(timeout)
        self._clock.now += self._takes_s
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Caller:
    """As much of a client as a gate uses."""

    def __init__(self, line: Line) -> None:
        self.connection_pool = line


def gate(line: Line) -> Gate:
    return Gate(cast("redis.Redis", Caller(line)), CAPTURE, 1, "held", "a", len(MEMBERS))


OPEN, RELEASED = ["open", "0", "", "0", "1", "4"], ["released", "5", "", "2", "2", "4"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("freezeframe.barrier.gate.time", found)
    return found


def test_both_answers_of_a_meeting_are_waited_for_until_the_deadline(clock: Clock) -> None:
    line = Line(clock, [OPEN, "released"])
    gate(line).meet(NOW + 7)
    assert line.waits == [7.0, 7.0]
    assert (line.sent[1][0], line.sent[1][-1]) == ("BLMOVE", "7.000")


def test_what_an_answer_took_is_not_waited_for_again(clock: Clock) -> None:
    line = Line(clock, [OPEN, "released"], takes_s=3.0)
    gate(line).meet(NOW + 7)
    assert line.waits == [7.0, 4.0]
    assert line.sent[1][-1] == "4.000"


def test_a_deadline_that_passes_in_between_is_no_wait_without_an_end(clock: Clock) -> None:
    """To Redis a blocking move of 0 s is one without an end, and of less an error."""
    line = Line(clock, [OPEN, None], takes_s=7.5)
    with pytest.raises(GateUnreachableError):
        gate(line).meet(NOW + 7)
    assert 0 < float(line.sent[1][-1]) <= 0.01
    assert 0 < line.waits[1] <= 0.01


def test_at_its_deadline_a_member_arrives_no_more(clock: Clock) -> None:
    """It would count as one whose guests are held."""
    line = Line(clock, [RELEASED])
    with pytest.raises(GateUnreachableError):
        gate(line).meet(NOW)
    assert line.sent == []


def test_giving_up_and_looking_take_one_exchange_of_a_bounded_time(clock: Clock) -> None:
    line = Line(clock, [["broken", "5", "a gave up", "1", "1", ""], ["broken", "5", "a gave up", "1", "1", "4"]])
    assert gate(line).break_up("a gave up").own_us is None
    assert gate(line).look().own_us == 4
    assert line.waits == [EXCHANGE_S, EXCHANGE_S]


def test_a_gate_that_is_decided_is_not_waited_for(clock: Clock) -> None:
    line = Line(clock, [RELEASED, ["broken", "5", "b gave up", "1", "1", ""]])
    gate(line).meet(NOW + 7)
    with pytest.raises(GateBrokenError):
        gate(line).meet(NOW + 7)
    assert [words[0] for words in line.sent] == ["EVALSHA", "EVALSHA"]


def test_a_connection_whose_answer_did_not_come_is_given_back(clock: Clock) -> None:
    line = Line(clock, [redis.TimeoutError("late"), RELEASED])
    gate(line).meet(NOW + 7)
    assert line.taken == 0


def test_a_late_host_is_not_told_as_trouble_with_redis(clock: Clock) -> None:
    line = Line(clock, [OPEN, None], takes_s=7.5)
    with pytest.raises(GateUnreachableError) as caught:
        gate(line).meet(NOW + 7)
    assert caught.value.fault is None
    assert "Redis" not in str(caught.value)


def test_trouble_with_redis_that_has_ended_is_not_told_as_the_reason(clock: Clock) -> None:
    """Redis was away for a moment; then it answered, and a host was late."""
    line = Line(clock, [redis.ConnectionError("away"), OPEN, None], takes_s=3.0)
    with pytest.raises(GateUnreachableError) as caught:
        gate(line).meet(NOW + 7)
    assert caught.value.fault is None
    assert "Redis" not in str(caught.value)


@pytest.mark.parametrize("takes_s", [3.5, 3.6])
def test_a_redis_that_took_the_arrival_is_not_blamed_when_the_deadline_ends_the_wait(
    clock: Clock, takes_s: float
) -> None:
    """Its connection's own time-out and the deadline are one moment: nobody has woken this member until then."""
    line = Line(clock, [OPEN, redis.TimeoutError("Timeout reading from socket")], takes_s)
    with pytest.raises(GateUnreachableError) as caught:
        gate(line).meet(NOW + 7)
    assert caught.value.fault is None
    assert "Redis" not in str(caught.value)


def test_a_redis_that_is_silent_before_the_deadline_is_named(clock: Clock) -> None:
    gone = redis.TimeoutError("Timeout reading from socket")
    line = Line(clock, [OPEN, gone], takes_s=3.495)  # the pause before the next try ends behind the deadline
    with pytest.raises(GateUnreachableError, match="Timeout reading from socket") as caught:
        gate(line).meet(NOW + 7)
    assert caught.value.fault is gone


def test_a_redis_that_refuses_is_not_asked_without_a_pause(clock: Clock) -> None:
    line = Line(clock, [redis.ConnectionError("refused")] * 4)
    with pytest.raises(GateUnreachableError, match="refused"):
        gate(line).meet(NOW + 3.5 * RETRY_PAUSE_S)
    assert len(line.sent) == 4


def test_an_arrival_that_waits_for_nobody_takes_one_exchange_of_a_bounded_time(clock: Clock) -> None:
    line = Line(clock, [OPEN])
    assert gate(line).arrive() == "open"
    assert line.waits == [EXCHANGE_S]


@pytest.mark.parametrize(("wait_s", "tries"), [(0.0, 1), (2.5 * RETRY_PAUSE_S, 4)])
def test_whether_a_member_has_arrived_is_asked_until_the_deadline_and_no_longer(
    clock: Clock, wait_s: float, tries: int
) -> None:
    """At the deadline Redis has not said: that is neither yes nor no."""
    errors = [redis.ConnectionError(f"away {number}") for number in range(10)]
    line = Line(clock, errors)
    with pytest.raises(GateUnreachableError, match="who has arrived") as caught:
        gate(line).has_arrived(NOW + wait_s)
    assert caught.value.fault is errors[tries - 1]
    assert len(line.sent) == tries


@pytest.mark.parametrize(("own_us", "arrived"), [("4", True), ("", False)])
def test_an_error_before_the_deadline_is_no_answer_to_whether_a_member_has_arrived(
    clock: Clock, own_us: str, *, arrived: bool
) -> None:
    line = Line(clock, [redis.ConnectionError("away"), [*OPEN[:-1], own_us]])
    assert gate(line).has_arrived(NOW + 7) is arrived
