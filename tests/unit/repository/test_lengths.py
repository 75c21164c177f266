"""Lengths that stored bytes claim: none is believed beyond what is there, and what is cut short is never taken for whole."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import BytesIO

import pytest

from freezeframe.repository import zstd
from freezeframe.repository.chunk import HEADER_BYTES, digest_of_chunk, unpack, unseal
from freezeframe.repository.crypto import ObjectCipher, cipher, stream
from freezeframe.repository.errors import ChunkDamaged, IndexDamaged
from freezeframe.repository.header import IndexHeader, read_header
from freezeframe.repository.layout import CHUNK_BYTES_MAX, DIGEST_BYTES
from freezeframe.repository.table import SlotTable

RAW, ZSTD = 0, 1
CHUNK = 4096
NAME = "chunks/ab/abcd"


def envelope(compression: int, plain_bytes: int, data: bytes, data_bytes: int | None = None) -> bytes:
    """With any lengths in its header. [docs/repository.md has the drawing]"""
    stated = len(data) if data_bytes is None else data_bytes
    return struct.pack("<4sBBHII", b"FFck", 1, compression, 0, plain_bytes, stated) + data


def test_such_an_envelope_is_unpacked_if_its_lengths_are_right() -> None:
    assert unpack(envelope(RAW, 5, b"plain"), "x") == b"plain"
    assert unpack(envelope(ZSTD, 5, zstd.compress(b"plain")), "x") == b"plain"


@pytest.mark.parametrize("plain_bytes", [0, CHUNK_BYTES_MAX + 1])
def test_a_length_that_no_chunk_has_is_damage(plain_bytes: int) -> None:
    for compression, data in ((RAW, bytes(plain_bytes)), (ZSTD, zstd.compress(bytes(plain_bytes)))):
        with pytest.raises(ChunkDamaged, match=f"claims a length of {plain_bytes} bytes"):
            unpack(envelope(compression, plain_bytes, data), "x")


def test_the_longest_chunk_is_one() -> None:
    assert len(unpack(envelope(RAW, CHUNK_BYTES_MAX, bytes(CHUNK_BYTES_MAX)), "x")) == CHUNK_BYTES_MAX


def test_data_that_ends_before_the_header_says_is_cut_short_however_right_the_rest_is() -> None:
    with pytest.raises(ChunkDamaged, match=f"cut short: {HEADER_BYTES + 5} bytes instead of {HEADER_BYTES + 6}"):
        unpack(envelope(RAW, 5, b"plain", data_bytes=6), "x")


@pytest.mark.parametrize("compression", [RAW, ZSTD])
def test_data_of_another_length_than_the_chunk_is_damage(compression: int) -> None:
    data = zstd.compress(b"plain") if compression == ZSTD else b"plain"
    for plain_bytes in (4, 6):
        with pytest.raises(ChunkDamaged, match=r"another length|instead of"):
            unpack(envelope(compression, plain_bytes, data), "x")


def test_a_frame_of_another_length_is_not_unpacked_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacked(**_: object) -> None:
        pytest.fail("it was unpacked")

    data = zstd.compress(bytes(1 << 20))
    monkeypatch.setattr(zstd, "ZstdDecompressor", unpacked)
    with pytest.raises(ChunkDamaged, match="another length than its header says"):
        unpack(envelope(ZSTD, CHUNK, data), "x")


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<4sBBHII", b"FFcl", 1, RAW, 0, 5, 5),
        struct.pack("<4sBBHII", b"FFck", 0, RAW, 0, 5, 5),
    ],
    ids=["magic", "no version"],
)
def test_a_header_that_differs_in_one_field_is_not_taken_for_a_chunks(header: bytes) -> None:
    with pytest.raises(ChunkDamaged, match="no header that this program knows"):
        unpack(header + b"plain", "x")


def test_a_chunk_is_not_unsealed_under_the_digest_of_another() -> None:
    digest = digest_of_chunk(b"plain")
    assert unseal(envelope(RAW, 5, b"plain"), digest) == b"plain"
    with pytest.raises(ChunkDamaged, match="other bytes than were written"):
        unseal(envelope(RAW, 5, b"plaim"), digest)


@pytest.mark.parametrize("left", range(1, 6))
def test_a_header_that_is_cut_within_the_checkpoints_name_is_damage(left: int) -> None:
    packed = IndexHeader(CHUNK, CHUNK, checkpoint="cp-12").pack()
    assert read_header(BytesIO(packed), "x").checkpoint == "cp-12"
    with pytest.raises(IndexDamaged, match="cut short"):
        read_header(BytesIO(packed[:-left]), "x")


@pytest.fixture
def table() -> Iterator[SlotTable]:
    made = SlotTable(4)
    yield made
    made.close()


@pytest.mark.parametrize("offset", [0, DIGEST_BYTES, 4 * DIGEST_BYTES])
def test_a_table_is_filled_to_its_end_and_not_a_byte_further(table: SlotTable, offset: int) -> None:
    """An index may unpack to any length, and a temporary file must not grow with it."""
    fits = b"\x01" * (4 * DIGEST_BYTES - offset)
    table.fill(offset, fits)
    with pytest.raises(ValueError, match="more digests than slots"):
        table.fill(offset, fits + b"\x02")
    assert os.fstat(table._file.fileno()).st_size == 4 * DIGEST_BYTES
    assert b"".join(table.pieces(offset // DIGEST_BYTES)) == fits


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> int:
    for module in (cipher, stream):
        monkeypatch.setattr(module, "SEGMENT_BYTES", 64)
        monkeypatch.setattr(module, "STORED_SEGMENT_BYTES", 64 + 16)
    return 64


def test_an_object_of_several_segments_is_unsealed_whole(small_segments: int) -> None:
    data = bytes(at % 251 for at in range(5 * small_segments - 7))
    sealing = ObjectCipher(bytes(32))
    assert sealing.unseal(NAME, bytes(sealing.seal(NAME, data))) == data


def test_a_stream_is_read_from_the_segment_that_its_place_is_in(small_segments: int) -> None:
    data = bytes(range(4 * small_segments))
    sealing = ObjectCipher(bytes(32))
    with stream.unsealing(sealing, NAME, BytesIO(sealing.seal(NAME, data))) as source:
        for segment in (3, 0, 2, 1, 1):
            at = segment * small_segments + 5
            assert source.seek(at) == source.tell() == at
            assert source.read(small_segments - 5) == data[at : (segment + 1) * small_segments]
        assert source.seek(-3, os.SEEK_END) == len(data) - 3
        assert source.read() == data[-3:]


def test_each_segment_is_unsealed_once_however_small_the_reads_are(
    small_segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an index of a large disk would take a second for each of its megabytes."""
    numbers: list[int] = []
    unseal = cipher.Segments.unseal

    def counted(segments: cipher.Segments, number: int, data: bytes, *, last: bool) -> bytes:
        numbers.append(number)
        return unseal(segments, number, data, last=last)

    monkeypatch.setattr(cipher.Segments, "unseal", counted)
    sealing = ObjectCipher(bytes(32))
    with stream._Unsealed(sealing, NAME, BytesIO(sealing.seal(NAME, bytes(4 * small_segments)))) as source:
        while source.read(5):
            pass
    assert numbers == [0, 1, 2, 3]


def test_a_stream_that_was_closed_is_closed() -> None:
    sealing = ObjectCipher(bytes(32))
    source = stream.unsealing(sealing, NAME, BytesIO(sealing.seal(NAME, b"data")))
    source.close()
    assert source.closed
    with pytest.raises(ValueError, match="closed"):
        source.read()
