"""A sample has every number with the same chance, and all of them if there are few."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.steps.sample import Sample

lengths = st.lists(st.integers(0, 40), max_size=30)


def runs_of(lengths: list[int]) -> list[range]:
    """Ranges that follow each other with a gap of one."""
    runs, start = [], 0
    for length in lengths:
        runs.append(range(start, start + length))
        start += length + 1
    return runs


@given(lengths, st.integers(1, 20), st.randoms(use_true_random=False))
def test_it_has_only_what_was_offered_each_once_and_as_many_as_there_may_be(
    lengths: list[int], most: int, chance: Random
) -> None:
    sample, runs = Sample(most, chance), runs_of(lengths)
    for run in runs:
        sample.offer(run)
    offered = {number for run in runs for number in run}
    assert set(sample.chosen) <= offered
    assert len(set(sample.chosen)) == len(sample.chosen) == min(most, len(offered))


@pytest.mark.parametrize("runs", [(range(3), range(3, 4), range(4, 30), range(30, 40)), (range(40),)])
def test_every_number_has_the_same_chance_wherever_it_is(runs: tuple[range, ...]) -> None:
    """4 of 40, 20,000 times: each is expected 2,000 times with a deviation of 42; eight of them is never seen by chance."""
    chance = Random(1)  # noqa: S311  the same each time
    counts = [0] * 40
    for _ in range(20_000):
        sample = Sample(4, chance)
        for run in runs:
            sample.offer(run)
        for number in sample.chosen:
            counts[number] += 1
    assert all(abs(count - 2000) < 8 * 42 for count in counts), counts


def test_a_range_of_a_billion_is_one_step() -> None:
    sample = Sample(16)
    sample.offer(range(1 << 30))
    sample.offer(range(1 << 30, 1 << 40))
    assert len(set(sample.chosen)) == 16
    assert max(sample.chosen) >= 1 << 30  # else all sixteen would be in the first thousandth


def test_by_default_chance_is_the_systems() -> None:
    one, other = Sample(16), Sample(16)
    for sample in (one, other):
        sample.offer(range(1 << 40))
    assert one.chosen != other.chosen
