"""One key slot: the master key wrapped under one secret, and what is said about it.

A slot is read from a place that anybody may have written to, so everything in it has a pattern or a bound, and what it says
is believed once it has been opened.
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import AwareDatetime, Discriminator, StringConstraints

from freezeframe.repository.crypto.cipher import ObjectCipher
from freezeframe.repository.crypto.kdf import Kdf, KeyFileKdf, ScryptKdf, sort_for, wrapping_key
from freezeframe.repository.crypto.keys import Keys
from freezeframe.repository.crypto.secret import Secret
from freezeframe.repository.document import (
    Document,
    DocumentDamagedError,
    DocumentNewerError,
    canonical,
    checksum_of,
    is_whole,
    understood,
    whole,
)
from freezeframe.repository.errors import KeySlotDamaged, NewerFormat

SALT_BYTES = 32

#: The wrapping key is made from a random salt and encrypts one thing ever.
_NONCE = bytes(12)

Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Hex48 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{96}$")]
HexText = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})*$", max_length=8192)]


class About(Document):
    """A slot's description of itself, for those who have the master key."""

    label: str
    created_at: AwareDatetime


class KeySlot(Document):
    """A key slot as it is stored, under a name that is not in it but for the checksum."""

    format: Literal[1] = 1
    repository: UUID
    kdf: Annotated[ScryptKdf | KeyFileKdf, Discriminator("name")]
    salt: Hex32
    wrapped: Hex48
    about: HexText
    checksum: Hex32

    def to_json(self) -> bytes:
        """Return the stored form."""
        return canonical(self.content())

    def open(self, name: str, secret: Secret) -> bytes | None:
        """The master key; None if the secret is not this slot's, or somebody has changed the slot and its checksum."""
        if sort_for(self.kdf) is not secret.sort:
            return None
        salt = bytes.fromhex(self.salt)
        aead = AESGCM(wrapping_key(secret, self.kdf, salt))
        try:
            return aead.decrypt(_NONCE, bytes.fromhex(self.wrapped), _bound(self.repository, self.kdf, self.salt, name))
        except InvalidTag:
            return None

    def read_about(self, name: str, keys: Keys) -> About:
        """Return the slot's description.

        Raises KeySlotDamaged and ObjectDamaged, both also for a slot of another master key; and NewerFormat.
        """
        try:
            raw = json.loads(ObjectCipher(keys.objects).unseal(name, bytes.fromhex(self.about)))
            return understood(About, raw if isinstance(raw, dict) else {})
        except DocumentNewerError as error:
            raise _newer(name, str(error)) from error
        except (ValueError, RecursionError) as error:
            raise KeySlotDamaged(f"Key slot {name} does not say what it is.") from error


def make_slot(
    name: str, repository: UUID, keys: Keys, secret: Secret, kdf: Kdf, label: str, now: datetime | None = None
) -> KeySlot:
    """A slot that opens with this secret, for that name."""
    salt = secrets.token_bytes(SALT_BYTES)
    bound = _bound(repository, kdf, salt.hex(), name)
    about = About(label=label, created_at=now or datetime.now(UTC))
    content: dict[str, Any] = {
        "format": 1,
        "repository": str(repository),
        "kdf": kdf.model_dump(),
        "salt": salt.hex(),
        "wrapped": AESGCM(wrapping_key(secret, kdf, salt)).encrypt(_NONCE, keys.master, bound).hex(),
        "about": ObjectCipher(keys.objects).seal(name, about.model_dump_json().encode()).hex(),
    }
    # with the name in it: another slot's content under this name opens with no secret, and must be told from a wrong one
    return KeySlot.model_validate({**content, "checksum": checksum_of({**content, "name": name})})


def parse_slot(data: bytes, name: str) -> KeySlot:
    """Return the slot in `data`.

    Raises NewerFormat for one that a newer version has written, and KeySlotDamaged, whatever else is in there.
    """
    try:
        slot = understood(KeySlot, whole(KeySlot, data, lambda raw: is_whole({**raw, "name": name})))
    except DocumentNewerError as error:
        raise _newer(name, str(error)) from error
    except DocumentDamagedError as error:
        raise KeySlotDamaged(f"Key slot {name} {error}.") from error
    if slot.has_unknown("kdf"):  # critical without being listed: it would change the key
        raise _newer(name, "this one does not know all of kdf")
    return slot


def _newer(name: str, why: str) -> NewerFormat:
    return NewerFormat(f"Key slot {name} was written by a newer version of freezeframe: {why}.")


def _bound(repository: UUID, kdf: Kdf, salt: str, name: str) -> bytes:
    """What the wrapped key is bound to: all that a reader uses to open it."""
    return canonical({"format": 1, "kdf": kdf.model_dump(), "name": name, "repository": str(repository), "salt": salt})
