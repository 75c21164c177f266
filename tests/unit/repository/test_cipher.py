"""Sealed objects: what they promise, byte for byte."""

from __future__ import annotations

import io
from typing import BinaryIO

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.repository.crypto import ObjectCipher, Suite, cipher, stream
from freezeframe.repository.errors import NewerFormat, ObjectDamaged

KEY = bytes(range(32))
NAME = "chunks/ab/abcd"
SEGMENT = 64

some_data = st.binary(max_size=5 * SEGMENT)


@pytest.fixture(autouse=True, params=[*Suite], ids=str)
def suite(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Each suite in turn, with so small segments that a few hundred bytes are several."""
    found: Suite = request.param
    monkeypatch.setattr(ObjectCipher.__init__, "__defaults__", (found,))
    for module in (cipher, stream):
        monkeypatch.setattr(module, "SEGMENT_BYTES", SEGMENT)
        monkeypatch.setattr(module, "STORED_SEGMENT_BYTES", SEGMENT + 16)
    return found


def sealed(data: bytes) -> bytes:
    return bytes(ObjectCipher(KEY).seal(NAME, data))


def sealed_by_stream(data: bytes) -> bytes:
    return stream.sealing(ObjectCipher(KEY), NAME, io.BytesIO(data)).read()


def unsealed_by_stream(stored: bytes, name: str = NAME, key: bytes = KEY) -> bytes:
    with stream.unsealing(ObjectCipher(key), name, io.BytesIO(stored)) as source:
        return source.read()


@given(some_data)
def test_what_is_sealed_is_unsealed_in_memory_and_by_streams(data: bytes) -> None:
    for stored in (sealed(data), sealed_by_stream(data)):
        assert ObjectCipher(KEY).unseal(NAME, stored) == data
        assert unsealed_by_stream(stored) == data
        assert len(stored) == cipher.sealed_bytes(len(data))
        assert cipher.plain_bytes_of(len(stored)) == len(data)


@given(some_data, st.integers(0, 300))
def test_what_is_sealed_on_its_way_can_be_sealed_anew_and_from_its_place(data: bytes, taken: int) -> None:
    """As for an upload that is begun again. A new beginning has a salt, so a key, of its own."""
    source = io.BytesIO(b"before" + data)
    source.seek(6)
    sealing = stream.sealing(ObjectCipher(KEY), NAME, source)
    first = sealing.read(taken)
    assert sealing.tell() == len(first)
    sealing.seek(0)
    stored = sealing.read()
    assert unsealed_by_stream(stored) == data
    with pytest.raises(io.UnsupportedOperation):
        sealing.seek(1, io.SEEK_END)


@given(st.integers(0, 5), st.sampled_from([-1, 0, 1]))
def test_the_ends_of_segments_are_no_special_places(segments: int, beside: int) -> None:
    data = bytes(max(0, segments * SEGMENT + beside))
    assert unsealed_by_stream(sealed_by_stream(data)) == data


@given(st.binary(min_size=1, max_size=4 * SEGMENT), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 200))))
def test_a_stream_is_read_from_any_place(data: bytes, reads: list[tuple[int, int]]) -> None:
    with stream.unsealing(ObjectCipher(KEY), NAME, io.BytesIO(sealed(data))) as source:
        for at, length in reads:
            source.seek(at)
            assert source.read(length) == data[at : at + length]


def test_a_stream_closes_what_it_reads_from() -> None:
    under: BinaryIO = io.BytesIO(sealed_by_stream(b"x"))
    stream.unsealing(ObjectCipher(KEY), NAME, under).close()
    assert under.closed


@given(some_data, st.data())
def test_any_changed_byte_is_damage(data: bytes, choice: st.DataObject) -> None:
    stored = bytearray(sealed(data))
    at = choice.draw(st.integers(0, len(stored) - 1))
    stored[at] ^= choice.draw(st.integers(1, 255))
    told = (ObjectDamaged, NewerFormat) if 4 <= at < 8 else ObjectDamaged  # what says which form it has
    with pytest.raises(told, match=NAME):
        ObjectCipher(KEY).unseal(NAME, bytes(stored))
    with pytest.raises(told, match=NAME):
        unsealed_by_stream(bytes(stored))


@given(some_data, st.data())
def test_one_that_is_cut_short_is_damage_wherever_the_cut_is(data: bytes, choice: st.DataObject) -> None:
    stored = sealed(data)
    at_segments_end = st.sampled_from(range(40, len(stored), SEGMENT + 16))
    stored = stored[: choice.draw(st.integers(0, len(stored) - 1) | at_segments_end)]
    with pytest.raises(ObjectDamaged):
        ObjectCipher(KEY).unseal(NAME, stored)
    with pytest.raises(ObjectDamaged):
        unsealed_by_stream(stored)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_one_that_is_cut_at_a_segments_end_is_damage(kept: int) -> None:
    """Each segment that is left is as it was written; what is missing is the one that says that it is the last."""
    stored = sealed(bytes(3 * SEGMENT))[: 40 + kept * (SEGMENT + 16)]
    with pytest.raises(ObjectDamaged):
        ObjectCipher(KEY).unseal(NAME, stored)
    with pytest.raises(ObjectDamaged):
        unsealed_by_stream(stored)


@given(some_data, st.binary(min_size=1, max_size=200))
def test_one_with_more_behind_it_is_damage(data: bytes, more: bytes) -> None:
    stored = sealed(data) + more
    with pytest.raises(ObjectDamaged):
        ObjectCipher(KEY).unseal(NAME, stored)
    with pytest.raises(ObjectDamaged):
        unsealed_by_stream(stored)


@given(st.binary(max_size=300))
def test_garbage_is_damage(garbage: bytes) -> None:
    for data in (garbage, b"FFen\x01\x01\x00\x00" + garbage, b"FFen\x01\x02\x00\x00" + garbage):
        with pytest.raises(ObjectDamaged):
            ObjectCipher(KEY).unseal(NAME, data)
        with pytest.raises(ObjectDamaged):
            unsealed_by_stream(data)


def test_another_name_or_key_is_damage() -> None:
    stored = sealed(b"data")
    for name, key in (("indexes/ab/abcd", KEY), ("chunks/ab/abce", KEY), (NAME, bytes(32))):
        with pytest.raises(ObjectDamaged):
            ObjectCipher(key).unseal(name, stored)


def test_segments_in_another_order_are_damage() -> None:
    stored = sealed(bytes(2 * SEGMENT) + b"last")
    first, second = stored[40:120], stored[120:200]
    with pytest.raises(ObjectDamaged):
        ObjectCipher(KEY).unseal(NAME, stored[:40] + second + first + stored[200:])


def test_the_same_bytes_are_never_sealed_the_same() -> None:
    """Each object has a key of its own: else equal nonces would show what two objects differ in."""
    one, other = (sealed(b"the same")[8:] for _ in range(2))
    assert one[:32] != other[:32]
    assert one[32:] != other[32:]


def test_one_suite_does_not_unseal_what_another_has_sealed(suite: Suite) -> None:
    """Also with the other's number in the header: no key is used in two ways."""
    (other,) = set(Suite) - {suite}
    stored = ObjectCipher(KEY, other).seal(NAME, b"data")
    with pytest.raises(ObjectDamaged, match=f"{NAME} is not {suite.value} as this repository's objects are"):
        ObjectCipher(KEY, suite).unseal(NAME, bytes(stored))
    stored[5] = suite.algorithm
    with pytest.raises(ObjectDamaged, match="is not what was written under that name"):
        ObjectCipher(KEY, suite).unseal(NAME, bytes(stored))


@pytest.mark.parametrize("moved", range(1, 4))
def test_bytes_cannot_move_between_the_name_and_the_data(moved: int) -> None:
    """The tag of an authenticated object is of both."""
    data = b"abcd/00"
    stored = sealed(data)
    with pytest.raises(ObjectDamaged):
        ObjectCipher(KEY).unseal(NAME + data[:moved].decode(), stored[:40] + stored[40 + moved :])
    with pytest.raises(ObjectDamaged):
        ObjectCipher(KEY).unseal(NAME[:-moved], stored[:40] + NAME[-moved:].encode() + stored[40:])


def test_a_sealed_object_is_as_documented(suite: Suite) -> None:
    data = b"a" * SEGMENT + b"b"
    stored = sealed(data)
    encrypted = suite is Suite.ENCRYPTED
    assert stored[:8] == b"FFen" + bytes([1, 1 if encrypted else 2, 0, 0])
    purpose = b"freezeframe object" if encrypted else b"freezeframe authenticated object"
    key = AESGCM(HKDF(hashes.SHA256(), 32, stored[8:40], purpose).derive(KEY))
    bound, second = stored[:40] + NAME.encode(), 40 + SEGMENT + 16
    nonces = bytes(12), bytes([1] + [0] * 10 + [1])
    if encrypted:
        assert key.decrypt(nonces[0], stored[40:second], bound) == b"a" * SEGMENT
        assert key.decrypt(nonces[1], stored[second:], bound) == b"b"
    else:
        assert stored[40 : 40 + SEGMENT] == b"a" * SEGMENT
        assert stored[second : second + 1] == b"b"
        assert stored[40 + SEGMENT : second] == key.encrypt(nonces[0], b"", bound + b"\0" + b"a" * SEGMENT)
        assert stored[second + 1 :] == key.encrypt(nonces[1], b"", bound + b"\0b")
