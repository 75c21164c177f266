"""From a secret to the key that a key slot is wrapped with."""

from __future__ import annotations

import functools
import hashlib
from typing import Annotated, Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict, Field, model_validator

from freezeframe.repository.crypto.secret import Secret, SecretSort

KEY_BYTES: Final = 32

#: What a slot may ask of the machine that opens it: a slot is from outside until it has been opened.
MEMORY_BYTES_MAX: Final = 1 << 30


class ScryptKdf(BaseModel):
    """For passphrases. 128 · r · (n + p) bytes of memory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["scrypt"] = "scrypt"
    n: Annotated[int, Field(ge=2)] = 1 << 17
    r: Annotated[int, Field(ge=1)] = 8
    p: Annotated[int, Field(ge=1, le=16)] = 1

    @model_validator(mode="after")
    def _bounded(self) -> ScryptKdf:
        if self.n.bit_count() != 1 or 128 * self.r * (self.n + self.p) > MEMORY_BYTES_MAX:
            raise ValueError("scrypt's n is a power of two, and 128 · r · (n + p) is at most 1 GiB")
        if self.n.bit_length() > 16 * self.r:
            raise ValueError("scrypt's n is below 2 to the power of 16 · r")  # RFC 7914; OpenSSL refuses more
        return self


class KeyFileKdf(BaseModel):
    """For key files, which are random already."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["hkdf-sha256"] = "hkdf-sha256"


Kdf = ScryptKdf | KeyFileKdf


def kdf_for(sort: SecretSort) -> Kdf:
    """What a new slot for such a secret takes."""
    return ScryptKdf() if sort is SecretSort.PASSPHRASE else KeyFileKdf()


def sort_for(kdf: Kdf) -> SecretSort:
    """The secrets that such a slot is for."""
    return SecretSort.PASSPHRASE if isinstance(kdf, ScryptKdf) else SecretSort.KEY_FILE


def wrapping_key(secret: Secret, kdf: Kdf, salt: bytes) -> bytes:
    """32 bytes. A passphrase takes as long and as much memory as the slot asks for, but only once a process."""
    if isinstance(kdf, ScryptKdf):
        return _scrypt(secret.material, salt, kdf.n, kdf.r, kdf.p)
    return hkdf(secret.material, b"freezeframe slot", salt=salt)


def hkdf(key: bytes, info: bytes, *, salt: bytes | None = None, length: int = KEY_BYTES) -> bytes:
    """RFC 5869 with SHA-256."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(key)


@functools.lru_cache(maxsize=16)  # a worker opens the repository for every order
def _scrypt(passphrase: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    room = 128 * r * (n + p + 2) + (1 << 20)  # OpenSSL's own bound is 32 MiB
    return hashlib.scrypt(passphrase, salt=salt, n=n, r=r, p=p, maxmem=room, dklen=KEY_BYTES)
