"""Guests by the words that people name them with. A UUID means that guest and nothing else; a name is only a label.

libvirt accepts almost every name: spaces, commas, colons, `@`, quotes, `$`, a leading dash or dot, any script. It refuses a
slash, a line feed and an empty name. [libvirt src/conf/domain_conf.c] A name may also look like another guest's UUID.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import Field

GuestT = TypeVar("GuestT")

#: How a caller names a guest: its UUID, its name, or `name@host`, which is longer by a host's id.
GuestWord = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^/\n\x00]+$")]

#: virsh takes a number for the id of a running guest, and a leading dash for an option.
_PLAIN = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
#: virsh reads this as a UUID before it looks for a name. [libvirt src/util/viruuid.c, virUUIDParse]
_UUID_OF_VIRSH = re.compile(r"(?:-*[0-9a-f]){32}", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class NamedGuest:
    """One guest, as a message tells of it and as a command means it. A sentence has its name: `f"Guest {guest} …"`."""

    name: str
    uuid: str

    def __str__(self) -> str:
        return self.name

    def option(self, value: str) -> str:
        """Return GUEST:VALUE for an option of `freezeframe capture`, as a shell must read it.

        By the UUID: a guest of the same name on another host may be in the capture too, of which a worker knows nothing.
        """
        return shlex.quote(f"{self.uuid}:{value}")

    @property
    def virsh(self) -> str:
        """A word for a shell that makes virsh mean this guest."""
        return virsh_word(self.name, self.uuid)


def meant(
    wanted: str, guests: Iterable[GuestT], uuid_of: Callable[[GuestT], str], name_of: Callable[[GuestT], str]
) -> list[GuestT]:
    """Return the guests that `wanted` means: a UUID that guest alone, a name all that have it; none if there is none.

    A guest whose name looks like a UUID goes by its own UUID only: its name would mean it whenever the other guest is gone.
    """
    if is_uuid(wanted):
        return [one for one in guests if uuid_of(one) == wanted.lower()]
    return [one for one in guests if name_of(one) == wanted]


def told_apart(guests: Iterable[tuple[str, str]]) -> str:
    """Return guests of one name, each as a UUID and the id of its host, as a sentence names them."""
    return " and ".join(f"{guest_uuid} of host {host_id}" for guest_uuid, host_id in guests)


def guest_options(guest_uuids: Iterable[str]) -> str:
    """Return the options that mean guests of one name one by one, as advice names them."""
    return " or ".join(f"--guest {guest_uuid}" for guest_uuid in guest_uuids)


def is_uuid(word: str) -> bool:
    """Return True for what is a guest's UUID by its form, in small or in capital letters."""
    return _UUID.fullmatch(word) is not None


def words_of(guest_uuid: str, name: str) -> set[str]:
    """Return all words that mean this guest, by `meant`; a UUID in small letters."""
    return {guest_uuid} if is_uuid(name) else {guest_uuid, name}


def virsh_word(name: str, guest_uuid: str) -> str:
    """Return a word for a shell that makes virsh mean this guest, whatever its name is."""
    return name if _PLAIN.fullmatch(name) and not _UUID_OF_VIRSH.fullmatch(name) else guest_uuid


def guest_word(name: str, guest_uuid: str) -> str:
    """Return a word for a shell that makes `freezeframe` mean this guest as an argument, whatever its name is.

    A name may look like an option, or like the UUID of another guest.
    """
    return guest_uuid if name.startswith("-") or is_uuid(name) else shlex.quote(name)


def argument(word: str) -> str:
    """Return a word as a shell must read it to pass it to `freezeframe` as an argument, also one that looks like an option."""
    return f"-- {shlex.quote(word)}" if word.startswith("-") else shlex.quote(word)
