"""Which chunks a transfer reads: at most those that a dirty byte lies in, and never less."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from workers.export import ChunkNeed, Extent, chunk_needs, overlay

CHUNK = 8
HOLE, ZERO, DATA = 3, 2, 0


def runs(total: int, flags: list[int]) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Runs of lengths that together cover at least `total`."""
    run = st.tuples(st.integers(1, 20), st.sampled_from(flags))
    return st.lists(run, max_size=20).map(lambda some: [*some, (total, flags[0])])


def bytes_of(extents: list[Extent]) -> list[tuple[bool, bool]]:
    return [(extent.data, extent.dirty) for extent in extents for _ in range(extent.length)]


@given(st.data(), st.integers(1, 200))
def test_two_contexts_are_laid_over_each_other_byte_by_byte(data: st.DataObject, size: int) -> None:
    allocation = data.draw(runs(size, [DATA, ZERO, HOLE]))
    dirty = data.draw(runs(size, [0, 1]))
    extents = list(overlay(0, size, allocation, dirty))
    want_data = [not flags & 2 for length, flags in allocation for _ in range(length)][:size]
    want_dirty = [bool(flags) for length, flags in dirty for _ in range(length)][:size]
    assert bytes_of(extents) == list(zip(want_data, want_dirty, strict=True))
    assert extents[0].start == 0
    assert all(one.start + one.length == two.start for one, two in itertools.pairwise(extents))


@given(st.data(), st.integers(1, 200))
def test_every_chunk_is_settled_once_and_for_the_right_reason(data: st.DataObject, size: int) -> None:
    allocation = data.draw(runs(size, [DATA, ZERO]))
    dirty = data.draw(runs(size, [0, 1]))
    flat = bytes_of(list(overlay(0, size, allocation, dirty)))
    needs = dict(chunk_needs(overlay(0, size, allocation, dirty), size, CHUNK))
    assert sorted(needs) == list(range(-(-size // CHUNK)))
    for slot, need in needs.items():
        piece = flat[slot * CHUNK : (slot + 1) * CHUNK]
        if not any(is_dirty for _, is_dirty in piece):
            assert need is ChunkNeed.KEEP
        elif any(is_data for is_data, _ in piece):
            assert need is ChunkNeed.READ
        else:
            assert need is ChunkNeed.ZERO


def test_without_a_bitmap_everything_is_looked_at() -> None:
    needs = dict(chunk_needs(overlay(0, 24, [(10, DATA), (14, HOLE)], None), 24, CHUNK))
    assert needs == {0: ChunkNeed.READ, 1: ChunkNeed.READ, 2: ChunkNeed.ZERO}


def test_a_disk_of_a_tebibyte_is_walked_without_holding_it() -> None:
    """One extent over 2**40 bytes: needs come one by one, so a transfer's memory does not grow with the disk."""
    whole = iter([Extent(0, 1 << 40, data=True, dirty=True)])
    needs: Iterator[tuple[int, ChunkNeed]] = chunk_needs(whole, 1 << 40, 1 << 20)
    assert next(needs) == (0, ChunkNeed.READ)
    assert next(needs) == (1, ChunkNeed.READ)
