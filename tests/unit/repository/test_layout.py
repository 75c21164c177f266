"""What is a digest, and what is a chunk size."""

from __future__ import annotations

import pytest

from freezeframe.repository.layout import CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, digest_of, is_chunk_size


def test_a_digest_is_32_bytes_in_hex() -> None:
    assert digest_of("ab" * 32) == b"\xab" * 32


@pytest.mark.parametrize("text", ["", "ab", "ab" * 31, "ab" * 33, "xy" * 32, "a" * 63])
def test_nothing_else_is_one(text: str) -> None:
    """A shorter one would name another folder's object, and one of no length a folder."""
    with pytest.raises(ValueError, match=r"is not a SHA-256|fromhex"):
        digest_of(text)


def test_chunk_sizes_are_powers_of_two_from_4_kib_to_16_mib() -> None:
    assert [size for size in (1 << bits for bits in range(40)) if is_chunk_size(size)] == [
        1 << n for n in range(12, 25)
    ]
    for size in (0, -4096, CHUNK_BYTES_MIN - 1, CHUNK_BYTES_MIN + 1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX + 1):
        assert not is_chunk_size(size)
