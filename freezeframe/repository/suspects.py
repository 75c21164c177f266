"""Suspects: captures of which an audit has found that a disk is not what they have of it.

Either the capture was wrong (it was built upon another disk, say), or the disk has changed since and nothing recorded it. The
repository alone cannot tell which; but such a capture is to be verified, and no incremental may be built upon its disk again.

    an incremental's audit finds a difference ─▶ mark ─▶ `captures` shows it, `verify` looks at it ─▶ verified
                                                  └▶ planner: a full, for as long as the mark is there

A mark is a document of its own for each disk (`verified/suspect….json`), so that hosts mark without a lock. Its name alone says
that a disk is marked, so one that cannot be read keeps incrementals away all the same. It goes with its capture.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from freezeframe.contract.message import CaptureId, Digest, DiskTarget
from freezeframe.repository.document import checked, read_content
from freezeframe.repository.errors import NewerFormat, ObjectDamaged, ObjectNotFound
from freezeframe.repository.layout import VERIFIED, verified_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from freezeframe.repository.objects import Objects

_PREFIX: Final = "suspect"


class Suspect(BaseModel):
    """One disk of a capture that an audit has found different."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    capture_id: CaptureId
    index: Digest  # of the disk, in that capture
    guest: Annotated[str, Field(max_length=255)]  # its name, for people
    target: DiskTarget  # that the disk had when the difference was found
    found_by: CaptureId
    found_at: AwareDatetime
    reason: Annotated[str, Field(max_length=2000)]
    verified_at: AwareDatetime | None = None  # since then it is known that the capture is as it was written


class Marked:
    """The disks that are marked, by the names of their marks: nothing is read of them."""

    def __init__(self, objects: Objects, names: frozenset[str]) -> None:
        self._objects = objects
        self._names = names

    def has(self, capture_id: str, index: str) -> bool:
        """Return True if the disk with that index, in that capture, is marked."""
        return _name(self._objects, capture_id, index) in self._names


class Suspects:
    """All marks of a repository. Raises RepositoryNotReadable, RepositoryNotWritable, RepositoryFull."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def mark(self, suspect: Suspect) -> None:
        """Mark a disk, durably when this returns. The later mark of a disk takes the place of the earlier."""
        name = _name(self._objects, suspect.capture_id, suspect.index)
        data = checked(suspect.model_dump(mode="json"))
        self._objects.store.put(name, BytesIO(self._objects.protection.protect(name, data)))

    def marked(self) -> Marked:
        return Marked(self._objects, frozenset(self._names()))

    def all(self) -> list[Suspect]:
        """Return every mark that can be read, those of the newest captures first."""
        found = [self._read(name) for name in self._names()]
        return sorted(filter(None, found), key=lambda one: (one.capture_id, one.guest, one.target), reverse=True)

    def pending(self) -> list[Suspect]:
        """Return the marks of captures that nobody has verified since."""
        return [one for one in self.all() if one.verified_at is None]

    def note_verified(self, capture_ids: Iterable[str], at: datetime) -> list[Suspect]:
        """Note that captures are as they were written; the marks that this is news of."""
        wanted = set(capture_ids)
        found = [one for one in self.pending() if one.capture_id in wanted]
        for one in found:
            self.mark(one.model_copy(update={"verified_at": at}))
        return found

    def clear(self, capture_ids: Iterable[str]) -> None:
        """Take away the marks of captures that are forgotten. One that stays marks nothing."""
        wanted = set(capture_ids)
        for one in self.all():
            if one.capture_id in wanted:
                self._objects.store.delete(_name(self._objects, one.capture_id, one.index))

    def _names(self) -> Iterator[str]:
        return (name for name in self._objects.store.names(VERIFIED) if name.startswith(f"{VERIFIED}/{_PREFIX}"))

    def _read(self, name: str) -> Suspect | None:
        try:
            content = read_content(self._objects.protection.reveal(name, self._objects.store.get(name)))
            return None if content is None else Suspect.model_validate_json(content)
        except (ObjectNotFound, ObjectDamaged, NewerFormat, ValidationError):
            return None


def _name(objects: Objects, capture_id: str, index: str) -> str:
    """Return the name of a disk's mark. In an encrypted repository it says neither capture nor index."""
    key = objects.protection.key(_PREFIX, hashlib.sha256(f"{capture_id} {index}".encode()).digest())
    return verified_name(f"{_PREFIX}{key.hex()}")
