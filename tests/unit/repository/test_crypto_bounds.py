"""Bounds of secrets, slots and sealed objects: what is just allowed is taken, and what is not encrypted is told as such."""

from __future__ import annotations

import hashlib
import hmac
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import ValidationError

from freezeframe.repository.crypto import KeyFileKdf, Keys, ObjectCipher, ScryptKdf, Secret, SecretSort, new_master
from freezeframe.repository.crypto.kdf import kdf_for, sort_for, wrapping_key
from freezeframe.repository.crypto.secret import KEY_FILE_BYTES_MAX, KEY_FILE_BYTES_MIN
from freezeframe.repository.crypto.slot import make_slot
from freezeframe.repository.errors import KeySlotDamaged, NewerFormat, ObjectDamaged, SecretUnusable
from freezeframe.repository.layout import key_slot_name

from .locked import CHEAP, KEY_FILE, SECRET

NAME = key_slot_name("0" * 32)


def test_a_passphrase_is_stretched_and_a_key_file_is_not() -> None:
    """A passphrase that is not can be guessed a million times a second."""
    assert kdf_for(SecretSort.PASSPHRASE) == ScryptKdf()
    assert kdf_for(SecretSort.KEY_FILE) == KeyFileKdf()
    assert {sort: sort_for(kdf_for(sort)) for sort in SecretSort} == {sort: sort for sort in SecretSort}


def test_scrypt_may_take_a_gibibyte_and_no_byte_more() -> None:
    assert ScryptKdf(n=8, r=1 << 19, p=8).r == 1 << 19
    with pytest.raises(ValidationError, match="at most 1 GiB"):
        ScryptKdf(n=8, r=1 << 19, p=9)


def test_scrypts_n_is_bounded_by_its_r() -> None:
    assert ScryptKdf(n=1 << 15, r=1).n == 1 << 15
    with pytest.raises(ValidationError, match="below 2 to the power of"):
        ScryptKdf(n=1 << 16, r=1)


@pytest.mark.parametrize("kdf", [ScryptKdf(n=16, r=2048, p=16), ScryptKdf(n=1 << 12, r=32), ScryptKdf(n=2, r=1, p=1)])
def test_what_scrypt_needs_is_given_to_it_however_it_is_spread(kdf: ScryptKdf) -> None:
    assert len(wrapping_key(SECRET, kdf, bytes(32))) == 32


def test_no_secret_is_empty() -> None:
    with pytest.raises(SecretUnusable, match="empty"):
        Secret.passphrase("")


@pytest.mark.parametrize(
    ("length", "usable"),
    [
        (KEY_FILE_BYTES_MIN - 1, False),
        (KEY_FILE_BYTES_MIN, True),
        (KEY_FILE_BYTES_MAX, True),
        (KEY_FILE_BYTES_MAX + 1, False),
    ],
)
def test_a_key_file_has_as_many_bytes_as_it_may(tmp_path: Path, length: int, usable: bool) -> None:  # noqa: FBT001
    path = tmp_path / "key"
    path.write_bytes(os.urandom(length))
    path.chmod(0o600)
    if usable:
        assert len(Secret.key_file(path).material) == length
    else:
        with pytest.raises(SecretUnusable, match=str(path)):
            Secret.key_file(path)


def test_a_slot_that_does_not_say_what_it_is_is_damaged() -> None:
    keys = Keys.of(new_master())
    slot = make_slot(NAME, UUID(int=1), keys, SECRET, CHEAP, "first")
    assert slot.read_about(NAME, keys).label == "first"
    about = ObjectCipher(keys.objects).seal(NAME, b'{"label": "first"}').hex()
    with pytest.raises(KeySlotDamaged, match="does not say what it is"):
        slot.model_copy(update={"about": about}).read_about(NAME, keys)
    with pytest.raises(ObjectDamaged):
        slot.read_about(NAME, Keys.of(new_master()))


def test_a_slot_opens_with_its_own_secret_and_no_other() -> None:
    keys = Keys.of(new_master())
    slot = make_slot(NAME, UUID(int=1), keys, SECRET, CHEAP, "first")
    assert slot.open(NAME, SECRET) == keys.master
    assert slot.open(NAME, Secret.passphrase("another")) is None
    assert slot.open(NAME, KEY_FILE) is None


@pytest.mark.parametrize(
    "stored", [b"plain bytes that are long enough to have a header before them", b"FFen\x01\x01\0\0"]
)
def test_what_is_not_encrypted_is_told_as_such(stored: bytes) -> None:
    """It is what somebody put there without the key, and no medium's fault."""
    with pytest.raises(ObjectDamaged, match="is not encrypted as this repository's objects are, or is cut short"):
        ObjectCipher(bytes(32)).unseal("chunks/ab/abcd", stored)


def test_an_object_of_a_later_version_is_not_told_as_damaged_bytes() -> None:
    sealed = ObjectCipher(bytes(32)).seal("chunks/ab/abcd", b"data")
    for at, by in ((4, 1), (5, 2), (6, 1)):  # 2 is the algorithm of another suite
        changed = bytearray(sealed)
        changed[at] += by
        with pytest.raises(NewerFormat, match="chunks/ab/abcd was encrypted by a newer version of freezeframe"):
            ObjectCipher(bytes(32)).unseal("chunks/ab/abcd", bytes(changed))
    for at in (0, 4, 5):
        changed = bytearray(sealed)
        changed[at] = 0
        with pytest.raises(ObjectDamaged, match="is not encrypted as"):
            ObjectCipher(bytes(32)).unseal("chunks/ab/abcd", bytes(changed))


@pytest.mark.case("D1")
def test_names_are_what_the_format_says_from_many_threads_too() -> None:
    """Each is made from a copy of one keyed state, which nobody may change."""
    keys = Keys.of(new_master())
    for kind in ("chunks", "indexes"):
        digests = [hashlib.sha256(str(number).encode()).digest() for number in range(400)]
        with ThreadPoolExecutor(8) as pool:
            names = list(pool.map(keys.naming(kind), digests))
        assert names == [hmac.digest(keys.names, kind.encode() + b"\0" + one, "sha256") for one in digests]


def test_keys_with_states_in_them_show_nothing_and_are_equal_to_others_of_the_same_master() -> None:
    master = new_master()
    one, other = Keys.of(master), Keys.of(master)
    one.naming("chunks")(bytes(32))
    assert one == other
    assert repr(one) == repr(other) == "Keys()"
