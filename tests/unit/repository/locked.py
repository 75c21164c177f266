"""Repositories with keys to test with. Their scrypt is a cheap one: what it costs is no business of these tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezeframe.repository import Repository
from freezeframe.repository.crypto import ScryptKdf, Secret, SecretSort, Suite
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.address import create_store

from .samples import CHUNK

if TYPE_CHECKING:
    from pathlib import Path

    from freezeframe.repository.store import Store

CHEAP = ScryptKdf(n=2)
SECRET = Secret.passphrase("correct horse")
KEY_FILE = Secret(SecretSort.KEY_FILE, bytes(range(32)))


@dataclass(frozen=True)
class Key:
    """A configured secret, or none."""

    given: Secret | None = SECRET

    @property
    def expected(self) -> bool:
        return self.given is not None

    def secret(self) -> Secret | None:
        return self.given


KEY = Key()

#: What `locked` makes if nothing is said; the fixture `suite` sets it.
UNSAID = Suite.ENCRYPTED

#: What a repository may be.
PROTECTIONS = ["plain", "authenticated", "encrypted"]


def locked(store: Store | None = None, secret: Secret = SECRET, suite: Suite | None = None) -> Repository:
    """A repository with keys, in memory if nothing else is said; encrypted, unless the test has the fixture `suite`."""
    kdf = CHEAP if secret.sort is SecretSort.PASSPHRASE else None
    store, suite = store or MemoryStore(), suite or UNSAID
    return Repository.init_in(store, chunk_bytes=CHUNK, secret=secret, suite=suite, label="first", kdf=kdf)


def protected(protection: str, store: Store | None = None) -> Repository:
    """A repository of one of `PROTECTIONS`, in memory if nothing else is said."""
    if protection == "plain":
        return Repository.init_in(store or MemoryStore(), chunk_bytes=CHUNK)
    return locked(store, suite=Suite(protection))


def locked_at(root: Path) -> Repository:
    return locked(create_store(root, authenticated=True))


def names_of(store: MemoryStore) -> list[str]:
    """Every object there is."""
    return sorted(store._objects)
