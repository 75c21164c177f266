"""Which chunks a transfer reads: at most those that a dirty byte lies in, and never less."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from workers.export import ChunkNeed, Extent, bytes_of, chunk_needs, overlay

CHUNK = 8
HOLE, ZERO, DATA = 3, 2, 0


def runs(total: int, flags: list[int]) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Runs of lengths that together cover at least `total`."""
    run = st.tuples(st.integers(1, 20), st.sampled_from(flags))
    return st.lists(run, max_size=20).map(lambda some: [*some, (total, flags[0])])


def flattened(extents: list[Extent]) -> list[tuple[bool, bool]]:
    return [(extent.data, extent.dirty) for extent in extents for _ in range(extent.length)]


@given(st.data(), st.integers(1, 200))
def test_two_contexts_are_laid_over_each_other_byte_by_byte(data: st.DataObject, size: int) -> None:
    allocation = data.draw(runs(size, [DATA, ZERO, HOLE]))
    dirty = data.draw(runs(size, [0, 1]))
    extents = list(overlay(0, size, allocation, dirty))
    want_data = [not flags & 2 for length, flags in allocation for _ in range(length)][:size]
    want_dirty = [bool(flags) for length, flags in dirty for _ in range(length)][:size]
    assert flattened(extents) == list(zip(want_data, want_dirty, strict=True))
    assert extents[0].start == 0
    assert all(one.start + one.length == two.start for one, two in itertools.pairwise(extents))


@given(st.data(), st.integers(1, 200))
def test_every_chunk_is_settled_once_and_for_the_right_reason(data: st.DataObject, size: int) -> None:
    allocation = data.draw(runs(size, [DATA, ZERO]))
    dirty = data.draw(runs(size, [0, 1]))
    flat = flattened(list(overlay(0, size, allocation, dirty)))
    needs = list(chunk_needs(overlay(0, size, allocation, dirty), size, CHUNK))
    assert [slot for run, _ in needs for slot in run] == list(range(-(-size // CHUNK)))
    assert all(run for run, _ in needs)
    for slot, need in ((slot, need) for run, need in needs for slot in run):
        piece = flat[slot * CHUNK : (slot + 1) * CHUNK]
        if not any(is_dirty for _, is_dirty in piece):
            assert need is (ChunkNeed.KEEP if any(is_data for is_data, _ in piece) else ChunkNeed.KEEP_ZERO)
        elif any(is_data for is_data, _ in piece):
            assert need is ChunkNeed.READ
        else:
            assert need is ChunkNeed.ZERO


def test_without_a_bitmap_everything_is_looked_at() -> None:
    needs = list(chunk_needs(overlay(0, 24, [(10, DATA), (14, HOLE)], None), 24, CHUNK))
    assert needs == [
        (range(1), ChunkNeed.READ),
        (range(1, 2), ChunkNeed.READ),
        (range(2, 3), ChunkNeed.ZERO),
    ]


@given(st.data(), st.integers(1, 200))
def test_runs_are_as_few_as_extents_make_them(data: st.DataObject, size: int) -> None:
    extents = list(overlay(0, size, data.draw(runs(size, [DATA, ZERO])), data.draw(runs(size, [0, 1]))))
    assert len(list(chunk_needs(iter(extents), size, CHUNK))) <= 2 * len(extents)


def test_a_tebibyte_that_nobody_wrote_to_is_one_step() -> None:
    whole = iter([Extent(0, 1 << 40, data=True, dirty=False)])
    assert list(chunk_needs(whole, 1 << 40, 1 << 20)) == [(range(1 << 20), ChunkNeed.KEEP)]


def test_a_run_has_the_bytes_of_its_chunks_and_the_last_chunk_may_be_short() -> None:
    assert bytes_of(range(1, 3), 20, CHUNK) == 12
    assert bytes_of(range(1, 2), 20, CHUNK) == CHUNK
