"""Marks: every key that was added, in bounded memory, however often it was."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from freezeframe.repository.garbage import marks
from freezeframe.repository.garbage.marks import Marks
from freezeframe.repository.layout import DIGEST_BYTES, ZERO_DIGEST

BLOCK_KEYS = 4


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[Marks]:
    """With blocks of four keys, and repetitions that count from four blocks on."""
    monkeypatch.setattr(marks, "_BLOCK_BYTES", BLOCK_KEYS * DIGEST_BYTES)
    monkeypatch.setattr(marks, "_LEAST_BYTES", 4 * BLOCK_KEYS * DIGEST_BYTES)
    with Marks(lambda digest: digest) as made:
        yield made


def digests(count: int, first: int = 7) -> list[bytes]:
    drawn = random.Random(count)  # noqa: S311  the same each time
    return [bytes([first]) + drawn.randbytes(DIGEST_BYTES - 1) for _ in range(count)]


def in_memory(made: Marks) -> int:
    return sum(len(one._buffer) for one in made._bins)


def test_what_is_added_is_kept_by_its_first_byte_and_holes_are_none(small: Marks) -> None:
    wanted = {first: digests(30, first) for first in (0, 7, 255)}
    for some in wanted.values():
        small.add(b"".join([*some, ZERO_DIGEST]))
    assert {first: small.keys(first) for first in (0, 7, 8, 255)} == {
        8: set(),
        **{first: set(some) for first, some in wanted.items()},
    }


def test_no_more_than_a_block_of_each_first_byte_is_in_memory(small: Marks) -> None:
    for digest in digests(100):
        small.add(digest)
        assert in_memory(small) < BLOCK_KEYS * DIGEST_BYTES
    assert small.file_bytes == 100 * DIGEST_BYTES
    assert small.keys(7) == set(digests(100))


def test_the_same_keys_again_take_no_more_room_than_twice_what_they_are(small: Marks) -> None:
    """As with a hundred captures of one disk."""
    once = digests(40)
    for _ in range(100):
        small.add(b"".join(once))
        assert small.keys(7) == set(once)
    # up to twice the distinct ones and what was least; then once more while they are written anew
    assert small.file_bytes <= 3 * 40 * DIGEST_BYTES


def test_what_grows_between_repetitions_is_kept(small: Marks) -> None:
    added: list[bytes] = []
    for digest in digests(200):
        added.append(digest)
        small.add(b"".join(added[-20:]))
    assert small.keys(7) == set(added)


def test_blocks_that_are_used_again_show_nothing_of_what_was_in_them(small: Marks) -> None:
    """What two first bytes have fills no whole number of blocks, and they take each other's."""
    wanted = {first: digests(40 + first, first) for first in range(1, 6)}
    drawn = random.Random(1)  # noqa: S311  the same each time
    added: dict[int, set[bytes]] = {first: set() for first in wanted}
    for _ in range(3000):
        first = drawn.choice(list(wanted))
        added[first].add(digest := drawn.choice(wanted[first]))
        small.add(digest)
        assert small.keys(first) == added[first]


def test_each_key_is_written_a_bounded_number_of_times_however_many_there_are(
    small: Marks, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = small._blocks.write

    def counted(data: bytes | bytearray) -> int:
        written.append(len(data))
        return write(data)

    monkeypatch.setattr(small._blocks, "write", counted)
    small.add(b"".join(digests(1001)))
    assert sum(written) <= 4 * 1001 * DIGEST_BYTES
    small.add(b"".join(digests(500) * 6))
    assert set(written) == {BLOCK_KEYS * DIGEST_BYTES}  # a block is read as a whole, whatever was in it before


def test_a_key_is_what_the_protection_makes_of_a_digest() -> None:
    with Marks(lambda digest: digest[::-1]) as made:
        made.add(bytes(DIGEST_BYTES - 1) + b"\x09")
        assert made.keys(9) == {b"\x09" + bytes(DIGEST_BYTES - 1)}
