from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from freezeframe.repository import Repository
from freezeframe.repository.crypto import KeyFileKdf, Keys, KeySlots, ScryptKdf, Secret, SecretSort, new_master
from freezeframe.repository.crypto.kdf import wrapping_key
from freezeframe.repository.crypto.secret import open_to_others
from freezeframe.repository.crypto.slot import make_slot, parse_slot
from freezeframe.repository.errors import (
    KeySlotDamaged,
    KeySlotNotFound,
    LastKeySlot,
    RepositoryError,
    SecretUnusable,
    WrongKey,
)
from freezeframe.repository.layout import key_slot_name
from freezeframe.repository.store import MemoryStore

from .locked import CHEAP, KEY, KEY_FILE, SECRET, Key, locked, names_of
from .samples import disk_of, read_disk, store_disk

OTHER = Secret.passphrase("battery staple")

pytestmark = pytest.mark.usefixtures("suite")


class Slots:
    """An encrypted repository's slots, and short words for what is done to them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.repository = locked(self.store)
        self.slots, self.keys = self.repository.encryption

    def add(self, secret: Secret, label: str) -> str:
        return self.slots.add(self.keys, secret, label, CHEAP if secret.sort is SecretSort.PASSPHRASE else None)

    def labels(self) -> list[str]:
        return [info.label for info in self.slots.list(self.keys)[0]]

    def remove(self, wanted: str) -> None:
        self.slots.remove(self.keys, self.slots.find(self.keys, wanted).slot_id)

    def opens(self, secret: Secret) -> bool:
        try:
            Repository.open_in(self.store, Key(secret))
        except RepositoryError:
            return False
        return True


@pytest.fixture
def slots() -> Slots:
    return Slots()


@pytest.mark.parametrize("secret", [OTHER, KEY_FILE])
def test_an_added_slot_opens_the_same_repository(slots: Slots, secret: Secret) -> None:
    index = store_disk(slots.repository, disk_of(b"a"))
    slots.add(secret, "second")
    assert slots.labels() == ["first", "second"]
    for key in (KEY, Key(secret)):
        assert read_disk(Repository.open_in(slots.store, key), index) == disk_of(b"a")


def test_a_removed_slot_opens_nothing(slots: Slots) -> None:
    slots.add(OTHER, "second")
    slots.remove("first")
    assert (slots.opens(SECRET), slots.opens(OTHER)) == (False, True)
    assert slots.labels() == ["second"]


def test_the_last_slot_is_not_removed(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for the moment until it is put back."""
    monkeypatch.setattr(slots.store, "delete", lambda name: pytest.fail(f"{name} was deleted"))
    with pytest.raises(LastKeySlot):
        slots.remove("first")
    assert slots.opens(SECRET)


def test_a_damaged_slot_is_none_that_could_be_left(slots: Slots) -> None:
    name = key_slot_name(slots.add(OTHER, "second"))
    slots.store.put(name, BytesIO(slots.store.get(name)[:-9]))
    with pytest.raises(LastKeySlot):
        slots.remove("first")


