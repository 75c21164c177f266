"""Lineage: each manifest names the newest one that was there when it was sealed, so that a missing one leaves a trace.

    manifest 1 ◀── manifest 2 ◀──┬── manifest 3          counter: the predecessor's and one
                                 └── manifest 3'         sealed at once: a fork, which is no fault; 4 names both
                    └ forgotten: its tombstone stays, with its counter, its digest and its own predecessor

A manifest is known by its digest, SHA-256 of its plain form. The newest one has the highest counter, of two the later id. It is
looked for among the few that the store has had last, so that sealing does not become slower with the number of captures;
if that misses the newest, the chain only forks once more. Manifests from before there was a lineage have the counter 0.

A *tombstone* is written, settled, before the manifests that it is of are moved away: who finds neither a manifest nor its
tombstone knows that nobody has forgotten it. A copy of a repository has a document of the same form for the captures that it
lacks (`copying`).
"""

from __future__ import annotations

import hashlib
import json
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AwareDatetime, NonNegativeInt, PositiveInt
from ulid import ULID

from freezeframe import __version__
from freezeframe.contract.message import UNLESS_EMPTY, CaptureId, Digest, Shape
from freezeframe.repository.document import is_whole, understood
from freezeframe.repository.errors import (
    ManifestUnreadable,
    NewerFormat,
    ObjectNotFound,
    ObjectNotReadable,
    RepositoryError,
    RepositoryNotReadable,
)
from freezeframe.repository.layout import LINEAGE, MANIFESTS, is_tombstone, tombstone_name
from freezeframe.repository.notice import Notice, read_notice
from freezeframe.repository.refusal import check_not_away

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from freezeframe.repository.objects import Objects
    from freezeframe.repository.store.backend import Entry

#: Of how many manifests, and of how many tombstones, that were stored last the newest is chosen. As many as may be sealed at
#: once by several orchestrators; each is read once.
_LAST: Final = 4


class Predecessor(Shape):
    """The newest manifest that was there when another was sealed."""

    capture_id: CaptureId
    digest: Digest


class Lineage(Shape):
    """The place of a manifest among all that were sealed in the repository."""

    counter: PositiveInt
    predecessor: Predecessor | None = None
    #: Other manifests that nothing was sealed upon yet: of captures that were sealed at once. Left out where there is none.
    others: Annotated[tuple[Predecessor, ...], UNLESS_EMPTY] = ()


class Link(Shape):
    """A manifest, there or forgotten, as far as its lineage goes. One without a digest could not be read."""

    capture_id: CaptureId
    counter: NonNegativeInt = 0
    digest: Digest | None = None
    predecessor: Predecessor | None = None
    others: Annotated[tuple[Predecessor, ...], UNLESS_EMPTY] = ()

    @property
    def named(self) -> tuple[Predecessor, ...]:
        """Return the manifests that were there when it was sealed, as far as it says so."""
        return self.others if self.predecessor is None else (self.predecessor, *self.others)


class Tombstone(Notice):
    """The captures that were forgotten together; or, `not_copied`, that nobody has forgotten and this copy lacks."""

    format: Literal[1] = 1
    at: AwareDatetime
    host: str
    program: str
    captures: tuple[Link, ...]
    not_copied: Annotated[bool, UNLESS_EMPTY] = False


def tombstone_of(captures: Sequence[Link], *, not_copied: bool = False) -> Tombstone:
    """Return a tombstone as this program writes it now."""
    return Tombstone(
        at=datetime.now(UTC),
        host=socket.gethostname(),
        program=f"freezeframe {__version__}",
        captures=tuple(captures),
        not_copied=not_copied,
    )


@dataclass
class Tombstones:
    """All tombstones of a repository."""

    read: dict[str, Tombstone] = field(default_factory=dict)  # by name
    damaged: list[str] = field(default_factory=list)  # names
    unclear: list[RepositoryError] = field(default_factory=list)  # why others cannot be read: newer, or refused


def link_of(capture_id: str, data: bytes) -> Link | None:
    """Return the link of the manifest in `data`, also of one that a newer version has written; None if it is damaged. Pure."""
    try:
        raw: Any = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or not is_whole(raw):
        return None
    digest = hashlib.sha256(data).hexdigest()
    try:
        lineage = understood(Lineage, raw["lineage"])
    except (KeyError, ValueError, AttributeError):
        return Link(capture_id=capture_id, digest=digest)
    return Link(capture_id=capture_id, digest=digest, **dict(lineage))


def newest(links: Iterable[Link]) -> Link | None:
    """Return the link with the highest counter, of several the one with the latest id. Pure."""
    return max(links, key=lambda one: (one.counter, one.capture_id), default=None)


def next_after(there: Sequence[Link], forgotten: Sequence[Link] = ()) -> Lineage:
    """Return the lineage of a manifest that is sealed after these, of which the newest may have been forgotten. Pure."""
    head = newest((*there, *forgotten))
    counter = 1 if head is None else head.counter + 1
    before = None if head is None else _predecessor(head)
    named = {one for link in (*there, *forgotten) for one in link.named} | {before}
    # captures without a lineage are not linked with each other: an older version forgets them without a trace
    open_ends = [_predecessor(link) for link in there if link.counter > 0]
    others = sorted((one for one in open_ends if one is not None and one not in named), key=lambda one: one.capture_id)
    return Lineage(counter=counter, predecessor=before, others=tuple(others))


