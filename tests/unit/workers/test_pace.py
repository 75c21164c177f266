"""Slow freezers first: what is remembered of each guest, and when each starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.pace import (
    REMEMBERED,
    TOO_SLOW_KEPT_S,
    Paces,
    TooSlow,
    delay_s,
    freeze_timeout_s,
    is_in_vain,
    take_s,
)

GUEST = "00000000-0000-4000-8000-00000000000a"


def test_the_median_of_the_last_few_times_is_expected(tmp_path: Path) -> None:
    assert Paces(tmp_path).expected_ms(GUEST) is None
    for ms in (9000.0, 100.0, 110.0, 120.0, 130.0, 140.0):
        Paces(tmp_path).remember(GUEST, ms)
    assert Paces(tmp_path).expected_ms(GUEST) == 120.0
    assert len(json.loads((tmp_path / "paces" / GUEST).read_text())["v1"]) == REMEMBERED


def test_a_memory_that_cannot_be_read_is_no_memory(tmp_path: Path) -> None:
    paces = Paces(tmp_path)
    (tmp_path / "paces" / GUEST).write_text('{"not": "times"')
    assert paces.expected_ms(GUEST) is None
    paces.remember(GUEST, 5.0)
    assert paces.expected_ms(GUEST) == 5.0


@pytest.mark.parametrize(
    ("expected_ms", "slowest_ms", "delay"),
    [
        (2000.0, 2000.0, 0.0),  # the slowest starts first
        (500.0, 2000.0, 1.5),
        (500.0, 60_000.0, 2.5),  # a quarter of the time-out at most
        (None, 2000.0, 0.0),  # nothing is known of it: at once
        (500.0, None, 0.0),
        (3000.0, 2000.0, 0.0),
    ],
)
def test_a_faster_guest_starts_later_within_bounds(
    expected_ms: float | None, slowest_ms: float | None, delay: float
) -> None:
    assert delay_s(expected_ms, slowest_ms, 10.0) == delay


@pytest.mark.case("G3")
@given(
    hold_s=st.floats(0.1, 600.0), everyone=st.booleans(), delayed=st.floats(0.0, 1.0), begun_late_s=st.floats(0.0, 0.4)
)
@example(hold_s=10.0, everyone=False, delayed=0.0, begun_late_s=0.01)  # 7 s, of the 7.5 s until the others go on
@example(hold_s=10.0, everyone=True, delayed=1.0, begun_late_s=0.01)  # 7 s too
@example(hold_s=10.0, everyone=False, delayed=1.0, begun_late_s=0.01)
def test_no_freeze_that_ran_out_of_time_is_tried_again_in_a_hold_of_that_length(
    hold_s: float,
    everyone: bool,  # noqa: FBT001
    delayed: float,
    begun_late_s: float,
) -> None:
    """Whenever it began. The others would be held for as long, each time anew."""
    waited_s = take_s(hold_s, all_or_nothing=everyone)
    given_s = freeze_timeout_s(waited_s - delayed * delay_s(0.0, 1e9, waited_s) - begun_late_s)
    assert is_in_vain(TooSlow(1000.0 * given_s, 0.0), hold_s, all_or_nothing=everyone)


@pytest.mark.case("G3")
@pytest.mark.parametrize(
    ("hold_s", "everyone", "ms", "in_vain"),
    [
        (10.0, True, 7000.0, True),
        (10.0, True, 6999.0, False),
        (10.0, False, 5000.0, True),
        (10.0, False, 4999.0, False),
        (20.0, False, 7000.0, False),  # a longer hold
        (0.5, True, 1000.0, True),  # an agent has a second at least
        (0.5, True, 999.0, False),
    ],
)
def test_a_guest_is_tried_again_in_a_hold_that_gives_it_more_time_than_it_needed_in_vain(
    hold_s: float, ms: float, *, everyone: bool, in_vain: bool
) -> None:
    assert is_in_vain(TooSlow(ms, 0.0), hold_s, all_or_nothing=everyone) is in_vain


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.case("G3")
def test_a_freeze_that_did_not_end_is_remembered_as_at_least_as_long_and_starts_first(tmp_path: Path) -> None:
    clock = Clock()
    paces = Paces(tmp_path, clock)
    for ms in (100.0, 110.0, 120.0):
        paces.remember(GUEST, ms)
    paces.remember_too_slow(GUEST, 10_000.0)
    again = Paces(tmp_path, clock)
    slow = again.too_slow(GUEST)
    assert slow is not None
    assert (slow.ms, slow.at) == (10_000.0, 1000.0)
    assert again.expected_ms(GUEST) == 10_000.0


@pytest.mark.case("G3")
def test_a_freeze_that_did_not_end_is_forgotten_after_a_while_and_by_one_that_ends(tmp_path: Path) -> None:
    clock = Clock()
    paces = Paces(tmp_path, clock)
    paces.remember_too_slow(GUEST, 10_000.0)
    clock.now_s += TOO_SLOW_KEPT_S - 1
    assert paces.too_slow(GUEST) is not None
    clock.now_s += 2
    assert paces.too_slow(GUEST) is None
    paces.remember_too_slow(GUEST, 10_000.0)
    assert paces.too_slow(GUEST) is not None
    paces.remember(GUEST, 9_000.0)
    assert paces.too_slow(GUEST) is None
    assert paces.expected_ms(GUEST) == 9_000.0


def test_a_wall_clock_that_was_set_back_refuses_no_guest(tmp_path: Path) -> None:
    clock = Clock()
    paces = Paces(tmp_path, clock)
    paces.remember_too_slow(GUEST, 10_000.0)
    clock.now_s -= 500
    assert paces.too_slow(GUEST) is None
