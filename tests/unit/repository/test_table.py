"""The slot table: what is set is there, holes cost no room, and no slot is outside."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from freezeframe.repository.layout import DIGEST_BYTES, ZERO_DIGEST
from freezeframe.repository.table import SlotTable, digests_in, slots_in

SLOTS = 40_000  # two pieces


@pytest.fixture
def table() -> Iterator[SlotTable]:
    made = SlotTable(SLOTS)
    yield made
    made.close()


def digest(number: int) -> bytes:
    return number.to_bytes(DIGEST_BYTES, "big")


@pytest.mark.parametrize("slot", [-1, SLOTS, SLOTS + 7])
def test_no_slot_is_outside(table: SlotTable, slot: int) -> None:
    with pytest.raises(IndexError, match=f"slot {slot} of {SLOTS}"):
        table.set(slot, digest(1))
    with pytest.raises(IndexError):
        table.get(slot)
    with pytest.raises(IndexError):
        table.clear(slot)
    assert list(table.used()) == []


@pytest.mark.parametrize(("slot", "count"), [(0, SLOTS + 1), (SLOTS - 1, 2), (5, -1), (-1, 2)])
def test_no_run_of_slots_reaches_outside(table: SlotTable, slot: int, count: int) -> None:
    for each in (0, 5, SLOTS - 1):
        table.set(each, digest(each + 1))
    with pytest.raises(IndexError):
        table.clear(slot, count)
    assert [slot for slot, _ in table.used()] == [0, 5, SLOTS - 1]


def test_the_first_and_the_last_slot_are_inside(table: SlotTable) -> None:
    for slot in (0, SLOTS - 1):
        table.set(slot, digest(slot + 1))
        assert table.get(slot) == digest(slot + 1)
    table.clear(0, SLOTS)
    assert table.get(0) == table.get(SLOTS - 1) == ZERO_DIGEST


def test_no_slots_are_cleared_without_an_error(table: SlotTable) -> None:
    table.set(5, digest(5))
    for slot in (0, 5, SLOTS):
        table.clear(slot, 0)
    assert list(table.used()) == [(5, digest(5))]


@pytest.mark.parametrize("length", [0, DIGEST_BYTES - 1, DIGEST_BYTES + 1])
def test_what_is_no_digest_is_refused(table: SlotTable, length: int) -> None:
    """A longer one would be written over the next slot."""
    with pytest.raises(ValueError, match=f"a digest of {length} bytes"):
        table.set(3, b"d" * length)
    assert list(table.used()) == []


def test_neighbours_and_gaps_are_written_where_they_belong(table: SlotTable) -> None:
    wanted = {slot: digest(slot + 1) for slot in (*range(5, 300), 302, *range(400, 410), 32_767, 32_768, SLOTS - 1)}
    for slot in sorted(wanted, key=lambda slot: slot * 7919 % SLOTS):
        table.set(slot, wanted[slot])
    assert dict(table.used()) == wanted
    assert table.first_used(303, 400) is None
    assert table.first_used(303, SLOTS) == 400


def test_few_digests_wait_in_memory(table: SlotTable) -> None:
    for slot in range(0, 2000, 2):
        table.set(slot, digest(slot + 1))
        assert len(table._gathered) <= 256


def test_neighbours_are_written_at_once(table: SlotTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call for each would let go of the GIL a time too often."""
    written: list[int] = []
    pwrite = os.pwrite

    def counted(fd: int, data: bytes, offset: int) -> int:
        written.append(len(data))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", counted)
    for slot in [*range(100), *range(200, 250)]:
        table.set(slot, digest(slot + 1))
    assert len(list(table.used())) == 150
    assert written == [100 * DIGEST_BYTES, 50 * DIGEST_BYTES]


def test_holes_take_no_room_in_a_copy_and_none_is_made_where_one_is(table: SlotTable) -> None:
    table.fill(0, bytes(30_000 * DIGEST_BYTES))
    table.clear(0, SLOTS)
    assert os.fstat(table._file.fileno()).st_blocks == 0
    table.fill(0, bytes(128 * DIGEST_BYTES) + digest(9))
    assert list(table.used()) == [(128, digest(9))]


@pytest.mark.parametrize("blocks", ["a.b", "ab.", ".ab", "...", "abc", "a..b..c", "."])
def test_a_copy_is_written_in_as_few_pieces_as_it_has(
    table: SlotTable, blocks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write a block was most of what an index took to be opened."""
    written: list[int] = []
    write = os.pwrite

    def counted(fd: int, data: bytes, offset: int) -> int:
        written.append(len(data))
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", counted)
    data = b"".join(bytes(4096) if one == "." else one.encode() * 4096 for one in blocks) + b"the end of it...".zfill(
        32
    )
    table.fill(64 * DIGEST_BYTES, data)
    assert b"".join(table.pieces())[64 * DIGEST_BYTES :][: len(data)] == data
    runs = [4096 * len(one) for one in blocks.split(".") if one]
    assert written == ([*runs, 32] if blocks.endswith(".") else [*runs[:-1], runs[-1] + 32])


def test_the_digests_in_a_piece_are_those_of_slots_that_are_no_holes() -> None:
    slots = [digest(1), ZERO_DIGEST, digest(2), digest(1), ZERO_DIGEST]
    assert list(slots_in(b"".join(slots))) == slots
    assert digests_in(b"".join(slots)) == [digest(1), digest(2), digest(1)]
    full = [digest(1 << 248), digest(1), b"\xff" * 16 + bytes(16), bytes(16) + b"\xff" * 16]
    assert digests_in(b"".join(full)) == full  # 32 zeros in a row, and no hole
    assert digests_in(bytes(320)) == []
    assert digests_in(b"") == []
