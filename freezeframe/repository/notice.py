"""Notices: the documents by which writers and garbage collectors tell of each other, sessions and records of runs.

A flipped bit in a time could let something go too early, so they carry a checksum as all documents do.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import ValidationError

from freezeframe.contract.message import Shape
from freezeframe.repository.document import checked, content_of, is_newer_format, is_unknown_only
from freezeframe.repository.errors import NewerFormat, ObjectDamaged

if TYPE_CHECKING:
    from freezeframe.repository.objects import Objects
    from freezeframe.repository.protection import Stored

#: The format of all notices that this version writes and reads.
FORMAT: Final = 1

NoticeT = TypeVar("NoticeT", bound="Notice")


class Notice(Shape):
    """What is in one."""

    def stored(self, objects: Objects, name: str) -> Stored:
        """Its stored form under that name."""
        return objects.protection.protect(name, checked(self.model_dump(mode="json")))


def read_notice(objects: Objects, name: str, kind: type[NoticeT]) -> NoticeT | None:
    """The notice of that name; None if it is not what was written.

    Raises NewerFormat for one that a newer version has written, ObjectNotFound, RepositoryNotReadable.
    """
    stored = objects.store.get(name)
    try:
        raw = json.loads(objects.protection.reveal(name, stored))
        if is_newer_format(raw, FORMAT):
            raise _newer(objects, name)
        content = content_of(raw) if isinstance(raw, dict) else None
        return None if content is None else kind.model_validate_json(content)
    except ValidationError as error:
        if is_unknown_only(error):
            raise _newer(objects, name) from error
        return None
    except (ObjectDamaged, ValueError, RecursionError):
        return None


def _newer(objects: Objects, name: str) -> NewerFormat:
    return NewerFormat(f"{objects.store.address}/{name} was written by a newer version of freezeframe.")
