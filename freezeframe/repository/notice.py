"""Notices: the documents that programs leave for each other in a repository.

Sessions and records of runs are for garbage collection: a flipped bit in a time could let something go too early. The others
are advice: what was verified, what is set aside, which captures are suspect.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from freezeframe.repository.document import Document, DocumentDamagedError, DocumentNewerError, parse
from freezeframe.repository.errors import (
    NewerFormat,
    ObjectDamaged,
    ObjectNotFound,
    ObjectNotReadable,
    RepositoryNotReadable,
)
from freezeframe.repository.refusal import check_alone

if TYPE_CHECKING:
    from freezeframe.repository.objects import Objects
    from freezeframe.repository.protection import Stored

NoticeT = TypeVar("NoticeT", bound="Notice")


class Why(StrEnum):
    """The reason for which a notice cannot be read."""

    DAMAGED = "damaged"
    NEWER = "newer"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Unread:
    """A notice that cannot be read, while others can."""

    name: str
    why: Why
    reason: str

    @property
    def damaged(self) -> bool:
        """Return True if it may be written over."""
        return self.why is Why.DAMAGED


class Notice(Document):
    """The content of one."""

    def stored(self, objects: Objects, name: str) -> Stored:
        """Return its stored form under that name."""
        return objects.protection.protect(name, self.to_json())


def read_notice(objects: Objects, name: str, kind: type[NoticeT]) -> NoticeT | None:
    """Return the notice of that name; None if it is not what was written, such as one that is too long.

    Raises NewerFormat for one that a newer version has written, ObjectNotFound, ObjectNotReadable if the storage refuses this
    one, and RepositoryNotReadable if the store as a whole is away.
    """
    try:
        return parse(kind, objects.protection.reveal(name, _stored(objects, name)))
    except DocumentNewerError as error:
        place = f"{objects.store.address}/{name}"
        raise NewerFormat(f"{place} was written by a newer version of freezeframe: {error}.") from error
    except (ObjectDamaged, DocumentDamagedError):
        return None


def look_at_notice(objects: Objects, name: str, kind: type[NoticeT]) -> NoticeT | Unread | None:
    """Return a notice of which the verb does not depend, or why it alone cannot be read; None if it is not there.

    Raises RepositoryNotReadable if the store as a whole is away.
    """
    try:
        found = read_notice(objects, name, kind)
    except ObjectNotFound:
        return None
    except NewerFormat as error:
        return Unread(name, Why.NEWER, error.message)
    except ObjectNotReadable as error:
        return Unread(name, Why.UNREADABLE, error.message)
    if found is None:
        return Unread(name, Why.DAMAGED, f"{objects.store.address}/{name} has other bytes than were written.")
    return found


def _stored(objects: Objects, name: str) -> bytes:
    try:
        return objects.store.get(name)
    except RepositoryNotReadable as error:
        check_alone(objects.store, error)
        raise ObjectNotReadable(error.message) from error