def _predecessor(link: Link) -> Predecessor | None:
    return None if link.digest is None else Predecessor(capture_id=link.capture_id, digest=link.digest)


def is_same_capture(stored: bytes, made: bytes) -> bool:
    """Return True if two manifests differ at most in where they stand among others. Pure.

    Two orchestrators that seal the same capture may each have found another one to be the newest.
    """
    if stored == made:
        return True
    try:
        documents = [json.loads(one) for one in (stored, made)]
    except (ValueError, RecursionError):
        return False
    if not all(isinstance(one, dict) and is_whole(one) for one in documents):
        return False
    stored_content, made_content = (
        {key: value for key, value in one.items() if key not in {"lineage", "checksum"}} for one in documents
    )
    return bool(stored_content == made_content)


class Lineages:
    """The links of a repository. Any thread may call."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._read: dict[str, Link] = {}  # of manifests that were read to find the newest; a manifest never changes

    def next(self, capture_id: str) -> Lineage:
        """Return the lineage of the manifest of a capture that is sealed now. Raises RepositoryNotReadable.

        The capture itself is passed over: it may be there by another's hand, or have been forgotten once.
        """
        known = [(entry, self._objects.protection.capture_id_of(entry.name)) for entry in self._entries()]
        there = [(entry, one) for entry, one in known if one is not None and one != capture_id]
        last = _last(there)
        self._read = {name: link for name, link in self._read.items() if name in {entry.name for entry, _ in last}}
        links = [link for entry, one in last if (link := self._link(entry.name, one)) is not None]
        return next_after(links, [one for one in self._forgotten_last() if one.capture_id != capture_id])

    def bury(self, capture_ids: Sequence[str]) -> None:
        """Write the tombstone of captures that are to be forgotten, settled when this returns. One that is gone is left out."""
        captures = [link for one in capture_ids if (link := self._to_bury(one)) is not None]
        if captures:
            self.put(tombstone_of(captures))

    def put(self, tombstone: Tombstone) -> None:
        """Write a tombstone under a name of its own, settled when this returns."""
        name = tombstone_name(str(ULID()))
        self._objects.store.put(name, BytesIO(tombstone.stored(self._objects, name)))

    def tombstones(self) -> Tombstones:
        """Return all tombstones. Raises RepositoryNotReadable if the store as a whole cannot be read."""
        found = Tombstones()
        for name in sorted(filter(is_tombstone, self._objects.store.names(LINEAGE))):
            try:
                one = read_notice(self._objects, name, Tombstone)
            except (NewerFormat, ObjectNotReadable) as error:
                found.unclear.append(error)
            except ObjectNotFound:
                pass
            else:
                if one is None:
                    found.damaged.append(name)
                else:
                    found.read[name] = one
        return found

    def _entries(self) -> list[Entry]:
        return list(self._objects.store.entries(MANIFESTS))

    def _link(self, name: str, capture_id: str) -> Link | None:
        if name not in self._read:
            found = self._manifest_link(capture_id)
            if found is None:
                return None
            self._read[name] = found
        return self._read[name]

    def _manifest_link(self, capture_id: str) -> Link | None:
        """Return the link of a manifest; None if it is gone, or cannot be read while others can."""
        try:
            return link_of(capture_id, self._objects.manifest(capture_id))
        except (ObjectNotFound, ManifestUnreadable):
            return None
        except RepositoryNotReadable as error:
            if error.transient:
                raise
            check_not_away(self._objects.store)
            return None

    def _to_bury(self, capture_id: str) -> Link | None:
        if not self._objects.store.exists(self._objects.protection.manifest_name(capture_id)):
            return None
        return self._manifest_link(capture_id) or Link(capture_id=capture_id)

    def _forgotten_last(self) -> list[Link]:
        there = (one for one in self._objects.store.entries(LINEAGE) if is_tombstone(one.name))
        entries = sorted(there, key=lambda one: (one.modified, one.name))
        found = [self._tombstone(entry.name) for entry in entries[-_LAST:]]
        return [link for one in found if one is not None for link in one.captures]

    def _tombstone(self, name: str) -> Tombstone | None:
        """Return a tombstone to choose the newest of; one that alone cannot be read only makes the chain fork."""
        try:
            return read_notice(self._objects, name, Tombstone)
        except (ObjectNotFound, NewerFormat):
            return None
        except ObjectNotReadable as error:
            if error.transient:
                raise
            return None


def _last(entries: list[tuple[Entry, str]]) -> list[tuple[Entry, str]]:
    """Return the manifests that were stored last, and those of the latest ids: a copy of a store may have other times."""
    by_time = sorted(entries, key=lambda one: (one[0].modified, one[1]))[-_LAST:]
    by_id = sorted(entries, key=lambda one: one[1])[-_LAST:]
    return list({one[1]: one for one in (*by_time, *by_id)}.values())
