"""Redis's clock as each host measures it, so that the steps of all hosts can be shown on one line.

    host     asked ──────────┬────────── answered      its monotonic clock, in ns
    Redis                   TIME                       its wall clock, in µs, read somewhere in between

The best guess for "in between" is the middle, and it is wrong by half the round trip at most: the *uncertainty*. Their
difference is the *offset*. A host measures once before any guest is held and once after all were let go.

This is for people, and for noticing a proof that contradicts itself (`doubts`). No label depends on it: what is proven
follows from causes and effects (`proof`), and Redis's clock is one that an administrator or NTP may set at any moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from freezeframe.contract.message import Shape

#: What two clocks that nobody sets may gain on each other, in millionths: two plain quartzes of ± 100 ppm each.
DRIFT_PPM = 200


class ClockReading(Shape):
    """When the host's monotonic clock said `at_ns`, Redis's wall clock said `redis_us`, give or take `uncertainty_us`."""

    at_ns: int
    redis_us: int
    uncertainty_us: Annotated[int, Field(ge=0)]

    @property
    def offset_ns(self) -> int:
        """What to add to the host's clock to get Redis's."""
        return self.redis_us * 1000 - self.at_ns


class RedisTime(NamedTuple):
    """A moment by Redis's clock, in µs since 1970, give or take `uncertainty_us`."""

    redis_us: int
    uncertainty_us: int


def redis_time(at_ns: int, before: ClockReading, after: ClockReading | None) -> RedisTime:
    """What Redis's clock said at a moment of the host's clock.

    Between two readings the offset is interpolated. Each reading's uncertainty then weighs as much as its reading; to that
    comes how far two clocks can stray from a straight line at `DRIFT_PPM`, which is nothing at the readings themselves and
    most in the middle. If the readings contradict each other a clock was set at a moment that nobody knows, so the whole
    difference is uncertain too. Without a second reading, or outside of both, the nearest one is all there is, and the
    uncertainty grows with the distance to it.
    """
    if after is None or at_ns <= before.at_ns or after.at_ns <= before.at_ns:
        return _by_one(at_ns, before)
    if at_ns >= after.at_ns:
        return _by_one(at_ns, after)
    since, until, whole = at_ns - before.at_ns, after.at_ns - at_ns, after.at_ns - before.at_ns
    offset_ns = (before.offset_ns * until + after.offset_ns * since) // whole
    measured_us = _up(before.uncertainty_us * until + after.uncertainty_us * since, whole)
    set_us = abs(after.offset_ns - before.offset_ns) // 1000 if moved_us(before, after) else 0
    return RedisTime((at_ns + offset_ns) // 1000, measured_us + drift_us(_up(2 * since * until, whole)) + set_us)


def moved_us(one: ClockReading, other: ClockReading) -> int:
    """By how much two readings of one host's clock differ beyond what they may, in µs; 0 if they agree."""
    apart_us = abs(other.offset_ns - one.offset_ns) // 1000
    explained_us = one.uncertainty_us + other.uncertainty_us + drift_us(abs(other.at_ns - one.at_ns))
    return apart_us if apart_us > explained_us else 0


def contradictions(readings: Sequence[ClockReading]) -> list[tuple[int, int]]:
    """Return pairs of places, of readings of one clock that do not agree (`moved_us`); none if all do.

    Each reading is compared with two earlier ones, of which one leaves it the least room above and one below:

        offset    ┬                    ceiling: the least that an earlier reading allows, rising with what clocks gain
                  │  ┬         ╱┄┄┄
                  ┴  │  ┬  ┄┄╱
                     ┴  │  ┄┄╲
                        ┴      ╲┄┄┄    floor: the greatest, falling likewise
                  ──────────────────▶ time

    So not all pairs are found, of which one wrong reading would make as many as there are others.
    """
    ceiling: int | None = None
    floor: int | None = None
    found: set[tuple[int, int]] = set()
    for place in sorted(range(len(readings)), key=lambda place: readings[place].at_ns):
        for earlier in (ceiling, floor):
            if earlier is not None and moved_us(readings[earlier], readings[place]):
                found.add((min(earlier, place), max(earlier, place)))
        if ceiling is None or _ceiling(readings[place]) < _ceiling(readings[ceiling]):
            ceiling = place
        if floor is None or _floor(readings[place]) > _floor(readings[floor]):
            floor = place
    return sorted(found)


def _ceiling(reading: ClockReading) -> int:
    """Return the highest offset that later readings may have, as if at time zero, in millionths of a ns."""
    return (reading.offset_ns + reading.uncertainty_us * 1000) * 10**6 - reading.at_ns * DRIFT_PPM


def _floor(reading: ClockReading) -> int:
    """Return the lowest offset that later readings may have, as if at time zero, in millionths of a ns."""
    return (reading.offset_ns - reading.uncertainty_us * 1000) * 10**6 + reading.at_ns * DRIFT_PPM


def drift_us(duration_ns: int) -> int:
    """How much two clocks may gain on each other in a while, rounded up."""
    return _up(duration_ns * DRIFT_PPM, 10**9)


def _by_one(at_ns: int, reading: ClockReading) -> RedisTime:
    redis_us = (at_ns + reading.offset_ns) // 1000
    return RedisTime(redis_us, reading.uncertainty_us + drift_us(abs(at_ns - reading.at_ns)))


def _up(amount: int, divisor: int) -> int:
    return -(-amount // divisor)
