"""The keys that are derived from the master key, one for each purpose, and what two of them are for: names and the config."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hmac import HMAC

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
    _namings: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict, init=False, repr=False, compare=False)

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

    def naming(self, kind: str) -> Callable[[bytes], bytes]:
        """Return the function from a digest to the 32 bytes that stand for it in the name of an object of that kind.

        Any thread may call it. The key is hashed once and its state copied for each digest: 0.8 µs instead of 2.1.
        """
        if kind not in self._namings:
            self._namings[kind] = _naming(self.names, kind)
        return self._namings[kind]

    def hide_id(self, capture_id: bytes) -> bytes:
        """The 32 bytes that stand for a capture's id of 16. The same id always gives the same."""
        return AESSIV(self.manifest_names).encrypt(capture_id, None)

    def show_id(self, hidden: bytes) -> bytes | None:
        """The capture's id; None for what `hide_id` has not made."""
        try:
            return AESSIV(self.manifest_names).decrypt(hidden, None)
        except (InvalidTag, ValueError):
            return None


def _naming(key: bytes, kind: str) -> Callable[[bytes], bytes]:
    keyed = HMAC(key, hashes.SHA256())
    keyed.update(kind.encode() + b"\0")

    def name_of(digest: bytes) -> bytes:
        state = keyed.copy()
        state.update(digest)
        return state.finalize()

    return name_of
