"""Measuring this host's monotonic clock against Redis's, with `TIME`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import redis

from freezeframe.barrier.gate import GateUnreachableError, pause_after
from freezeframe.contract.clock import ClockReading

if TYPE_CHECKING:
    from collections.abc import Callable

#: Samples of one reading, of which the one with the smallest round trip counts: the first may have had to connect, and any
#: may have met a busy machine.
SAMPLES = 8
#: Seconds after which a reading makes do with the samples that it has.
ENOUGH_S = 0.1


def read_clock(client: redis.Redis, now_ns: Callable[[], int] = time.monotonic_ns) -> ClockReading:
    """The best of a few samples, on the client's own warm connection. Raises redis errors.

    It takes `ENOUGH_S` and one exchange at most, never while a guest is held.
    """
    enough_ns = now_ns() + int(ENOUGH_S * 1e9)
    best = _sample(client, now_ns)
    for _ in range(SAMPLES - 1):
        if now_ns() >= enough_ns:
            break
        best = min(best, _sample(client, now_ns), key=lambda reading: reading.uncertainty_us)
    return best


def await_clock(client: redis.Redis, deadline: float) -> ClockReading:
    """A reading, tried until the deadline, of `time.monotonic()`. Raises GateUnreachableError if Redis never answered."""
    while True:
        try:
            return read_clock(client)
        except redis.RedisError as error:
            if time.monotonic() >= deadline:
                raise GateUnreachableError("the deadline passed before Redis told its time", error) from error
            pause_after(error)


def _sample(client: redis.Redis, now_ns: Callable[[], int]) -> ClockReading:
    """Half the round trip is rounded up, to a whole microsecond and one more: `TIME` cuts off what is less than one."""
    asked_ns = now_ns()
    seconds, micros = client.time()
    trip_ns = now_ns() - asked_ns
    return ClockReading(
        at_ns=asked_ns + trip_ns // 2,
        redis_us=seconds * 1_000_000 + micros,
        uncertainty_us=-(-trip_ns // 2000) + 1,
    )
