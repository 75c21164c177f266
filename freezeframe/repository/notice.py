"""Notices: the documents that programs leave for each other in a repository.

Sessions and records of runs are for garbage collection: a flipped bit in a time could let something go too early. The others
are advice: what was verified, what is set aside, which captures are suspect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from freezeframe.repository.document import Document, DocumentDamagedError, DocumentNewerError, parse
from freezeframe.repository.errors import NewerFormat, ObjectDamaged, ObjectNotReadable, RepositoryNotReadable
from freezeframe.repository.refusal import check_not_away

if TYPE_CHECKING:
    from freezeframe.repository.objects import Objects
    from freezeframe.repository.protection import Stored

NoticeT = TypeVar("NoticeT", bound="Notice")


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


def _stored(objects: Objects, name: str) -> bytes:
    try:
        return objects.store.get(name)
    except RepositoryNotReadable as error:
        check_not_away(objects.store)
        raise ObjectNotReadable(error.message, transient=error.transient) from error
