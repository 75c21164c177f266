"""Marks: every digest that was added, once, in bounded memory, however often it was added."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.repository import marks
from freezeframe.repository.layout import DIGEST_BYTES
from freezeframe.repository.marks import Marks

BLOCK_DIGESTS = 4


def hidden(digest: bytes) -> bytes:
    return hashlib.sha256(digest).digest()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four digests, repetitions that count from four blocks on, and no more than six digests in lists."""
    monkeypatch.setattr(marks, "_BLOCK_BYTES", BLOCK_DIGESTS * DIGEST_BYTES)
    monkeypatch.setattr(marks, "_LEAST_BYTES", 4 * BLOCK_DIGESTS * DIGEST_BYTES)
    monkeypatch.setattr(marks, "_GATHERED", 6)


@pytest.fixture
def plain() -> Iterator[Marks]:
    with Marks(None) as made:
        yield made


@pytest.fixture(params=[None, hidden], ids=["plain", "encrypted"])
def made(request: pytest.FixtureRequest) -> Iterator[Marks]:
    with Marks(request.param) as made:
        yield made


def digests(count: int, first: int = 7) -> list[bytes]:
    drawn = random.Random(count)  # noqa: S311  the same each time
    return [bytes([first]) + drawn.randbytes(DIGEST_BYTES - 1) for _ in range(count)]


def spread(count: int) -> list[bytes]:
    drawn = random.Random(count)  # noqa: S311  the same each time
    return [drawn.randbytes(DIGEST_BYTES) for _ in range(count)]


def key_of(made: Marks) -> Callable[[bytes], bytes]:
    return made._key_of or (lambda digest: digest)


def in_memory_bytes(made: Marks) -> int:
    some = [made._digests] + ([made._named] if made._named else [])
    lists = sum(len(record) for bins in some for one in bins._lists for record in one)
    return lists + sum(len(one._buffer) for bins in some for one in bins._bins.values())


def test_what_is_added_is_given_by_the_first_byte_of_its_key(made: Marks) -> None:
    added = spread(3000)
    for at in range(0, len(added), 100):
        made.add(added[at : at + 100])
    key = key_of(made)
    for folder in range(256):
        wanted = {key(one): one for one in added if key(one)[0] == folder}
        assert made.digests_by_key(folder) == wanted
        assert made.keys(folder) == set(wanted)
        assert made.digests(folder) == set(wanted.values())
    assert made.count() == 3000


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=300), st.integers(1, 5), st.booleans())
def test_what_is_marked_is_what_was_added(added: list[bytes], times: int, encrypted: bool) -> None:  # noqa: FBT001
    with Marks(hidden if encrypted else None) as made:
        for _ in range(times):
            made.add(added)
        assert set().union(*(made.digests(folder) for folder in range(256))) == set(added)
        assert made.count() == len(set(added))


def test_nothing_is_marked_where_nothing_was_added(made: Marks) -> None:
    assert (made.count(), made.keys(0), made.digests(255), made.digests_by_key(7)) == (0, set(), set(), {})
    assert made.file_bytes == 0


@pytest.mark.case("D1")
def test_only_the_folders_that_are_asked_for_take_room() -> None:
    """A night's share of a large repository costs a share of the room."""
    added = spread(3000)
    for key, wanted in ((None, {3, 200}), (hidden, {3, 200})):
        with Marks(key, wanted) as made:
            made.add(added)
            found = {folder: made.digests(folder) for folder in wanted}
            assert found == {folder: {one for one in added if (key or bytes)(one)[0] == folder} for folder in wanted}
            assert made.count() == sum(map(len, found.values()))
            if key is None:
                assert made.file_bytes <= made.count() * DIGEST_BYTES


def test_no_more_than_a_block_a_bin_and_what_is_in_lists_is_in_memory(made: Marks) -> None:
    for digest in spread(5000):
        made.add([digest])
        assert in_memory_bytes(made) < (256 * BLOCK_DIGESTS + 6) * DIGEST_BYTES
    made.count()
    assert in_memory_bytes(made) <= 2 * 256 * BLOCK_DIGESTS * DIGEST_BYTES


@pytest.mark.case("D1")
def test_the_key_of_a_digest_is_made_once_however_often_it_was_added_and_is_asked_for() -> None:
    asked: list[bytes] = []

    def counted(digest: bytes) -> bytes:
        asked.append(digest)
        return hidden(digest)

    added = spread(500)
    with Marks(counted) as made:
        for _ in range(10):
            made.add(added)
        assert asked == []
        for folder in range(256):
            made.keys(folder)
            made.digests_by_key(folder)
    assert sorted(asked) == sorted(added)


