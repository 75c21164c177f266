"""Slow freezers first: what is remembered of each guest, and when each starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.pace import REMEMBERED, Paces, delay_s

GUEST = "00000000-0000-4000-8000-00000000000a"


def test_the_median_of_the_last_few_times_is_expected(tmp_path: Path) -> None:
    assert Paces(tmp_path).expected_ms(GUEST) is None
    for ms in (9000.0, 100.0, 110.0, 120.0, 130.0, 140.0):
        Paces(tmp_path).remember(GUEST, ms)
    assert Paces(tmp_path).expected_ms(GUEST) == 120.0
    assert (tmp_path / "paces" / GUEST).read_text().count(",") == REMEMBERED - 1


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
