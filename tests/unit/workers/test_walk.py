"""The walk over a disk: every slot once, in stretches, by threads that are far from each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.export import ChunkNeed, Extent, chunk_needs
from workers.steps.walk import Walk, stretches

MIB = 1 << 20


@given(st.integers(0, 5000), st.sampled_from([4 << 10, 256 << 10, MIB, 16 * MIB]))
def test_stretches_are_the_disk(slots: int, chunk_bytes: int) -> None:
    found = stretches(slots, chunk_bytes)
    assert sorted(slot for stretch in found for slot in stretch) == list(range(slots))
    lengths = {len(stretch) for stretch in found}
    assert max(lengths) - min(lengths) <= 1
    assert len(found) == 1 or (min(lengths) + 1) * chunk_bytes >= 64 * MIB


@pytest.mark.parametrize("count", [4, 8, 16, 32, 64])
def test_stretches_that_follow_each_other_are_far_apart(count: int) -> None:
    starts = [stretch.start for stretch in stretches(count * 64, MIB)]
    assert len(starts) == count
    assert min(abs(one - other) for one, other in pairwise(starts)) >= count * 64 // 4


def test_a_disk_however_large_is_cut_into_no_more_stretches_than_mix() -> None:
    assert len(stretches(1 << 24, MIB)) == 64


def test_one_thread_reads_each_stretch_in_order() -> None:
    walk = Walk(1000, MIB, iter)
    assert list(iter(walk.next, None)) == [slot for stretch in stretches(1000, MIB) for slot in stretch]
    assert walk.next() is None


@pytest.mark.parametrize("threads", [1, 2, 5, 80])
def test_threads_get_every_slot_once_and_never_use_an_iterator_at_once(threads: int) -> None:
    busy = threading.Lock()

    def slots_of(stretch: range) -> Iterator[int]:
        for slot in stretch:
            assert busy.acquire(blocking=False)
            time.sleep(0)
            busy.release()
            if slot % 3:  # others need not be read
                yield slot

    walk = Walk(3000, MIB, slots_of)
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda _: list(iter(walk.next, None)), range(threads)))
    assert sorted(slot for one in found for slot in one) == [slot for slot in range(3000) if slot % 3]


def test_two_threads_are_in_two_stretches_and_at_the_end_in_one() -> None:
    walk = Walk(640, MIB, iter)
    with ThreadPoolExecutor(1) as other:
        first = [walk.next(), other.submit(walk.next).result()]
        assert first == [stretches(640, MIB)[0].start, stretches(640, MIB)[1].start]
        mine = list(iter(walk.next, None))  # all but the one that the other had: with its own stretch, too
        assert other.submit(walk.next).result() is None
    assert sorted([*mine, *(slot for slot in first if slot is not None)]) == list(range(640))


def test_a_thread_that_helps_passes_over_a_stretch_that_is_at_its_end() -> None:
    """The thread that is in it has its last chunk in hand; another stretch still needs help."""
    first, second = stretches(128, MIB)
    walk = Walk(128, MIB, lambda stretch: iter(stretch[:1] if stretch == first else stretch))
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        assert one.submit(walk.next).result() == first.start
        assert two.submit(walk.next).result() == second.start
        assert list(iter(walk.next, None)) == list(second[1:])
        assert [thread.submit(walk.next).result() for thread in (one, two)] == [None, None]


@given(st.lists(st.tuples(st.integers(1, 9000), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_stretch_needs_what_the_disk_needs_there(runs: list[tuple[int, bool, bool]]) -> None:
    chunk, extents, at = MIB, [], 0
    for length, data, dirty in runs:
        extents.append(Extent(at, length << 15, data, dirty))
        at += length << 15
    whole = _by_slot(chunk_needs(iter(extents), at, chunk))
    by_stretch: dict[int, ChunkNeed] = {}
    for stretch in stretches(-(-at // chunk), chunk):
        cut = list(_cut(extents, stretch.start * chunk, min(stretch.stop * chunk, at)))
        by_stretch |= _by_slot(chunk_needs(iter(cut), at, chunk, stretch.start))
    assert by_stretch == whole


def _by_slot(needs: Iterator[tuple[range, ChunkNeed]]) -> dict[int, ChunkNeed]:
    return {slot: need for run, need in needs for slot in run}


def _cut(extents: list[Extent], start: int, end: int) -> Iterator[Extent]:
    for one in extents:
        first, last = max(one.start, start), min(one.start + one.length, end)
        if first < last:
            yield Extent(first, last - first, one.data, one.dirty)
