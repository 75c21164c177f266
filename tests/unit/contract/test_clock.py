"""Redis's time of a host's step is within its uncertainty of the true one, whatever two sound clocks do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.contract.clock import DRIFT_PPM, ClockReading, drift_us, moved_us, redis_time

#: Redis's clock when the host's was at zero; both are far from zero on a real host.
APART_US = 1_800_000_000_000_000
S = 10**9


def reading(at_ns: int, *, offset_us: int = APART_US, uncertainty_us: int = 50) -> ClockReading:
    return ClockReading(at_ns=at_ns, redis_us=at_ns // 1000 + offset_us, uncertainty_us=uncertainty_us)


def true_us(at_ns: int, turn_ns: int, first_ppm: float, then_ppm: float) -> float:
    """Redis's clock, if it gains `first_ppm` on the host's until `turn_ns` and `then_ppm` from there on."""
    gained_ns = min(at_ns, turn_ns) * first_ppm / 1e6 + max(at_ns - turn_ns, 0) * then_ppm / 1e6
    return (at_ns + gained_ns) / 1000


drifts = st.floats(-DRIFT_PPM, DRIFT_PPM)
moments = st.integers(0, 700 * S)


@given(at=moments, ends=st.tuples(moments, moments), turn=moments, first=drifts, then=drifts, data=st.data())
def test_the_true_time_is_within_the_uncertainty(
    at: int, ends: tuple[int, int], turn: int, first: float, then: float, data: st.DataObject
) -> None:
    """Two readings or one, at any moments, each wrong by as much as it says; a clock that drifts one way, then the other."""
    readings = []
    for end_ns in sorted(ends):
        uncertainty_us = data.draw(st.integers(0, 100_000))
        wrong_us = data.draw(st.floats(-1, 1)) * uncertainty_us
        told_us = math.floor(true_us(end_ns, turn, first, then) + wrong_us)
        readings.append(ClockReading(at_ns=end_ns, redis_us=APART_US + told_us, uncertainty_us=uncertainty_us + 1))
    before, after = readings
    for second in (after, None):
        told = redis_time(at, before, second)
        assert abs(told.redis_us - APART_US - true_us(at, turn, first, then)) <= told.uncertainty_us + 2  # whole µs
    assert moved_us(before, after) == 0


@pytest.mark.parametrize("turn_ns", [1 * S, 5 * S, 9 * S])
def test_between_readings_the_uncertainty_is_the_furthest_that_clocks_can_stray(turn_ns: int) -> None:
    """Redis's clock gains as fast as it may until the turn and loses as fast from there on; both readings are exact."""
    before, after = (
        ClockReading(
            at_ns=at_ns,
            redis_us=APART_US + round(true_us(at_ns, turn_ns, DRIFT_PPM, -DRIFT_PPM)),
            uncertainty_us=0,
        )
        for at_ns in (0, 10 * S)
    )
    told = redis_time(turn_ns, before, after)
    strayed_us = abs(told.redis_us - APART_US - true_us(turn_ns, turn_ns, DRIFT_PPM, -DRIFT_PPM))
    assert strayed_us <= told.uncertainty_us <= strayed_us + 1


def test_at_a_reading_it_is_the_reading() -> None:
    before, after = reading(0), reading(10 * S, offset_us=APART_US + 700, uncertainty_us=80)
    assert redis_time(0, before, after) == (before.redis_us, 50)
    assert redis_time(10 * S, before, after) == (after.redis_us, 80)
    assert redis_time(5 * S, before, after).redis_us == APART_US + 5 * 10**6 + 350


def test_a_second_reading_makes_it_surer() -> None:
    before, after = reading(0), reading(10 * S)
    assert redis_time(9 * S, before, after).uncertainty_us < redis_time(9 * S, before, None).uncertainty_us
    assert redis_time(9 * S, before, None).uncertainty_us == 50 + 9 * DRIFT_PPM


@pytest.mark.parametrize(("step_us", "moved"), [(0, False), (2100, False), (-2100, False), (2101, True), (-2101, True)])
def test_readings_may_differ_by_what_they_are_uncertain_and_what_clocks_drift(step_us: int, *, moved: bool) -> None:
    """Two times 50 µs, and 200 ppm of ten seconds."""
    assert drift_us(10 * S) == 2000
    assert moved_us(reading(0), reading(10 * S, offset_us=APART_US + step_us)) == (abs(step_us) if moved else 0)


def test_if_a_clock_was_set_in_between_all_of_the_step_is_uncertain() -> None:
    before, after = reading(0), reading(10 * S, offset_us=APART_US + 5_000_000)
    assert 5_000_000 <= redis_time(1 * S, before, after).uncertainty_us <= 5_000_000 + 50 + 10 * DRIFT_PPM


def test_readings_out_of_order_are_no_line() -> None:
    """Nothing that is read from a manifest makes it fail."""
    assert redis_time(5, reading(10), reading(10)) == redis_time(5, reading(10), None)
    assert redis_time(5, reading(10), reading(0)) == redis_time(5, reading(10), None)


def test_a_clock_that_was_set_leaves_the_readings_themselves_as_sure_as_they_were() -> None:
    before, after = reading(0), reading(10 * S, offset_us=APART_US + 5_000_000, uncertainty_us=80)
    assert redis_time(0, before, after) == (before.redis_us, 50)
    assert redis_time(10 * S, before, after) == (after.redis_us, 80)


def test_of_two_readings_of_one_moment_the_first_counts() -> None:
    one, other = reading(10), reading(10, offset_us=APART_US + 700, uncertainty_us=80)
    assert redis_time(15, one, other) == redis_time(15, one, None)


def test_how_far_readings_may_differ_follows_from_the_time_between_them() -> None:
    """And not from how long the host has been up."""
    one, other = reading(1000 * S), reading(1010 * S, offset_us=APART_US + 2101)
    assert moved_us(one, other) == 2101
    assert moved_us(other, one) == 2101
