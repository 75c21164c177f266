"""Guests by the words that people name them with. A UUID means that guest and nothing else; a name is only a label.

libvirt accepts almost every name: spaces, commas, colons, `@`, quotes, `$`, a leading dash or dot, any script. It refuses a
slash, a line feed and an empty name. [libvirt src/conf/domain_conf.c] A name may also look like another guest's UUID.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

from pydantic import Field

GuestT = TypeVar("GuestT")

#: How a caller names a guest: its UUID, its name, or `name@host`, which is longer by a host's id.
GuestWord = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^/\n\x00]+$")]

#: virsh takes a number for the id of a running guest, and a leading dash for an option.
_PLAIN = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


def meant(
    wanted: str, guests: Iterable[GuestT], uuid_of: Callable[[GuestT], str], name_of: Callable[[GuestT], str]
) -> list[GuestT]:
    """Return the guests that `wanted` means: the one with that UUID; else all with that name; none if there is none."""
    known = list(guests)
    by_uuid = [one for one in known if uuid_of(one) == wanted.lower()]
    return by_uuid or [one for one in known if name_of(one) == wanted]


def virsh_word(name: str, guest_uuid: str) -> str:
    """Return a word for a shell that makes virsh mean this guest, whatever its name is."""
    return name if _PLAIN.fullmatch(name) else guest_uuid


def shell_word(name: str) -> str:
    """Return a guest's name, or what contains one, as a shell must read it to pass it to `freezeframe`."""
    return shlex.quote(name)
