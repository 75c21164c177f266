"""Setting aside: a damaged chunk or index is moved out of writers' sight, so that the next capture writes it anew.

    create damaged/x.json ─▶ move chunks/ab/x to damaged/x ─▶ look at it there ─▶ damaged: stays   sound: back, and forgotten
    (whoever creates it, moves it)

A sound object may lie here, set aside by a host with bad memory, so nothing here is ever replaced or deleted unseen.
`verify/review.py` is the way out again. What two who verify do to each other, and what is left by one who dies, stands in
docs/repository.md.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum, auto
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal

from pydantic import AwareDatetime

from freezeframe.contract.message import Digest
from freezeframe.repository.chunk import digest_of_chunk, unpack
from freezeframe.repository.errors import (
    AlreadyExists,
    ChunkDamaged,
    IndexDamaged,
    NewerFormat,
    ObjectDamaged,
    ObjectNotFound,
    ObjectNotReadable,
    RepositoryNotReadable,
)
from freezeframe.repository.index import index_at
from freezeframe.repository.layout import (
    CHUNKS,
    DAMAGED,
    INDEXES,
    damaged_document,
    damaged_name,
    damaged_name_of_its_own,
    digest_of,
    folder_of,
    set_aside_stem,
)
from freezeframe.repository.notice import Notice, read_notice
from freezeframe.repository.store.fault import of_the_medium
from freezeframe.repository.store_clock import measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezeframe.repository.objects import Objects

#: Age of a claim after which whoever made it counts as dead. A move takes seconds; a request to object storage that is
#: answered after an hour is not.
_CLAIM: Final = timedelta(hours=1)


class Kind(StrEnum):
    CHUNK = "chunk"
    INDEX = "index"


class Verdict(Enum):
    """The answer of one host to a look at an object in `damaged/`. UNKNOWN: the storage refuses it, so it may be sound."""

    SOUND = auto()
    DAMAGED = auto()  # or not there
    UNKNOWN = auto()


class AsideDocument(Notice):
    """A statement of what is set aside, when and why."""

    format: Literal[1] = 1
    kind: Kind
    digest: Digest
    found_at: AwareDatetime  # by the host's clock, for people; the store's time of the document is when it was claimed
    reason: str


@dataclass(frozen=True)
class Aside:
    """Something in `damaged/`, by the last part of its first name. `document` is None if it cannot be read or is not there.

    If that is because a newer version has written it, what is there is for that version to deal with.
    """

    stem: str
    document: AsideDocument | None
    objects: tuple[str, ...] = ()  # their names: one as a rule
    newer: bool = False
    refused: str = ""  # why the storage does not give the document

    @property
    def has_object(self) -> bool:
        return bool(self.objects)

    @property
    def object_name(self) -> str:
        return f"{DAMAGED}/{self.stem}"

    @property
    def document_name(self) -> str:
        return f"{DAMAGED}/{self.stem}.json"


def now() -> datetime:
    return datetime.now(UTC)


def first_name(objects: Objects, kind: Kind, digest: bytes) -> str:
    return objects.protection.locate(digest) if kind is Kind.CHUNK else objects.protection.index_name(digest)


def set_aside(objects: Objects, kind: Kind, digest: bytes, reason: str) -> bool:
    """Move a damaged object to `damaged/`; True if it is there now. What is there already is not replaced: it may be sound.

    False: somebody else is at it, it is gone, or it was sound after all. Raises RepositoryNotWritable and RepositoryFull.
    """
    name = first_name(objects, kind, digest)
    if not _claim(objects, name, AsideDocument(kind=kind, digest=digest.hex(), found_at=now(), reason=reason)):
        return False
    place, alone = damaged_name(name), True
    if objects.is_taken(place):
        place, alone = _name_of_its_own(name), False
    try:
        _move(objects, name, place)
    except ObjectNotFound:
        return False
    if look_aside(objects, kind, digest, place) is Verdict.SOUND:
        put_back(objects, kind, digest, place, alone=alone)
        return False
    return True


def _name_of_its_own(name: str) -> str:
    return damaged_name_of_its_own(name, secrets.token_hex(16))


def _claim(objects: Objects, name: str, document: AsideDocument) -> bool:
    place = damaged_document(name)
    stored = bytes(document.stored(objects, place))
    try:
        objects.store.put_if_absent(place, stored)
    except AlreadyExists:
        if not _is_abandoned(objects, place):
            return False
        objects.store.put(place, BytesIO(stored))
    return True


def _is_abandoned(objects: Objects, place: str) -> bool:
    """Return True if the claim is so old, by the store's clock, that its maker has died; or if it is gone."""
    try:
        read_document(objects, place)
        claimed_at = objects.store.modified(place)
    except ObjectNotFound:
        return True
    except (NewerFormat, ObjectNotReadable):
        return False  # a newer version is at it, or another host
    return measure(objects.store, now).theirs - claimed_at >= _CLAIM


