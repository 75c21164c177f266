"""Suspects: captures of which an audit has found that a disk is not what they have of it.

Either the capture was wrong (it was built upon another disk, say), or the disk has changed since and nothing recorded it. The
repository alone cannot tell which; but such a capture is to be verified, and no incremental may be built upon its disk again.

    an incremental's audit finds a difference ─▶ mark ─▶ `captures` shows it, `verify` looks at it ─▶ verified
                                                  └▶ planner: a full, for as long as the mark is there

A mark is a document of its own for each disk (`verified/suspect….json`), so that hosts mark without a lock. Its name alone says
that a disk is marked, so one that cannot be read keeps incrementals away all the same, and is told. It goes with its capture.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AwareDatetime, Field

from freezeframe.contract.message import CaptureId, Digest, DiskTarget
from freezeframe.repository.document import CRITICAL
from freezeframe.repository.errors import RepositoryError
from freezeframe.repository.layout import VERIFIED, is_suspect, verified_name
from freezeframe.repository.notice import Notice, Unread, look_at_notice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.objects import Objects

_PREFIX: Final = "suspect"


class Suspect(Notice):
    """One disk of a capture that an audit has found different."""

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


@dataclass(frozen=True)
class Marks:
    """All marks, those of the newest captures first; and those that cannot be read, which mark their disks all the same."""

    suspects: tuple[Suspect, ...]
    unread: tuple[Unread, ...]


class Suspects:
    """All marks of a repository. Raises RepositoryNotReadable, RepositoryNotWritable, RepositoryFull."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def mark(self, suspect: Suspect) -> None:
        """Mark a disk, durably when this returns. The later mark of a disk takes the place of the earlier.

        A mark that a newer version has written stays, and so does one that the storage refuses: its name alone marks the disk.
        """
        name = _name(self._objects, suspect.capture_id, suspect.index)
        before = look_at_notice(self._objects, name, Suspect)
        if isinstance(before, Unread) and not before.damaged:
            return
        known = {field: getattr(suspect, field) for field in Suspect.model_fields if field != CRITICAL}
        mark = before.changed(known) if isinstance(before, Suspect) else suspect
        self._objects.store.put(name, BytesIO(mark.stored(self._objects, name)))

    def marked(self) -> Marked:
        return Marked(self._objects, frozenset(self._names()))

    def all(self) -> list[Suspect]:
        """Return every mark that can be read, those of the newest captures first."""
        return list(self.look().suspects)

    def look(self) -> Marks:
        """Return every mark. Raises RepositoryNotReadable if the store is away."""
        found = [look_at_notice(self._objects, name, Suspect) for name in sorted(self._names())]
        read = [one for one in found if isinstance(one, Suspect)]
        read.sort(key=lambda one: (one.capture_id, one.guest, one.target), reverse=True)
        return Marks(tuple(read), tuple(one for one in found if isinstance(one, Unread)))

    def captures_of(self, unread: Iterable[Unread], captures: Iterable[Manifest]) -> dict[str, list[str]]:
        """Return those of the captures that marks belong to which cannot be read, by the marks' names."""
        found: dict[str, list[str]] = {one.name: [] for one in unread}
        for manifest in captures if found else ():
            names = {_name(self._objects, manifest.capture_id, disk.index) for _, disk in manifest.disks()}
            for name in names & found.keys():
                found[name].append(manifest.capture_id)
        return found

    def pending(self) -> list[Suspect]:
        """Return the marks of captures that nobody has verified since."""
        return [one for one in self.all() if one.verified_at is None]

    def note_verified(self, capture_ids: Iterable[str], at: datetime) -> list[Suspect]:
        """Note that captures are as they were written; the marks that this is news of."""
        wanted = set(capture_ids)
        found = [one for one in self.pending() if one.capture_id in wanted]
        for one in found:
            self.mark(one.changed({"verified_at": at}))
        return found

    def clear(self, capture_ids: Iterable[str]) -> tuple[str, ...]:
        """Take away the marks of captures that are forgotten; return why some may be left. One that is left marks nothing.

        Raises nothing: the captures are forgotten by now.
        """
        wanted = set(capture_ids)
        try:
            marks = self.look()
            for one in marks.suspects:
                if one.capture_id in wanted:
                    self._objects.store.delete(_name(self._objects, one.capture_id, one.index))
        except RepositoryError as error:
            return (error.message,)
        return tuple(one.reason for one in marks.unread)

    def _names(self) -> Iterator[str]:
        return (name for name in self._objects.store.names(VERIFIED) if is_suspect(name))


def _name(objects: Objects, capture_id: str, index: str) -> str:
    """Return the name of a disk's mark. In an encrypted repository it says neither capture nor index."""
    key = objects.protection.key(_PREFIX, hashlib.sha256(f"{capture_id} {index}".encode()).digest())
    return verified_name(f"{_PREFIX}{key.hex()}")
