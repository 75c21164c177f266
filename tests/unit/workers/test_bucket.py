"""Limits are kept, by the bytes that were let through on a logical clock; no test looks at another."""

from __future__ import annotations

import heapq
import multiprocessing
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from workers.bandwidth import BURST_S, Bandwidth, OwnBucket, SharedBucket, slowest
from workers.bucket import Rate, take

MIB = 1 << 20
rates = st.builds(Rate, st.floats(1e3, 1e9), st.integers(0, 10**8))
takes = st.lists(st.tuples(st.integers(1, 16 * MIB), st.floats(0, 100)), min_size=1, max_size=40)
TOLERANCE = 1 + 1e-6


@given(rates, takes)
def test_no_stretch_of_time_lets_more_through_than_rate_and_burst(rate: Rate, asked: list[tuple[int, float]]) -> None:
    """`asked`: how much, and how long after the last one. A take counts at the moment from which on it is let through."""
    now, full_at_s, let_through = 0.0, 0.0, []
    for count, pause_s in asked:
        now += pause_s
        full_at_s, not_before = take(full_at_s, count, now, rate)
        let_through.append((not_before, count))
    for first in range(len(let_through)):
        total = 0
        for at, count in let_through[first:]:
            total += count
            elapsed = at - let_through[first][0]
            # the first of a stretch may have waited for tokens that came in before it
            allowed = rate.bytes_s * elapsed + rate.burst_bytes + let_through[first][1]
            assert total <= allowed * TOLERANCE


@given(rates, takes)
def test_takers_are_let_through_in_the_order_in_which_they_came(rate: Rate, asked: list[tuple[int, float]]) -> None:
    now, full_at_s, last = 0.0, 0.0, 0.0
    for count, pause_s in asked:
        now += pause_s
        full_at_s, not_before = take(full_at_s, count, now, rate)
        assert not_before >= now
        assert not_before >= last * (1 - 1e-9)
        last = not_before


@given(rates, st.integers(1, 16 * MIB))
def test_a_pause_gives_a_burst_and_no_more(rate: Rate, count: int) -> None:
    _, not_before = take(0.0, count, 1e6, rate)
    assert (not_before == 1e6) == (count / rate.bytes_s <= rate.burst_s + 1e-9) or abs(count - rate.burst_bytes) < 1


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 64))
def test_threads_together_keep_to_a_limit(threads: int, chunk_mib: int, rate_mib: int) -> None:
    """So many threads, each asking again as soon as it was let through: 60 logical seconds."""
    now = 0.0
    bucket = OwnBucket(rate_mib * MIB, clock=lambda: now)
    turns, total = [(0.0, thread) for thread in range(threads)], 0
    while (turn := heapq.heappop(turns))[0] < 60.0:
        now, thread = turn
        wait_s = bucket.take(chunk_mib * MIB) - now
        if now + wait_s <= 60.0:
            total += chunk_mib * MIB
        heapq.heappush(turns, (now + wait_s + 1e-6, thread))
    allowed = rate_mib * MIB * (60.0 + BURST_S)
    assert total <= allowed * TOLERANCE
    assert total >= allowed - (threads + 1) * chunk_mib * MIB  # and nothing is given away


def test_processes_of_a_host_share_one_bucket(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        waits = [wait for some in pool.map(_take_ten, [tmp_path / "bandwidth"] * 3) for wait in some]
    # 30 MiB at 1 MiB/s, the clock stands still: the last of them waits for all others
    assert sorted(round(wait) for wait in waits) == list(range(1, 31))


def _take_ten(path: Path) -> list[float]:
    bucket = SharedBucket(path, MIB, clock=lambda: 1000.0)
    return [bucket.take(MIB) - 1000.0 + BURST_S for _ in range(10)]


def test_what_another_boot_has_left_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "bandwidth"
    SharedBucket(path, MIB, clock=lambda: 1e9).take(MIB)
    stored = bytearray(path.read_bytes())
    assert SharedBucket(path, MIB, clock=lambda: 5.0).take(1) > 1e8
    stored[0] ^= 1
    path.write_bytes(stored)
    assert SharedBucket(path, MIB, clock=lambda: 5.0).take(1) == 5.0
    path.write_bytes(b"cut")
    assert SharedBucket(path, MIB, clock=lambda: 5.0).take(1) == 5.0


def test_the_strictest_limit_counts(tmp_path: Path) -> None:
    assert slowest(None, None) is None
    assert slowest(None, 3, 2) == 2
    unlimited = Bandwidth.of(None, None, tmp_path / "bandwidth")
    assert unlimited.take(1 << 40) == 0
    assert not (tmp_path / "bandwidth").exists()
    both = Bandwidth.of(100 * MIB, MIB, tmp_path / "bandwidth")
    now = time.monotonic()
    assert both.take(10 * MIB) - now > 9