def test_two_who_remove_the_last_two_at_once_leave_one(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second removes its slot after the first has looked whether another is left."""
    first = slots.slots.find(slots.keys, "first").slot_id
    second = slots.add(OTHER, "second")
    delete = slots.store.delete

    def both(name: str) -> None:
        delete(name)
        delete(key_slot_name(second))

    monkeypatch.setattr(slots.store, "delete", both)
    with pytest.raises(LastKeySlot, match="has become"):
        slots.slots.remove(slots.keys, first)
    assert slots.opens(SECRET)


def test_a_slot_is_found_by_its_label_or_the_beginning_of_its_id(slots: Slots) -> None:
    added = slots.add(OTHER, "second")
    assert slots.slots.find(slots.keys, "second").slot_id == added
    assert slots.slots.find(slots.keys, added[:8].upper()).slot_id == added
    for wanted in ("", "third"):
        with pytest.raises(KeySlotNotFound):
            slots.slots.find(slots.keys, wanted)
    slots.add(OTHER, "second")
    with pytest.raises(KeySlotNotFound, match="2 key slots"):
        slots.slots.find(slots.keys, "second")


def test_a_damaged_slot_does_not_hide_the_others(slots: Slots) -> None:
    name = key_slot_name(slots.add(OTHER, "second"))
    slots.store.put(name, BytesIO(b"{}"))
    assert slots.opens(SECRET)
    infos, wrong = slots.slots.list(slots.keys)
    assert [info.label for info in infos] == ["first"]
    assert [name in message for message in wrong] == [True]
    with pytest.raises(KeySlotDamaged, match=name):
        Repository.open_in(slots.store, Key(OTHER))


def test_a_slot_is_not_for_secrets_of_the_other_sort() -> None:
    store = MemoryStore()
    locked(store, KEY_FILE)
    with pytest.raises(WrongKey, match="passphrase; 0 of 1"):
        Repository.open_in(store, Key(Secret(SecretSort.PASSPHRASE, KEY_FILE.material)))


def test_a_slot_under_anothers_name_does_not_open(slots: Slots) -> None:
    name = key_slot_name(slots.slots.find(slots.keys, "first").slot_id)
    moved = key_slot_name("ab" * 16)
    slots.store.put(moved, BytesIO(slots.store.get(name)))
    slots.store.delete(name)
    with pytest.raises(KeySlotDamaged, match=moved):
        Repository.open_in(slots.store, KEY)
    changed(slots, lambda _: None)  # now with a checksum for its new name
    with pytest.raises(WrongKey):
        Repository.open_in(slots.store, KEY)


def changed(slots: Slots, change: Callable[[dict[str, object]], None]) -> None:
    """Change the one slot, and give it a checksum that fits: what somebody who means it would do."""
    (name,) = [name for name in names_of(slots.store) if name.startswith("keys")]
    content = json.loads(slots.store.get(name))
    change(content)
    del content["checksum"]
    content["name"] = name
    text = json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    content["checksum"] = hashlib.sha256(text).hexdigest()
    del content["name"]
    slots.store.put(name, BytesIO(json.dumps(content).encode()))


@pytest.mark.parametrize("field", ["salt", "wrapped"])
def test_a_slot_that_was_changed_with_care_does_not_open(slots: Slots, field: str) -> None:
    changed(slots, lambda content: content.update({field: "00" * (len(str(content[field])) // 2)}))
    with pytest.raises(WrongKey):
        Repository.open_in(slots.store, KEY)


@pytest.mark.parametrize(
    "kdf",
    [
        {"name": "scrypt", "n": 1 << 24, "r": 8, "p": 1},
        {"name": "scrypt", "n": 2, "r": 1 << 30, "p": 1},
        {"name": "scrypt", "n": 3, "r": 8, "p": 1},
        {"name": "scrypt", "n": 2, "r": 8, "p": 1000},
        {},
    ],
)
def test_a_slot_that_asks_for_too_much_or_for_what_is_not_known_is_damaged(
    slots: Slots, kdf: dict[str, object]
) -> None:
    changed(slots, lambda content: content.update(kdf=kdf))
    with pytest.raises(KeySlotDamaged):
        Repository.open_in(slots.store, KEY)


@given(st.binary(max_size=300) | st.text(max_size=50).map(lambda text: json.dumps(text).encode()))
def test_garbage_is_damage(garbage: bytes) -> None:
    with pytest.raises(KeySlotDamaged, match="keys/x"):
        parse_slot(garbage, "keys/x")


def test_a_slot_is_as_documented(slots: Slots) -> None:
    repository, keys, name = slots.repository.config.id, Keys.of(new_master()), "keys/name"
    slot = make_slot(name, repository, keys, SECRET, CHEAP, "label")
    content = json.loads(slot.to_json())
    assert sorted(content) == ["about", "checksum", "format", "kdf", "repository", "salt", "wrapped"]
    bound = {key: content[key] for key in ("format", "kdf", "repository", "salt")} | {"name": name}
    key = hashlib.scrypt(b"correct horse", salt=bytes.fromhex(content["salt"]), n=2, r=8, p=1, dklen=32)
    text = json.dumps(bound, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    assert AESGCM(key).decrypt(bytes(12), bytes.fromhex(content["wrapped"]), text) == keys.master


def test_what_a_passphrase_costs_is_what_is_documented() -> None:
    assert (ScryptKdf().n, ScryptKdf().r, ScryptKdf().p) == (1 << 17, 8, 1)
    assert KeyFileKdf().name == "hkdf-sha256"
    for refused in ({"n": 1 << 21}, {"n": 2, "r": 1 << 22, "p": 16}, {"n": 1 << 16, "r": 1}, {"n": 3}):
        with pytest.raises(ValidationError):
            ScryptKdf(**refused)


@pytest.mark.parametrize("kdf", [ScryptKdf(n=1 << 15, r=1), ScryptKdf(n=2, r=1 << 14, p=16)])
def test_what_a_slot_may_ask_for_is_taken(kdf: ScryptKdf) -> None:
    assert len(wrapping_key(SECRET, kdf, bytes(32))) == 32


def test_slots_of_another_repository_are_ignored(slots: Slots) -> None:
    other = locked()
    assert KeySlots(slots.store, other.config.id).list(slots.keys) == ([], [])


# secrets


def test_a_passphrase_is_the_same_however_its_letters_are_composed() -> None:
    assert Secret.passphrase("caf\u00e9") == Secret.passphrase("cafe\u0301")


@pytest.mark.parametrize(
    ("content", "passphrase"), [(b"a b\n", "a b"), (b"a b\r\n", "a b"), (b"a b", "a b"), (b" a\n\n", " a\n")]
)
def test_a_passphrase_file_is_all_but_its_last_line_end(tmp_path: Path, content: bytes, passphrase: str) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(content)
    path.chmod(0o600)
    assert Secret.passphrase_file(path) == Secret.passphrase(passphrase)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", bytes((1 << 20) + 1), None])
def test_a_passphrase_file_that_cannot_be_one_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "passphrase"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(SecretUnusable, match=str(path)):
        Secret.passphrase_file(path)


@pytest.mark.parametrize("length", [0, 31, (1 << 20) + 1, None])
def test_a_key_file_that_cannot_be_one_is_refused_by_name(tmp_path: Path, length: int | None) -> None:
    path = tmp_path / "key"
    if length is not None:
        path.write_bytes(bytes(length))
        path.chmod(0o600)
    with pytest.raises(SecretUnusable, match=str(path)):
        Secret.key_file(path)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o640, 0o660, 0o777])
@pytest.mark.parametrize("read", [Secret.key_file, Secret.passphrase_file])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int, read: Callable[[Path], Secret]) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"0123456789abcdef" * 2)
    path.chmod(mode)
    with pytest.raises(SecretUnusable, match=f"{path} is open to others") as refused:
        read(path)
    assert f"chmod 600 {path}" in refused.value.hint
    path.chmod(0o400)
    assert read(path).material == b"0123456789abcdef" * 2


@pytest.mark.parametrize("name", ["my key", "a'b", "$(id)", "a;b"])
def test_the_printed_command_closes_the_file_whatever_its_name_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"0123456789abcdef" * 2)
    path.chmod(0o644)
    with pytest.raises(SecretUnusable) as refused:
        Secret.key_file(path)
    command = refused.value.hint.split("`")[1]
    subprocess.run(["sh", "-c", command], check=True)
    assert Secret.key_file(path).material == b"0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("mode", "owner", "refused"),
    [
        (stat.S_IFREG | 0o640, 1000, True),
        (stat.S_IFREG | 0o640, 0, False),  # root's, for the group of the service that reads it
        (stat.S_IFREG | 0o644, 0, True),
        (stat.S_IFIFO | 0o666, 1000, False),
    ],
)
def test_a_group_may_read_what_another_has_given_it(mode: int, owner: int, refused: bool) -> None:  # noqa: FBT001
    status = os.stat_result((mode, 0, 0, 1, owner, 0, 32, 0, 0, 0))
    assert open_to_others(status, user_id=1000) is refused
