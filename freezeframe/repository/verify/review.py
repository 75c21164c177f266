"""A review of what is set aside, which every verification begins with: the way out of `damaged/`.

at its first name    set aside       then
sound                anything        repaired: taken away
nothing              sound           put back, with or without a document
nothing              anything else   stays, as damage while a capture refers to it; then it is deleted, but not soon
damaged              anything        left to whoever finds it there

One of two hosts that review at once may have bad memory, and read wrong what is sound. It never reads right what is not: so
what is deleted has a copy that this host has just read at its first name, and was out of everybody's reach by then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from freezeframe.repository.aside import (
    Aside,
    AsideDocument,
    Kind,
    Verdict,
    clear,
    first_name,
    is_as_reviewed,
    list_aside,
    look_aside,
    put_back,
    sound_without_document,
)
from freezeframe.repository.errors import ObjectNotFound, RepositoryFull, RepositoryNotWritable
from freezeframe.repository.layout import digest_of
from freezeframe.repository.session import TERM
from freezeframe.repository.verify.lingering import Lingering
from freezeframe.repository.verify.looking import Fault, look, look_at_index
from freezeframe.repository.verify.report import Tier
from freezeframe.repository.whereabouts import places_in

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from freezeframe.errors import FreezeframeError
    from freezeframe.repository.objects import Objects
    from freezeframe.repository.repository import Repository
    from freezeframe.repository.whereabouts import Place

#: How long something stays set aside, by the store's clock, that no capture refers to, there or forgotten: longer than any
#: session. A writer that found the chunk under its own name, before it was set aside, looks here before it stores its index.
#: A writer that inherits it later does so from a capture that is there or forgotten (`lingering.py`).
KEPT: Final = TERM + timedelta(days=1)


@dataclass
class Review:
    """The result of a review of `damaged/`; documents by their digests in hex."""

    places: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    repaired: list[str] = field(default_factory=list)
    put_back: list[str] = field(default_factory=list)
    still: dict[str, AsideDocument] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def reason(self, digest: str, otherwise: str) -> str:
        """Return the reason for which an object was set aside; `otherwise` if it was not."""
        document = self.still.get(digest)
        if document is None:
            return otherwise
        word = document.kind.value.capitalize()
        return f"{word} {digest} was set aside at {document.found_at:%Y-%m-%d %H:%M:%S} UTC: {document.reason}"

    def whole_again(self, damaged: Iterable[str]) -> tuple[str, ...]:
        """The captures of what was repaired, but for those of which damage is known; newest first."""
        known = {place.capture_id for digest in self.still for place in self.places.get(digest, ())} | set(damaged)
        repaired = {place.capture_id for digest in self.repaired for place in self.places.get(digest, ())}
        return tuple(sorted(repaired - known, reverse=True))


def review(repository: Repository, *, change: bool, now: datetime | None = None) -> Review:
    """Look at everything that is set aside; with `change` put back and take away what can be.

    `now`: the store's time; without it nothing is old enough to be deleted because no capture refers to it.
    Reads every index if there is anything. Raises RepositoryNotReadable.
    """
    found, objects = Review(), repository.objects.as_verified()
    everything = list_aside(objects)
    known = {one.document.digest: (one, one.document) for one in everything if one.document}
    nameless = [one for one in everything if one.document is None and not one.newer and not one.refused]
    found.notes += [f"{one.refused} What is set aside there stays as it is." for one in everything if one.refused]
    try:
        for aside in nameless:
            _review_nameless(objects, aside, found, change=change)
    except (RepositoryNotWritable, RepositoryFull) as error:
        found.notes.append(_unchanged(error))
    if not known:
        return found
    needs = _Needs(repository, known, now)
    found.places = needs.places
    for aside, document in known.values():
        try:
            _review_one(objects, aside, document, found, needs, change=change)
        except (RepositoryNotWritable, RepositoryFull) as error:
            found.notes.append(_unchanged(error))
            return _looked_at(found, known)
    return found


class _Needs:
    """The needs for objects that are set aside: of captures, and of writers that may be at work."""

    def __init__(
        self, repository: Repository, known: dict[str, tuple[Aside, AsideDocument]], now: datetime | None
    ) -> None:
        indexes = {digest for digest, (_, document) in known.items() if document.kind is Kind.INDEX}
        chunks = {digest_of(digest) for digest, (_, document) in known.items() if document.kind is Kind.CHUNK}
        unreadable: list[FreezeframeError] = []
        captures = repository.manifests(on_damaged=unreadable.append)
        self.places = places_in(repository, captures, indexes, chunks, unreadable.append)
        self._certain = not unreadable
        self._lingering = Lingering(repository, indexes, chunks, [one.capture_id for one in captures])
        self._store, self._now = repository.store, now

    def may_be(self, aside: Aside, document: AsideDocument) -> bool:
        """Return True if it is needed, or if that cannot be known."""
        if self.places[document.digest] or not self._certain or not self._is_old(aside):
            return True
        return self._lingering.may_need(document.digest)

    def _is_old(self, aside: Aside) -> bool:
        """Return True if it was set aside long ago. The document was read before: the time is not of an earlier one."""
        try:
            return self._now is not None and self._now - self._store.modified(aside.document_name) > KEPT
        except ObjectNotFound:
            return False  # another is at it


def _unchanged(error: FreezeframeError) -> str:
    return f"What is set aside could not be changed: {error.message}"


def _looked_at(found: Review, known: dict[str, tuple[Aside, AsideDocument]]) -> Review:
    """Return the review; all that it did not reach stays set aside."""
    done = {*found.repaired, *found.put_back, *found.still}
    found.still.update({digest: document for digest, (_, document) in known.items() if digest not in done})
    return found


def _review_nameless(objects: Objects, aside: Aside, found: Review, *, change: bool) -> None:
    """Review objects whose document is gone: whoever deleted it did not see them come. What is not sound stays."""
    for place in aside.objects:
        sound = sound_without_document(objects, place, aside.stem)
        if sound is None:
            continue
        kind, digest = sound
        if _is_sound(objects, kind, digest):
            alone = Aside(aside.stem, None, (place,))
            if change:
                clear(objects, alone, lambda _: _is_sound(objects, kind, digest))  # noqa: B023  called at once
        else:
            if change:
                put_back(objects, kind, digest, place, alone=False)
            found.put_back.append(digest.hex())


def _review_one(
    objects: Objects, aside: Aside, document: AsideDocument, found: Review, needs: _Needs, *, change: bool
) -> None:
    kind, digest = document.kind, digest_of(document.digest)
    sound_again = partial(_is_sound, objects, kind, digest)
    if sound_again():
        if not change or clear(objects, aside, lambda _: sound_again()):
            found.repaired.append(document.digest)
        return
    if objects.is_taken(first_name(objects, kind, digest)):
        return  # damaged, and whoever verifies it finds out
    verdicts = {place: look_aside(objects, kind, digest, place) for place in aside.objects}
    sound = [place for place, verdict in verdicts.items() if verdict is Verdict.SOUND]
    if sound:
        if change:
            put_back(objects, kind, digest, sound[0], alone=len(aside.objects) == 1)
        found.put_back.append(document.digest)
    elif not change or needs.may_be(aside, document):
        found.still[document.digest] = document
    elif Verdict.UNKNOWN in verdicts.values():
        found.notes.append(_unreadable(objects, aside))
        found.still[document.digest] = document
    else:
        clear(objects, aside, partial(_is_as_reviewed, objects, aside, document))


def _unreadable(objects: Objects, aside: Aside) -> str:
    return (
        f"No capture refers to {objects.store.address}/{aside.object_name}, but this host may not read it, so it stays: it may "
        "be sound. Check its permissions, and verify again."
    )


def _is_as_reviewed(objects: Objects, aside: Aside, document: AsideDocument, place: str) -> bool:
    """Return True if the object at that place is damaged, and its document is the one that was reviewed."""
    verdict = look_aside(objects, document.kind, digest_of(document.digest), place)
    return verdict is Verdict.DAMAGED and is_as_reviewed(objects, aside)


def _is_sound(objects: Objects, kind: Kind, digest: bytes) -> bool:
    """Return True if the object is sound, under its first name or condemned."""
    if kind is Kind.CHUNK:
        return look(objects, Tier.REHASHED, digest).fault is None
    index = look_at_index(objects, digest)
    if isinstance(index, Fault):
        return False
    index.close()
    return True
