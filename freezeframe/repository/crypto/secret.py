"""Secrets: what a person or a host opens an encrypted repository with, and where it comes from."""

from __future__ import annotations

import os
import shlex
import stat
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from freezeframe.repository.errors import SecretUnusable

if TYPE_CHECKING:
    from pathlib import Path

#: As many as the keys that are made from it: it is not stretched, so it must be as hard to guess as they are.
KEY_FILE_BYTES_MIN: Final = 32

#: More is no key file but a mistake, as a disk image is.
KEY_FILE_BYTES_MAX: Final = 1 << 20

HOW_TO_MAKE_ONE: Final = "Make one with: (umask 077; head -c 32 /dev/urandom > FILE)"


class SecretSort(StrEnum):
    PASSPHRASE = "passphrase"  # noqa: S105  the word for one
    KEY_FILE = "key-file"


@dataclass(frozen=True)
class Secret:
    """A passphrase or the content of a key file. Never shown: not in a repr, a log or an error."""

    sort: SecretSort
    material: bytes = field(repr=False)

    @classmethod
    def passphrase(cls, text: str) -> Secret:
        """Raises SecretUnusable for an empty one."""
        if not text:
            raise SecretUnusable("The passphrase is empty.")
        # the same letters may be typed as other code points on another keyboard (RFC 8265)
        return cls(SecretSort.PASSPHRASE, unicodedata.normalize("NFC", text).encode())

    @classmethod
    def passphrase_file(cls, path: Path) -> Secret:
        """All of the file, without one line end at its end. Raises SecretUnusable, naming the file, as `key_file` does."""
        try:
            text = _read(path, "passphrase file").decode()
        except UnicodeDecodeError as error:
            raise SecretUnusable(f"The passphrase file {path} is not UTF-8.") from error
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            raise SecretUnusable(f"The passphrase file {path} is empty.")
        return cls.passphrase(text)

    @classmethod
    def key_file(cls, path: Path) -> Secret:
        """Raises SecretUnusable for a file that cannot be read, is open to others or is none by its size, naming it."""
        material = _read(path, "key file")
        if len(material) < KEY_FILE_BYTES_MIN:
            raise SecretUnusable(
                f"The key file {path} has {len(material)} bytes, and {KEY_FILE_BYTES_MIN} random ones are the least.",
                advice=HOW_TO_MAKE_ONE,
            )
        return cls(SecretSort.KEY_FILE, material)


def open_to_others(status: os.stat_result, user_id: int) -> bool:
    """Return True if others than `user_id` can do more with a secret's file than they should. Pure.

    Others may do nothing with it. Its group may do nothing either if it is the user's own file, which is ssh's rule: one that
    root has made for the group of a service is root's to answer for. A pipe or a terminal is nobody's to keep.
    """
    if not stat.S_ISREG(status.st_mode):
        return False
    forbidden = stat.S_IRWXO | (stat.S_IRWXG if status.st_uid == user_id else 0)
    return bool(status.st_mode & forbidden)


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            if open_to_others(os.fstat(file.fileno()), os.geteuid()):
                raise SecretUnusable(
                    f"The {what} {path} is open to others than its owner.",
                    advice=f"Close it (`chmod 600 {shlex.quote(str(path))}`), and put another secret in its place if somebody "
                    "may have read it.",
                )
            data = file.read(KEY_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SecretUnusable(f"The {what} {path} cannot be read: {error.strerror}.") from error
    if len(data) > KEY_FILE_BYTES_MAX:
        raise SecretUnusable(f"The {what} {path} has more than {KEY_FILE_BYTES_MAX >> 20} MiB.")
    return data


class KeySource(Protocol):
    """Where the secret comes from. It is asked only when a repository turns out to be encrypted."""

    @property
    def expected(self) -> bool:
        """Return True if a secret is configured: then a repository without encryption is the wrong one, or was changed."""

    def secret(self) -> Secret | None:
        """None if there is none. Raises SecretUnusable."""


class NoKey:
    """For whoever has no secret."""

    expected = False

    def secret(self) -> Secret | None:
        return None


NO_KEY: Final = NoKey()
