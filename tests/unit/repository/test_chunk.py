from __future__ import annotations

import hashlib
import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.repository import zstd
from freezeframe.repository.chunk import HEADER_BYTES, seal, unpack, unseal
from freezeframe.repository.errors import ChunkDamaged
from freezeframe.repository.layout import CHUNK_BYTES_MAX

some_data = st.binary(min_size=1, max_size=3000) | st.builds(
    lambda part, times: part * times, st.binary(min_size=1, max_size=50), st.integers(1, 3000)
)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@given(some_data)
def test_what_is_sealed_is_unsealed(data: bytes) -> None:
    assert unseal(seal(data), sha256(data)) == data
    assert unseal(seal(bytearray(data)), sha256(data)) == data


@given(some_data)
def test_an_envelope_never_costs_more_than_its_header(data: bytes) -> None:
    assert len(seal(data)) <= len(data) + HEADER_BYTES


def test_what_does_not_compress_is_stored_as_it_is() -> None:
    data = os.urandom(1 << 20)
    assert seal(data)[HEADER_BYTES:] == data


@given(st.binary(max_size=2000))
def test_garbage_is_damage(garbage: bytes) -> None:
    with pytest.raises(ChunkDamaged):
        unseal(garbage, sha256(b"the chunk"))


@given(st.sampled_from([b"FFck\x01\x00\x00\x00", b"FFck\x01\x01\x00\x00"]), st.integers(0, 2**32 - 1), st.binary())
def test_garbage_behind_a_right_beginning_is_damage(start: bytes, length: int, garbage: bytes) -> None:
    with pytest.raises(ChunkDamaged):
        unseal(start + length.to_bytes(4, "little") + garbage, sha256(b"the chunk"))


@given(some_data, st.data())
def test_any_changed_byte_is_damage(data: bytes, choice: st.DataObject) -> None:
    envelope = bytearray(seal(data))
    at = choice.draw(st.integers(0, len(envelope) - 1))
    envelope[at] ^= choice.draw(st.integers(1, 255))
    # a flag in zstd's frame header may change without changing what comes out: then the bytes are right
    with suppress(ChunkDamaged):
        assert unseal(bytes(envelope), sha256(data)) == data


@given(some_data, st.data())
def test_a_chunk_cut_short_is_damage(data: bytes, choice: st.DataObject) -> None:
    envelope = seal(data)
    with pytest.raises(ChunkDamaged):
        unpack(envelope[: choice.draw(st.integers(0, len(envelope) - 1))], "x")


@given(some_data, st.binary(min_size=1, max_size=100))
def test_a_chunk_with_more_behind_it_is_damage(data: bytes, more: bytes) -> None:
    with pytest.raises(ChunkDamaged):
        unpack(seal(data) + more, "x")


def test_a_frame_cannot_fill_the_memory() -> None:
    frame = zstd.compress(bytes(100 << 20))
    header = seal(b"x" * 5000)[:HEADER_BYTES]  # says 5,000 bytes
    for bomb in (header + frame, header + zstd.compress(bytes(5000)) + frame):
        with pytest.raises(ChunkDamaged):
            unpack(bomb, "x")


@pytest.mark.parametrize("length", [0, CHUNK_BYTES_MAX + 1])
def test_a_chunk_of_no_size_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="a chunk of"):
        seal(bytes(length))


def test_the_envelope_is_as_documented() -> None:
    assert seal(b"a")[:HEADER_BYTES] == b"FFck" + bytes([1, 0, 0, 0]) + (1).to_bytes(4, "little")
    assert seal(b"a" * 70_000)[:HEADER_BYTES] == b"FFck" + bytes([1, 1, 0, 0]) + (70_000).to_bytes(4, "little")
