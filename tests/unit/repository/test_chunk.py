from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.direct import BLOCK_BYTES, DIRECT_FROM_BYTES
from freezeframe.repository import zstd
from freezeframe.repository.chunk import HEADER_BYTES, padding_of, unpack, unseal
from freezeframe.repository.crypto.cipher import sealed_bytes
from freezeframe.repository.errors import ChunkDamaged, NewerFormat
from freezeframe.repository.layout import CHUNK_BYTES_MAX

from .samples import envelope_of

some_data = st.binary(min_size=1, max_size=3000) | st.builds(
    lambda part, times: part * times, st.binary(min_size=1, max_size=50), st.integers(1, 3000)
)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@given(some_data)
def test_what_is_sealed_is_unsealed(data: bytes) -> None:
    assert unseal(envelope_of(data), sha256(data)) == data


@given(some_data)
def test_an_envelope_never_costs_more_than_its_header_and_a_block(data: bytes) -> None:
    longest = len(data) + HEADER_BYTES
    assert len(envelope_of(data)) <= (
        longest if longest < DIRECT_FROM_BYTES else -(-longest // BLOCK_BYTES) * BLOCK_BYTES
    )


def test_what_does_not_compress_is_stored_as_it_is() -> None:
    data = os.urandom(1 << 20)
    assert envelope_of(data) == envelope_of(data)[:HEADER_BYTES] + data + bytes(BLOCK_BYTES - HEADER_BYTES)


@given(st.integers(0, 17 << 20), st.sampled_from([int, sealed_bytes]))
def test_what_is_worth_a_direct_write_has_whole_blocks(data_bytes: int, stored_bytes: Callable[[int], int]) -> None:
    padding = padding_of(data_bytes, stored_bytes)
    assert 0 <= padding < BLOCK_BYTES
    length = stored_bytes(HEADER_BYTES + data_bytes)
    assert (
        padding == 0
        if length < DIRECT_FROM_BYTES
        else stored_bytes(HEADER_BYTES + data_bytes + padding) % BLOCK_BYTES == 0
    )


@given(st.binary(max_size=2000))
def test_garbage_is_damage(garbage: bytes) -> None:
    with pytest.raises(ChunkDamaged):
        unseal(garbage, sha256(b"the chunk"))


@given(st.sampled_from([b"FFck\x01\x00\x00\x00", b"FFck\x01\x01\x00\x00"]), st.integers(0, 2**32 - 1), st.binary())
def test_garbage_behind_a_right_beginning_is_damage(start: bytes, length: int, garbage: bytes) -> None:
    with pytest.raises(ChunkDamaged):
        unseal(
            start + length.to_bytes(4, "little") + len(garbage).to_bytes(4, "little") + garbage, sha256(b"the chunk")
        )


@given(some_data, st.data())
def test_any_changed_byte_is_damage(data: bytes, choice: st.DataObject) -> None:
    envelope = bytearray(envelope_of(data))
    at = choice.draw(st.integers(0, len(envelope) - 1))
    envelope[at] ^= choice.draw(st.integers(1, 255))
    # a flag in zstd's frame header may change without changing what comes out: then the bytes are right
    try:
        assert unseal(bytes(envelope), sha256(data)) == data
    except ChunkDamaged:
        pass
    except NewerFormat:
        assert 4 <= at < 8  # what says which form it has


@given(some_data, st.data())
def test_a_chunk_cut_short_is_damage(data: bytes, choice: st.DataObject) -> None:
    envelope = envelope_of(data)
    end = HEADER_BYTES + int.from_bytes(envelope[HEADER_BYTES - 4 : HEADER_BYTES], "little")
    with pytest.raises(ChunkDamaged):
        unpack(envelope[: choice.draw(st.integers(0, end - 1))], "x")


@given(some_data, st.binary(min_size=1, max_size=100).filter(any))
def test_a_chunk_with_more_than_padding_behind_it_is_damage(data: bytes, more: bytes) -> None:
    with pytest.raises(ChunkDamaged):
        unpack(envelope_of(data) + more, "x")


def test_a_frame_cannot_fill_the_memory() -> None:
    frame = zstd.compress(bytes(100 << 20))
    start = envelope_of(b"x" * 5000)[: HEADER_BYTES - 4]  # says 5,000 bytes
    for data in (frame, zstd.compress(bytes(5000)) + frame):
        bomb = start + len(data).to_bytes(4, "little") + data
        with pytest.raises(ChunkDamaged):
            unpack(bomb, "x")


@pytest.mark.parametrize("length", [0, CHUNK_BYTES_MAX + 1])
def test_a_chunk_of_no_size_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="a chunk of"):
        envelope_of(bytes(length))


def test_the_envelope_is_as_documented() -> None:
    one = (1).to_bytes(4, "little")
    assert envelope_of(b"a") == b"FFck" + bytes([1, 0, 0, 0]) + one + one + b"a"
    text = envelope_of(b"a" * 70_000)
    lengths = (70_000).to_bytes(4, "little") + (len(text) - HEADER_BYTES).to_bytes(4, "little")
    assert text[:HEADER_BYTES] == b"FFck" + bytes([1, 1, 0, 0]) + lengths


def test_padding_is_zeros_of_less_than_a_block() -> None:
    data = os.urandom(100_000)
    envelope = envelope_of(data)
    end = HEADER_BYTES + len(data)
    assert envelope[end:] == bytes(-end % BLOCK_BYTES)
    assert unpack(envelope[:end], "x") == unpack(envelope[:end] + bytes(BLOCK_BYTES - 1), "x") == data
    for more in (bytes(BLOCK_BYTES), b"\0\0\1", bytes(BLOCK_BYTES - 2) + b"\1"):
        with pytest.raises(ChunkDamaged, match="padding"):
            unpack(envelope[:end] + more, "x")


@pytest.mark.parametrize("tail", [b"text " * 40_000, b"\xff" * 100_000])
def test_what_was_in_the_buffer_before_does_not_become_padding(tail: bytes) -> None:
    """Packed, a chunk is shorter than itself, and its own end is still in the buffer behind it."""
    data = os.urandom(100_000) + tail
    envelope = envelope_of(data)
    assert len(envelope) < len(data)
    assert len(envelope) % BLOCK_BYTES == 0
    assert unseal(envelope, sha256(data)) == data


def test_the_longest_chunk_has_an_envelope() -> None:
    data = bytes(CHUNK_BYTES_MAX - 1) + b"x"
    assert unseal(envelope_of(data), sha256(data)) == data