def test_the_same_digests_again_take_no_more_room_than_twice_what_they_are(plain: Marks) -> None:
    """As with a hundred captures of disks that are copies of each other."""
    once = digests(40)
    for _ in range(100):
        plain.add(once)
    assert plain.digests(7) == set(once)
    # up to twice the distinct ones, or what was least; then one more addition, while they are written anew
    assert plain.file_bytes <= (2 * 40 + 40 + 6) * DIGEST_BYTES


def test_keys_take_the_room_of_the_digests_that_they_are_made_of(made: Marks) -> None:
    """64 bytes for each distinct digest are enough, also while keys are made: docs/repository.md says so."""
    made.add(spread(20_000))
    made.count()
    assert made.file_bytes <= 20_000 * 2 * DIGEST_BYTES + 256 * 2 * BLOCK_DIGESTS * DIGEST_BYTES


def test_what_grows_between_repetitions_is_kept(plain: Marks) -> None:
    added: list[bytes] = []
    for digest in digests(200):
        added.append(digest)
        plain.add(added[-20:])
    assert plain.digests(7) == set(added)


def test_blocks_that_are_used_again_show_nothing_of_what_was_in_them(plain: Marks) -> None:
    """What two bins have fills no whole number of blocks, and they take each other's."""
    wanted = {first: digests(40 + first, first) for first in range(1, 6)}
    drawn = random.Random(1)  # noqa: S311  the same each time
    added: dict[int, set[bytes]] = {first: set() for first in wanted}
    for _ in range(3000):
        first = drawn.choice(list(wanted))
        added[first].add(digest := drawn.choice(wanted[first]))
        plain.add([digest])
        assert plain.digests(first) == added[first]


def test_each_digest_is_written_a_bounded_number_of_times_however_many_there_are(
    plain: Marks, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = plain._blocks.write

    def counted(data: bytes | bytearray) -> int:
        written.append(len(data))
        return write(data)

    monkeypatch.setattr(plain._blocks, "write", counted)
    for digest in digests(1001):
        plain.add([digest])
    assert sum(written) <= 4 * 1001 * DIGEST_BYTES
    plain.add(digests(500) * 6)
    assert set(written) == {BLOCK_DIGESTS * DIGEST_BYTES}  # a block is read as a whole, whatever was in it before


def sampled(count: int) -> list[bytes]:
    """Of one bin, and all in its sample."""
    return [digest[:1] + b"\0" + digest[2:] for digest in digests(count)]


@pytest.fixture
def compacted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes a bin had each time that it was to be rid of repetitions."""
    found: list[int] = []
    compact = marks._Bin._compact

    def counted(one: marks._Bin) -> None:
        found.append(one.all_bytes)
        compact(one)

    monkeypatch.setattr(marks._Bin, "_compact", counted)
    return found


def test_a_bin_without_repetitions_is_only_looked_at(plain: Marks, compacted: list[int]) -> None:
    """To be rid of what is not there was a third of the time at 10 TiB, and nothing at 1."""
    added = sampled(3000)
    for at in range(0, 3000, 10):
        plain.add(added[at : at + 10])
    # a sample of less than 64 says nothing; after that the bin was looked at each time that it had doubled
    assert [one // DIGEST_BYTES < 64 + BLOCK_DIGESTS for one in compacted] == [True] * len(compacted)
    assert plain.digests(7) == set(added)


def test_repetitions_are_seen_in_the_sample_and_taken_away(plain: Marks, compacted: list[int]) -> None:
    added = sampled(1000)
    for at in range(0, 1000, 10):
        plain.add(added[at : at + 10])
    compacted.clear()
    for _ in range(20):
        for at in range(0, 1000, 10):
            plain.add(added[at : at + 10])
    assert compacted
    assert plain.digests(7) == set(added)
    assert plain.file_bytes <= 3 * 1000 * DIGEST_BYTES  # twice what is distinct, and once more while it is written anew


@pytest.mark.parametrize(("again", "done"), [(60, False), (200, False), (260, True)])
def test_a_bin_is_left_with_repetitions_that_are_few(plain: Marks, again: int, done: bool) -> None:  # noqa: FBT001
    bin_ = plain._digests._bins[7]
    added = sampled(700)
    bin_.add(b"".join([*added, *added[:again]]), distinct=True)
    bin_._take_stock()
    assert (bin_.all_bytes == 700 * DIGEST_BYTES) == done
    assert bin_._distinct_bytes == pytest.approx(700 * DIGEST_BYTES, rel=0.01)