def look_aside(objects: Objects, kind: Kind, digest: bytes, place: str) -> Verdict:
    """Return the verdict on the object set aside at that place. One that a newer version has written is sound.

    Raises RepositoryNotReadable if the store is away.
    """
    objects.store.drop_cached(place)
    try:
        if kind is Kind.CHUNK:
            objects.chunk_at(place, digest)
        else:
            index_at(objects, place, digest).close()
    except NewerFormat:
        return Verdict.SOUND
    except (ObjectNotFound, ObjectDamaged, ChunkDamaged, IndexDamaged):
        return Verdict.DAMAGED
    except RepositoryNotReadable as error:
        if error.transient:
            raise
        return Verdict.DAMAGED if of_the_medium(error) else Verdict.UNKNOWN
    return Verdict.SOUND


def sound_without_document(objects: Objects, place: str, stem: str) -> tuple[Kind, bytes] | None:
    """Return what the object at that place is, if it is sound: its content says so, and its first name is made of that.

    Raises RepositoryNotReadable if the store is away.
    """
    for kind, folder in ((Kind.CHUNK, CHUNKS), (Kind.INDEX, INDEXES)):
        name = f"{folder}/{stem[:2]}/{stem}"
        objects.store.drop_cached(place)
        try:
            if kind is Kind.CHUNK:
                digest = digest_of_chunk(unpack(objects.protection.reveal(name, objects.store.get(place)), stem))
            else:
                with objects.store.open(place) as source, objects.protection.reveal_stream(name, source) as plain:
                    digest = hashlib.file_digest(plain, "sha256").digest()  # type: ignore[arg-type]  # a BinaryIO is enough
        except (ObjectNotFound, ObjectDamaged, ChunkDamaged, NewerFormat, RepositoryNotReadable) as error:
            if error.transient:
                raise
            continue
        if first_name(objects, kind, digest) == name:
            return kind, digest
    return None


def put_back(objects: Objects, kind: Kind, digest: bytes, place: str, *, alone: bool) -> None:
    """Give what is set aside its first name again. If it has been written anew since, that is the same bytes.

    `alone`: nothing else of that name is set aside, so its document goes too.
    """
    name = first_name(objects, kind, digest)
    try:
        _move(objects, place, name)
    except ObjectNotFound:
        return  # another was faster
    if alone:
        objects.store.delete(damaged_document(name))


def _move(objects: Objects, name: str, to: str) -> None:
    """Durably: nothing that is done next may outlive the move."""
    objects.store.move(name, to)
    objects.store.settle([folder_of(to), folder_of(name)])


def clear(objects: Objects, aside: Aside, may_go: Callable[[str], bool]) -> bool:
    """Delete an object that was set aside, then its document; return True if that was done.

    Each object is moved to a name of its own first, where no other host puts anything, and `may_go` is asked with that name:
    another host may have moved another object to `damaged/` meanwhile. An object that may not go stays there.
    """
    for place in aside.objects:
        own = _name_of_its_own(aside.object_name)
        try:
            _move(objects, place, own)
        except ObjectNotFound:
            continue  # another is at it
        if not may_go(own):
            return False
        objects.store.delete(own)
    objects.store.settle([DAMAGED])
    if is_as_reviewed(objects, aside):
        objects.store.delete(aside.document_name)
    return True


def is_as_reviewed(objects: Objects, aside: Aside) -> bool:
    """Return True if the document is there, and is the one that was listed."""
    try:
        return aside.document is not None and read_document(objects, aside.document_name) == aside.document
    except (NewerFormat, ObjectNotReadable):
        return False


def read_document(objects: Objects, place: str) -> AsideDocument | None:
    """Return a document of `damaged/`; None if it is not there or damaged. Raises NewerFormat, ObjectNotReadable."""
    try:
        return read_notice(objects, place, AsideDocument)
    except ObjectNotFound:
        return None


def stems_aside(objects: Objects) -> dict[str, set[str]]:
    """Return the names of objects and documents in `damaged/`, by the last part of the first name."""
    found: dict[str, set[str]] = {}
    for name in objects.store.names(DAMAGED):
        if (stem := set_aside_stem(name)) is not None:
            found.setdefault(stem, set()).add(name)
    return found


def list_aside(objects: Objects) -> list[Aside]:
    """All that is set aside, in order of their names. Raises RepositoryNotReadable."""
    return [_found(objects, stem, names) for stem, names in sorted(stems_aside(objects).items())]


def _found(objects: Objects, stem: str, names: set[str]) -> Aside:
    document = f"{DAMAGED}/{stem}.json"
    found = tuple(sorted(names - {document}))
    try:
        return Aside(stem, _checked(objects, stem, document) if document in names else None, found)
    except NewerFormat:
        return Aside(stem, None, found, newer=True)
    except ObjectNotReadable as error:
        return Aside(stem, None, found, refused=error.message)


def _checked(objects: Objects, stem: str, place: str) -> AsideDocument | None:
    """Return the document, if it is of an object of that name: a renamed document must have no other chunk touched."""
    document = read_document(objects, place)
    if document and first_name(objects, document.kind, digest_of(document.digest)).endswith(f"/{stem}"):
        return document
    return None
