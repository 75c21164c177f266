"""The key slots of a repository: opened with a secret, added, removed, listed.

There is no lock. A slot appears whole, by its own random name, and two who remove the last two at once both find that none
is left, and put theirs back.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

from freezeframe.repository.crypto.kdf import kdf_for, sort_for
from freezeframe.repository.crypto.keys import Keys
from freezeframe.repository.crypto.slot import KeySlot, make_slot, parse_slot
from freezeframe.repository.errors import (
    KeySlotDamaged,
    KeySlotNotFound,
    LastKeySlot,
    NewerFormat,
    ObjectDamaged,
    ObjectNotFound,
    RepositoryNotReadable,
    WrongKey,
)
from freezeframe.repository.layout import CONFIG, KEYS, key_slot_id_of, key_slot_name
from freezeframe.repository.store.fault import not_there

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from freezeframe.repository.crypto.kdf import Kdf
    from freezeframe.repository.crypto.secret import Secret, SecretSort
    from freezeframe.repository.store.backend import Store


@dataclass(frozen=True)
class SlotInfo:
    """The description of a slot, as `key list` shows it."""

    slot_id: str
    sort: SecretSort
    label: str
    created_at: datetime


@dataclass
class _Found:
    """The slots of a repository by their ids, and sentences about those that cannot be used."""

    slots: dict[str, KeySlot] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    newer: dict[str, str] = field(default_factory=dict)  # which this version cannot open
    unreadable: dict[str, str] = field(default_factory=dict)  # which the storage does not give


class KeySlots:
    """The slots of the repository with that id."""

    def __init__(self, store: Store, repository: UUID) -> None:
        self._store = store
        self._repository = repository

    def exist(self) -> bool:
        """Return True if there is a slot of this repository, or one that may be: damaged, or of a newer version.

        Raises RepositoryNotReadable if that cannot be found out.
        """
        try:
            found = self._read()
        except RepositoryNotReadable as error:
            if not_there(error) and self._store.exists(CONFIG):  # else a mount has gone, and all with it
                return False
            raise
        if found.slots or found.newer or found.damaged:
            return True
        if found.unreadable:
            raise RepositoryNotReadable(" ".join(found.unreadable.values()))
        return False

    def unreadable(self) -> list[str]:
        """Return a sentence for each slot that the storage does not give."""
        return list(self._read().unreadable.values())

    def newer(self, keys: Keys) -> list[str]:
        """Return a sentence for each slot that a newer version has written, or whose description it has."""
        found = self._read()
        newer = list(found.newer.values())
        for slot_id, slot in found.slots.items():
            try:
                slot.read_about(key_slot_name(slot_id), keys)
            except NewerFormat as error:
                newer.append(error.message)
            except (KeySlotDamaged, ObjectDamaged):
                continue
        return newer

    def open(self, secret: Secret) -> Keys:
        """Return the repository's keys, by any slot that can be read and opens.

        Raises WrongKey; NewerFormat, RepositoryNotReadable or KeySlotDamaged if such a slot may be the reason.
        """
        found = self._read()
        for slot_id, slot in sorted(found.slots.items()):
            master = slot.open(key_slot_name(slot_id), secret)
            if master is not None:
                return Keys.of(master)
        if found.newer:
            raise NewerFormat(
                f"No key slot of {self._store.address} that this version knows opens with this {_word(secret.sort)}. "
                + " ".join(found.newer.values())
            )
        if found.unreadable:
            raise RepositoryNotReadable(
                f"No key slot of {self._store.address} that can be read opens with this {_word(secret.sort)}. "
                + " ".join(found.unreadable.values())
            )
        if found.damaged:
            raise KeySlotDamaged(
                f"No sound key slot of {self._store.address} opens with this {_word(secret.sort)}. "
                + " ".join(found.damaged.values())
            )
        if not found.slots:
            raise KeySlotDamaged(
                f"{self._store.address} has no key slot: somebody has removed them, or its id was changed."
            )
        tried = sum(sort_for(slot.kdf) is secret.sort for slot in found.slots.values())
        raise WrongKey(
            f"No key slot of {self._store.address} opens with this {_word(secret.sort)}; "
            f"{tried} of {len(found.slots)} are for one."
        )

    def add(self, keys: Keys, secret: Secret, label: str, kdf: Kdf | None = None) -> str:
        """A slot for this secret, settled when this returns; its id."""
        slot_id = secrets.token_hex(16)
        name = key_slot_name(slot_id)
        slot = make_slot(name, self._repository, keys, secret, kdf or kdf_for(secret.sort), label)
        self._store.put_if_absent(name, slot.to_json())
        return slot_id

    def list(self, keys: Keys) -> tuple[list[SlotInfo], list[str]]:
        """Return the slots that are sound and of these keys, oldest first, and what is wrong with the others.

        What a newer version has written, or cannot be read, is in neither.
        """
        found = self._read()
        infos, wrong = [], list(found.damaged.values())
        for slot_id, slot in found.slots.items():
            try:
                about = slot.read_about(key_slot_name(slot_id), keys)
            except NewerFormat:
                continue
            except (KeySlotDamaged, ObjectDamaged):
                wrong.append(f"Key slot {key_slot_name(slot_id)} is of other keys, or was changed.")
                continue
            infos.append(SlotInfo(slot_id, sort_for(slot.kdf), about.label, about.created_at))
        return sorted(infos, key=lambda info: (info.created_at, info.slot_id)), wrong

    def find(self, keys: Keys, wanted: str) -> SlotInfo:
        """Return the slot with that label, or whose id begins so.

        Raises KeySlotNotFound, also if it could be several; RepositoryNotReadable if it may be one that cannot be read.
        """
        infos, _ = self.list(keys)
        found = [one for one in infos if one.label == wanted] or [
            one for one in infos if wanted and one.slot_id.startswith(wanted.lower())
        ]
        if len(found) > 1:
            raise KeySlotNotFound(f"{len(found)} key slots could be {wanted!r}.", advice="Give more of its id.")
        if not found and (unreadable := self.unreadable()):
            raise RepositoryNotReadable(
                f"There is no key slot {wanted!r} among those of {self._store.address} that can be read. "
                + " ".join(unreadable)
            )
        if not found:
            raise KeySlotNotFound(f"There is no key slot {wanted!r} in {self._store.address}.")
        return found[0]

    def remove(self, keys: Keys, slot_id: str) -> None:
        """Take a slot away; one that is gone already is no error. Raises LastKeySlot, and then it is there as before."""
        if not self._others(keys, slot_id):
            raise LastKeySlot(f"{slot_id} is the last key slot of {self._store.address}.")
        name = key_slot_name(slot_id)
        try:
            content = self._store.get(name)
        except ObjectNotFound:
            return
        self._store.delete(name)
        if not self._others(keys, slot_id):
            self._store.put(name, BytesIO(content))
            raise LastKeySlot(f"{slot_id} has become the last key slot of {self._store.address}.")

    def _others(self, keys: Keys, slot_id: str) -> bool:
        return any(info.slot_id != slot_id for info in self.list(keys)[0])

    def _read(self) -> _Found:
        found = _Found()
        for name in self._store.names(KEYS):
            slot_id = key_slot_id_of(name)
            if slot_id is None:
                continue
            try:
                slot = parse_slot(self._store.get(name), name)
            except ObjectNotFound:
                continue  # removed since it was listed
            except (KeySlotDamaged, ObjectDamaged) as error:
                found.damaged[slot_id] = error.message
                continue
            except NewerFormat as error:
                found.newer[slot_id] = error.message
                continue
            except RepositoryNotReadable as error:
                if error.transient:
                    raise  # the storage is away, not this slot: to ask for the next one would take as long again
                found.unreadable[slot_id] = error.message
                continue
            if slot.repository == self._repository:
                found.slots[slot_id] = slot
        return found


def _word(sort: SecretSort) -> str:
    return sort.value.replace("-", " ")
