"""Freshness: is the repository as new as it was, and is no capture missing that nobody has forgotten?

    a pin         the newest capture as somebody has seen it, kept elsewhere   ──▶ an older state of the store shows
    lineages      each manifest names the newest one before it                 ──▶ a hole in the chain shows
    tombstones    what was forgotten                                           ──▶ and is no hole

A manifest that cannot be read names no predecessor, so the chain ends there. A damaged one is a *doubt*, as a missing one is:
whoever can write to the store can empty it. One that is newer, or that the storage refuses, is *unclear*: it may be right.

The captures that are newer than the pin, and that no other names yet, can be taken away without a trace (docs/security.md).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezeframe.contract.message import CaptureId, Digest, Shape
from freezeframe.repository.chain import Chain, State, read_chain
from freezeframe.repository.errors import (
    NewerFormat,
    RepositoryDamaged,
    RepositoryNotReadable,
    RepositoryRolledBack,
)
from freezeframe.repository.lineage import newest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from freezeframe.repository.errors import ManifestUnreadable, RepositoryError
    from freezeframe.repository.lineage import Link, Predecessor
    from freezeframe.repository.repository import Repository


class Pin(Shape):
    """The newest capture of a repository, as somebody has seen it."""

    counter: int
    capture_id: CaptureId
    digest: Digest


class Accepted(Shape):
    """A doubt that somebody has taken for right: a manifest with that digest, a tombstone, or numbers of captures."""

    name: str
    digest: Digest | None = None


class Pinned(Shape):
    """The part of a repository's chain that a user has seen, and the doubts that he has accepted."""

    pin: Pin | None = None
    accepted: tuple[Accepted, ...] = ()


@dataclass(frozen=True)
class Doubt:
    """A place in the chain that is not as it was."""

    about: Accepted
    sentence: str
    of_damage: bool = False  # of a manifest that is there: who lists manifests tells it too


def pin_of(chain: Chain) -> Pin | None:
    """Return the newest capture that is there, to be pinned; None if there is none. Pure."""
    link = newest(chain.there.values())
    if link is None or link.digest is None:
        return None
    return Pin(counter=link.counter, capture_id=link.capture_id, digest=link.digest)


def against_pin(chain: Chain, pin: Pin) -> list[str]:
    """Return a sentence for each thing that shows the repository to be older than the pin. Pure.

    A pinned manifest that cannot be read now shows nothing if a later one was sealed upon it.
    """
    state = chain.state(pin.capture_id, pin.digest)
    if state is State.GONE:
        return [_without(chain.newest, pin)]
    if state is State.ELSEWHERE:
        return [
            f"Capture {pin.capture_id}, number {pin.counter}, which was pinned, is not in this copy of the repository."
        ]
    if state is State.REPLACED:
        return [f"Capture {pin.capture_id} is not the one that was pinned: its manifest has other bytes."]
    if state is State.DAMAGED and not chain.names(pin.capture_id, pin.digest):
        return [_damaged(pin, chain.unreadable[pin.capture_id])]
    return []


def _without(head: Link | None, pin: Pin) -> str:
    if head is not None and head.counter >= pin.counter:
        return f"Capture {pin.capture_id}, which was pinned, is gone, and nobody has forgotten it."
    now = "there is none now" if head is None else f"now the newest is {head.capture_id}, number {head.counter}"
    return f"Capture {pin.capture_id}, number {pin.counter}, was the newest when it was pinned; {now}."


def _damaged(pin: Pin, error: ManifestUnreadable) -> str:
    return (
        f"Capture {pin.capture_id}, number {pin.counter}, which was pinned, is damaged, and no later one was sealed upon it. "
        f"{error.message}"
    )


def holes(chain: Chain) -> list[Doubt]:
    """Return a doubt for each place where the chain is not as it was, each once. Pure."""
    found = [_hole(chain, link, one) for link in chain.links() for one in link.named]
    by_name = {one.about: one for one in found if one is not None}
    known = {about.name for about in by_name}
    for doubt in (*_damaged_manifests(chain), *_missing_numbers(chain), *_damaged_tombstones(chain)):
        if doubt.about.name not in known:
            by_name[doubt.about] = doubt
    return sorted(by_name.values(), key=lambda one: (one.about.name, one.sentence))


def _hole(chain: Chain, link: Link, before: Predecessor) -> Doubt | None:
    about = Accepted(name=before.capture_id, digest=before.digest)
    state = chain.state(before.capture_id, before.digest)
    if state is State.GONE:
        return Doubt(
            about,
            f"Capture {before.capture_id} is gone, and nobody has forgotten it: it was there when {link.capture_id} was "
            "sealed.",
        )
    if state is State.REPLACED:
        return Doubt(
            about, f"Capture {before.capture_id} is not the one that was there when {link.capture_id} was sealed."
        )
    if state is State.DAMAGED:
        return Doubt(about, _unfollowed(chain.unreadable[before.capture_id]), of_damage=True)
    return None


