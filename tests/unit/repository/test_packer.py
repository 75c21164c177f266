from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.repository import Effort, Repository, packer
from freezeframe.repository.packer import pack
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.zstd import decompress, get_frame_info

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


def test_a_high_level_is_not_spent_on_what_looks_incompressible(monkeypatch: pytest.MonkeyPatch) -> None:
    spent: list[tuple[int, int]] = []
    compress = packer._compress

    def counted(data: bytes | memoryview, level: int) -> bytes:
        spent.append((level, len(data)))
        return compress(data, level)

    monkeypatch.setattr(packer, "_compress", counted)
    pack(os.urandom(MIB), 9)
    assert {level for level, _ in spent} == {1}
    spent.clear()
    pack(TEXT, 9)
    assert (9, MIB) in spent


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
