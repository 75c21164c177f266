"""The plan of a copy: which captures are to be copied, decided from the links on both sides alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezeframe.repository.chain import State
from freezeframe.repository.errors import NewerFormat
from freezeframe.repository.lineage import Link

if TYPE_CHECKING:
    from collections.abc import Collection

    from freezeframe.repository.chain import Chain


@dataclass(frozen=True)
class Plan:
    """Ids, oldest first."""

    wanted: tuple[str, ...]  # to be copied
    there: tuple[str, ...]  # wanted, and in the copy already
    unreadable_there: tuple[str, ...]  # wanted, and in the copy already with a manifest that cannot be read
    forgotten_there: tuple[str, ...]  # wanted, but the copy has forgotten it since
    unreadable: tuple[str, ...]  # wanted, but its manifest cannot be read at the source
    only_there: tuple[str, ...]  # in the copy, and forgotten at the source
    unknown: tuple[Link, ...]  # known at the source, and the copy has neither these captures nor a word about them


@dataclass(frozen=True)
class Foreign:
    """Captures of a copy that cannot have come from the source."""

    unknown: tuple[str, ...]  # the source has neither had nor forgotten them
    other: tuple[str, ...]  # the source has others of these ids
    unclear: tuple[str, ...]  # a tombstone of the source may be of them, which cannot be read


def plan_of(source: Chain, copy: Chain, chosen: Collection[str] | None, named: Collection[str] = ()) -> Plan:
    """Return the plan. Pure.

    `chosen`: the captures to which the copy is limited, None for all; `named`: those that a user has named, which are copied
    even if the copy has forgotten them.
    """

    def is_chosen(capture_id: str) -> bool:
        return chosen is None or capture_id in chosen

    in_order = sorted(source.there.values(), key=lambda one: (one.counter, one.capture_id))
    candidates = [one for one in in_order if is_chosen(one.capture_id)]
    at_source = source.there.keys() | source.unreadable.keys()
    taken = copy.there.keys() | copy.unreadable.keys()
    missing = [one for one in candidates if one.capture_id not in taken]
    forgotten = [one for one in missing if one.capture_id not in named and _forgotten_there(source, copy, one)]
    return Plan(
        wanted=tuple(one.capture_id for one in missing if one not in forgotten),
        there=tuple(one.capture_id for one in candidates if one.capture_id in copy.there),
        unreadable_there=tuple(one for one in sorted(copy.unreadable.keys() & at_source) if is_chosen(one)),
        forgotten_there=tuple(one.capture_id for one in forgotten),
        unreadable=tuple(one for one in sorted(source.unreadable) if is_chosen(one) and one not in taken),
        only_there=tuple(sorted(one for one in copy.there if one not in source.there and one in source.forgotten)),
        unknown=tuple(_unknown(source, copy)),
    )


def foreign_of(source: Chain, copy: Chain) -> Foreign:
    """Return the captures of the copy that are not the source's. Pure.

    One whose manifest cannot be read on either side is not judged.
    """
    states = {one.capture_id: source.state(one.capture_id, one.digest) for one in copy.there.values() if one.digest}

    def those(state: State) -> tuple[str, ...]:
        return tuple(sorted(one for one, found in states.items() if found is state and one not in source.unreadable))

    return Foreign(unknown=those(State.GONE), other=those(State.REPLACED), unclear=those(State.UNCLEAR))


def _forgotten_there(source: Chain, copy: Chain, link: Link) -> bool:
    """Return True if the copy has forgotten a capture by itself: the source's own tombstones are copied too."""
    there, here = (
        {one.digest for one in chain.forgotten.get(link.capture_id, ())} & {link.digest, None}
        for chain in (copy, source)
    )
    return bool(there - here)


def _unknown(source: Chain, copy: Chain) -> list[Link]:
    """Return the links of which the copy knows nothing: also what was forgotten, whose tombstones are yet to come.

    One that cannot be read has an id alone. What was forgotten by a tombstone that the storage refuses is known from the
    links that name it.
    """
    known = copy.there.keys() | copy.unreadable.keys()
    read = [*source.links(), *_named_only(source)]
    unread = source.unreadable.keys() - {one.capture_id for one in read}
    links = [*read, *(Link(capture_id=one) for one in sorted(unread))]
    return [one for one in links if one.capture_id not in known and not _has_word(copy, one)]


def _named_only(source: Chain) -> list[Link]:
    """Return the captures that other links name, and of which a tombstone may be that is not copied: it cannot be read."""
    if all(isinstance(error, NewerFormat) for error in source.unclear_tombstones):
        return []  # a newer one is copied as it is
    named = {(one.capture_id, one.digest) for link in source.links() for one in link.named}
    states = {one: source.state(*one) for one in sorted(named)}
    gone = [one for one, state in states.items() if state is State.UNCLEAR and one[0] not in source.unreadable]
    return [Link(capture_id=capture_id, digest=digest) for capture_id, digest in gone]


def _has_word(copy: Chain, link: Link) -> bool:
    told = (*copy.forgotten.get(link.capture_id, ()), *copy.elsewhere.get(link.capture_id, ()))
    return any(one.digest == link.digest for one in told)
