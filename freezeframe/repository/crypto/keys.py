"""The keys that are derived from the master key, one for each purpose, and what two of them are for: names and the config."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from freezeframe.repository.crypto.kdf import KEY_BYTES, hkdf


def new_master() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


@dataclass(frozen=True)
class Keys:
    """All keys of a repository. None of them is ever shown."""

    master: bytes = field(repr=False)
    config: bytes = field(repr=False)
    names: bytes = field(repr=False)
    manifest_names: bytes = field(repr=False)
    objects: bytes = field(repr=False)

    @classmethod
    def of(cls, master: bytes) -> Keys:
        return cls(
            master=master,
            config=hkdf(master, b"freezeframe config"),
            names=hkdf(master, b"freezeframe names"),
            manifest_names=hkdf(master, b"freezeframe manifest names", length=2 * KEY_BYTES),  # SIV has two keys
            objects=hkdf(master, b"freezeframe objects"),
        )

    def config_mac(self, content: bytes) -> bytes:
        return hmac.digest(self.config, content, hashlib.sha256)

    def name_of(self, kind: str, digest: bytes) -> bytes:
        """The 32 bytes that stand for a digest in the name of an object of that kind."""
        return hmac.digest(self.names, kind.encode() + b"\0" + digest, hashlib.sha256)

    def hide_id(self, capture_id: bytes) -> bytes:
        """The 32 bytes that stand for a capture's id of 16. The same id always gives the same."""
        return AESSIV(self.manifest_names).encrypt(capture_id, None)

    def show_id(self, hidden: bytes) -> bytes | None:
        """The capture's id; None for what `hide_id` has not made."""
        try:
            return AESSIV(self.manifest_names).decrypt(hidden, None)
        except (InvalidTag, ValueError):
            return None
