from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.repository import Effort, Repository, packer
from freezeframe.repository.packer import pack
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.zstd import ZstdCompressor, decompress, get_frame_info

from .samples import CHUNK

MIB = 1 << 20
LEVELS = [1, 2, 3, 6, 9, 19]
_words = random.Random(1).choices([f"{number:x}"[::-1] + "ing" for number in range(5000)], k=300_000)  # noqa: S311
TEXT = " ".join(_words).encode()[:MIB]


@given(st.binary(max_size=40), st.integers(1, 4000), st.sampled_from(LEVELS))
def test_what_is_packed_is_unpacked_and_states_its_size(part: bytes, times: int, level: int) -> None:
    data = part * times
    packed = pack(data, level)
    if packed is not None:
        assert decompress(packed) == data
        assert get_frame_info(packed).decompressed_size == len(data)
        assert len(packed) < len(data)


@pytest.mark.parametrize("level", LEVELS)
def test_what_does_not_compress_is_left_raw(level: int) -> None:
    assert pack(os.urandom(MIB), level) is None


def test_what_saves_next_to_nothing_is_left_raw() -> None:
    assert pack(os.urandom(MIB - MIB // 128) + bytes(MIB // 128), 1) is None
    assert pack(os.urandom(MIB - MIB // 16) + bytes(MIB // 16), 1) is not None


def test_nothing_is_packed_when_it_is_switched_off() -> None:
    assert pack(bytes(MIB), 0) is None


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The levels that compressed something, with how much of it."""
    made: list[tuple[int, int]] = []
    compress = packer._compress

    def counted(data: bytes | memoryview, level: int) -> bytes:
        made.append((level, len(data)))
        return compress(data, level)

    monkeypatch.setattr(packer, "_compress", counted)
    return made


@pytest.mark.parametrize("level", [6, 9])
def test_a_high_level_is_not_spent_on_what_looks_incompressible(spent: list[tuple[int, int]], level: int) -> None:
    pack(os.urandom(MIB), level)
    assert spent == [(1, 64 << 10), (1, MIB)]
    spent.clear()
    pack(TEXT, level)
    assert spent == [(1, 64 << 10), (level, MIB)]


def test_a_low_level_tries_no_sample(spent: list[tuple[int, int]]) -> None:
    pack(os.urandom(MIB), 3)
    assert spent == [(3, MIB)]


@pytest.mark.parametrize("length", [1, 4 << 10, 16 << 10, 64 << 10])
def test_a_chunk_that_is_no_longer_than_a_sample_is_compressed_as_it_is(
    spent: list[tuple[int, int]], length: int
) -> None:
    pack(os.urandom(length), 9)
    assert spent == [(9, length)]


@pytest.mark.parametrize("at", [0, (MIB - (16 << 10)) // 3, 2 * ((MIB - (16 << 10)) // 3), MIB - (16 << 10)])
def test_a_sample_is_from_all_over_the_chunk(spent: list[tuple[int, int]], at: int) -> None:
    """Noise, but for 16 KiB at its beginning, inside, or at its very end."""
    data = bytearray(os.urandom(MIB))
    data[at : at + (16 << 10)] = bytes(16 << 10)
    assert pack(bytes(data), 9) is None  # it saves less than a 64th
    assert (9, MIB) in spent


def test_a_thread_keeps_the_lowest_levels_context_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A context takes a tenth of the time of a chunk to make, and that of a high level tens of MiB."""
    made: list[int] = []

    def compressor(level: int) -> ZstdCompressor:
        made.append(level)
        return ZstdCompressor(level)

    monkeypatch.setattr(packer, "zstd", SimpleNamespace(ZstdCompressor=compressor))
    with ThreadPoolExecutor(1) as pool:
        for level in (9, 9, 6, 1, 6, 9):
            assert decompress(pool.submit(pack, TEXT, level).result(60) or b"") == TEXT
    assert made == [1, 9, 6, 9]


class Broken:
    """A compressor that finds no memory in the middle of a frame."""

    FLUSH_FRAME = ZstdCompressor.FLUSH_FRAME

    def __init__(self, level: int) -> None:
        self.level = level

    def compress(self, data: bytes, mode: int) -> bytes:
        assert (len(data), mode) == (MIB, self.FLUSH_FRAME)
        raise MemoryError


def test_a_context_that_failed_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be in the middle of a frame: what it compresses next would begin with that."""
    with ThreadPoolExecutor(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(packer, "zstd", SimpleNamespace(ZstdCompressor=Broken))
            with pytest.raises(MemoryError):
                pool.submit(pack, TEXT, 3).result(60)
        assert decompress(pool.submit(pack, TEXT, 3).result(60) or b"") == TEXT


def test_a_sample_that_deceives_costs_little_storage() -> None:
    """Incompressible just where the samples are taken: what is between them is found all the same."""
    data, step = bytearray(TEXT), (MIB - (16 << 10)) // 3
    for at in range(0, step * 4, step):
        data[at : at + (16 << 10)] = os.urandom(16 << 10)
    packed = pack(bytes(data), 9)
    assert packed is not None
    assert len(packed) < MIB // 2


def test_a_higher_level_stores_less() -> None:
    lowest, highest = pack(TEXT, 1), pack(TEXT, 9)
    assert lowest is not None
    assert highest is not None
    assert len(highest) < len(lowest)


def test_threads_and_levels_do_not_mix_up_their_frames() -> None:
    data = [TEXT[start:] for start in range(64)]
    with ThreadPoolExecutor(4) as pool:
        packed = list(pool.map(lambda one: pack(data[one], LEVELS[one % 4]), range(64)))
    assert [decompress(one or b"") for one in packed] == data


@pytest.mark.parametrize(("effort", "compressed"), [(Effort(0, 0), False), (Effort(3, 3), True), (None, True)])
def test_a_writer_keeps_to_its_effort(effort: Effort | None, *, compressed: bool) -> None:
    repository = Repository.init_in(MemoryStore(), chunk_bytes=CHUNK)
    with repository.disk_writer(CHUNK, effort=effort) as writer:
        writer.write_chunk(0, b"a" * CHUNK)
        assert (writer.finish().bytes_stored < CHUNK) is compressed