def _damaged_manifests(chain: Chain) -> Iterator[Doubt]:
    """Yield those that no other names."""
    for capture_id, error in chain.unreadable.items():
        if isinstance(error, RepositoryDamaged) and capture_id not in chain.forgotten:
            yield Doubt(Accepted(name=capture_id), _unfollowed(error), of_damage=True)


def _unfollowed(error: ManifestUnreadable) -> str:
    return f"{error.message} Which capture came before it cannot be told: restore it from a copy of the repository."


def _damaged_tombstones(chain: Chain) -> Iterator[Doubt]:
    for name in chain.damaged_tombstones:
        yield Doubt(Accepted(name=name), f"The tombstone {name} is damaged: what it was of cannot be told.")


def _missing_numbers(chain: Chain) -> Iterator[Doubt]:
    """Yield the numbers that no link has, if they are more than the links whose number is not known.

    That finds what only a manifest has named that is damaged, or was forgotten when it was.
    """
    numbers = {number for link in chain.links() for number in _numbers(link) if number > 0}
    missing = max(numbers, default=0) - len(numbers)
    if chain.unclear or missing <= _without_number(chain):
        return
    before = 0
    for number in sorted(numbers):
        if number > before + 1:
            which = f"number {before + 1}" if number == before + 2 else f"numbers {before + 1} to {number - 1}"
            yield Doubt(Accepted(name=which), f"Of the {which} there is neither a capture nor a tombstone.")
        before = number


def _numbers(link: Link) -> tuple[int, ...]:
    return (link.counter,) if link.predecessor is None else (link.counter, link.counter - 1)


def _without_number(chain: Chain) -> int:
    """Return how many captures have a number that neither they nor their successors tell."""
    named = {one.predecessor.capture_id for one in chain.links() if one.predecessor is not None}
    told = (*chain.forgotten.items(), *chain.elsewhere.items())
    unread = {one for one, links in told if all(link.digest is None for link in links)}
    return len((unread | chain.unreadable.keys()) - named - chain.there.keys())


def check_chain(repository: Repository, chain: Chain, pinned: Pinned, *, accept: str = "--accept") -> None:
    """Raise RepositoryRolledBack if the repository is not as it was pinned; else NewerFormat or RepositoryNotReadable if
    that cannot be told. `accept`: the words of `repo pin` that accept it as it is.
    """
    sentences = [*(against_pin(chain, pinned.pin) if pinned.pin else ()), *sentences_of(holes(chain), pinned.accepted)]
    if sentences:
        said = f"The repository at {repository.address} is not as it was. {' '.join(sentences)}"
        raise RepositoryRolledBack(said, advice=advice_for(repository.address, accept))
    _check_clear(repository, chain.unclear)


def advice_for(address: str, accept: str = "--accept") -> str:
    """Return what to do about a repository that is not as it was: it need not be that of the settings."""
    command = f"FREEZEFRAME_REPOSITORY={shlex.quote(address)} freezeframe repo pin {accept}"
    return f"{RepositoryRolledBack.advice} If it is meant: `{command}`."


def sentences_of(doubts: Sequence[Doubt], accepted: Collection[Accepted]) -> list[str]:
    """Return what the doubts say that nobody has taken for right. Pure."""
    return [one.sentence for one in doubts if one.about not in accepted]


def check_pin(repository: Repository, pin: Pin) -> list[RepositoryError]:
    """Return what cannot be read, and is not needed to tell that the repository is as new as the pin.

    Raises RepositoryRolledBack if it is older; NewerFormat or RepositoryNotReadable if what would tell cannot be read.
    """
    chain = read_chain(repository)
    found = against_pin(chain, pin)
    if found:
        said = f"The repository at {repository.address} is not as new as it was. {' '.join(found)}"
        raise RepositoryRolledBack(said, advice=advice_for(repository.address))
    unclear = chain.state(pin.capture_id, pin.digest) is State.UNCLEAR
    if unclear and not chain.names(pin.capture_id, pin.digest):
        error = chain.unreadable.get(pin.capture_id)
        _check_clear(repository, chain.unclear_tombstones if error is None else [error])
    return [*chain.unreadable.values(), *chain.unclear_tombstones]


def _check_clear(repository: Repository, unclear: Sequence[RepositoryError]) -> None:
    if unclear:
        said = " ".join(one.message for one in unclear)
        newer = all(isinstance(one, NewerFormat) for one in unclear)
        kind = NewerFormat if newer else RepositoryNotReadable
        raise kind(f"Whether the repository at {repository.address} is as it was cannot be told. {said}")
