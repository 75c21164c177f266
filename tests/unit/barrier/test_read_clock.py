"""Redis's clock is read to within half a round trip; a Redis that is away is waited for before a hold, and never after."""

from __future__ import annotations

import time
from itertools import repeat
from typing import Any

import pytest
import redis

from freezeframe.barrier import GateUnreachableError, await_clock, clock, gate_client, read_clock
from freezeframe.barrier.clock import ENOUGH_S, SAMPLES
from freezeframe.settings import BusSettings


def away() -> redis.Redis:
    return gate_client(BusSettings.model_validate({"redis_url": "redis://127.0.0.1:1/0"}))


class Told(redis.Redis):
    """A Redis with a clock of its own."""

    def __init__(self, *told: Any) -> None:
        self.told = iter(told)

    def time(self, **_: Any) -> Any:
        """The next that it was given to say, or to raise."""
        answer = next(self.told)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __del__(self) -> None:
        """There is no connection."""


def test_the_true_offset_lies_within_the_uncertainty(bus_settings: BusSettings) -> None:
    """Redis runs on this machine: its clock is our own wall clock."""
    with gate_client(bus_settings) as client:
        reading = read_clock(client)
        first_ns, wall_ns, last_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
    middle_ns = (first_ns + last_ns) // 2
    wrong_ns = abs(wall_ns - middle_ns - reading.offset_ns)
    assert wrong_ns <= reading.uncertainty_us * 1000 + (last_ns - first_ns)


def test_the_sample_with_the_smallest_round_trip_counts() -> None:
    """Round trips of 9, 1 and 5 µs; the moments are those at which the host looks at its clock, in ns."""
    first, second, third = (0, 9000), (9000, 9000, 10_000), (10_000, 10_000, 15_000)
    now = iter([0, *first, *second, *third, 10**9])
    reading = read_clock(Told((1, 0), (1, 1), (1, 2)), lambda: next(now))
    assert (reading.at_ns, reading.redis_us, reading.uncertainty_us) == (9500, 1_000_001, 2)


def test_on_a_slow_network_one_sample_is_enough() -> None:
    now = iter([0, 0, 2 * 10**9, 2 * 10**9])
    reading = read_clock(Told((7, 5)), lambda: next(now))
    assert (reading.at_ns, reading.redis_us, reading.uncertainty_us) == (10**9, 7_000_005, 1_000_001)


def test_a_sample_that_took_all_the_time_there_is_stands_alone() -> None:
    enough_ns = int(ENOUGH_S * 1e9)
    now = iter([0, 0, enough_ns, enough_ns])
    assert read_clock(Told((7, 5)), lambda: next(now)).at_ns == enough_ns // 2


def test_a_redis_that_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not asked without a pause: a thousand hosts may wait for it."""
    paused: list[redis.RedisError] = []
    monkeypatch.setattr(clock, "pause_after", paused.append)
    troubles = [redis.ConnectionError("away"), redis.TimeoutError("slow")]
    assert await_clock(Told(*troubles, *repeat((1, 0), SAMPLES)), time.monotonic() + 60).redis_us == 1_000_000
    assert paused == troubles


def test_a_redis_that_stays_away_ends_at_the_deadline() -> None:
    with away() as client, pytest.raises(GateUnreachableError, match="told its time"):
        await_clock(client, time.monotonic())


def test_reading_once_does_not_wait_for_a_redis_that_is_away() -> None:
    with away() as client, pytest.raises(redis.ConnectionError):
        read_clock(client)
