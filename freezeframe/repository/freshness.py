"""Freshness: is the repository as new as it was, and is no capture missing that nobody has forgotten?

    a pin         the newest capture as somebody has seen it, kept elsewhere   ──▶ an older state of the store shows
    lineages      each manifest names the newest one before it                 ──▶ a hole in the chain shows
    tombstones    what was forgotten                                           ──▶ and is no hole

The captures that are newer than the pin, and that no other names yet, can be taken away without a trace (docs/security.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from freezeframe.contract.message import CaptureId, Digest, Shape
from freezeframe.repository.errors import ManifestUnreadable, ObjectNotFound, RepositoryRolledBack
from freezeframe.repository.lineage import Link, link_of, newest
from freezeframe.repository.read_ahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezeframe.repository.repository import Repository


class Pin(Shape):
    """The newest capture of a repository, as somebody has seen it."""

    counter: int
    capture_id: CaptureId
    digest: Digest


@dataclass(frozen=True)
class Chain:
    """All links of a repository."""

    there: dict[str, Link] = field(default_factory=dict)
    forgotten: dict[str, list[Link]] = field(default_factory=dict)  # a capture may have been sealed and forgotten twice
    unreadable: frozenset[str] = frozenset()  # captures whose manifests are there and damaged
    damaged_tombstones: tuple[str, ...] = ()

    @property
    def newest(self) -> Link | None:
        """Return the newest link that is there or was."""
        return newest([*self.there.values(), *(link for links in self.forgotten.values() for link in links)])

    def knows(self, capture_id: str) -> bool:
        return capture_id in self.there or capture_id in self.forgotten or capture_id in self.unreadable

    def digests(self, capture_id: str) -> set[str | None]:
        """Return all digests that a capture has or had; None among them if one could not be read."""
        links = [*self.forgotten.get(capture_id, ())]
        if capture_id in self.there:
            links.append(self.there[capture_id])
        unread = {None} if capture_id in self.unreadable else set()
        return {link.digest for link in links} | unread


def read_chain(repository: Repository) -> Chain:
    """Read the links of all captures. Raises RepositoryNotReadable, and NewerFormat for a tombstone of a newer version.

    Manifests are listed first: what is forgotten meanwhile has its tombstone by then.
    """
    ids = repository.capture_ids()
    there: dict[str, Link] = {}
    unreadable = set()
    for capture_id, data in zip(ids, read_ahead(ids, lambda one: _manifest(repository, one)), strict=True):
        link = link_of(capture_id, data) if isinstance(data, bytes) else None
        if link is not None:
            there[capture_id] = link
        elif data is not None:
            unreadable.add(capture_id)
    forgotten: dict[str, list[Link]] = {}
    tombstones, damaged = repository.lineages.tombstones()
    for tombstone in tombstones:
        for link in tombstone.captures:
            forgotten.setdefault(link.capture_id, []).append(link)
    return Chain(there, forgotten, frozenset(unreadable), tuple(damaged))


def _manifest(repository: Repository, capture_id: str) -> bytes | ManifestUnreadable | None:
    try:
        return repository.objects.manifest(capture_id)
    except ObjectNotFound:
        return None
    except ManifestUnreadable as error:
        return error


def pin_of(chain: Chain) -> Pin | None:
    """Return the newest capture that is there, to be pinned; None if there is none. Pure."""
    link = newest(chain.there.values())
    if link is None or link.digest is None:
        return None
    return Pin(counter=link.counter, capture_id=link.capture_id, digest=link.digest)


def against_pin(chain: Chain, pin: Pin) -> list[str]:
    """Return a sentence for each thing that shows the repository to be older than the pin. Pure."""
    if not chain.knows(pin.capture_id):
        return [_without(chain.newest, pin)]
    digests = chain.digests(pin.capture_id)
    if pin.digest not in digests and None not in digests:
        return [f"Capture {pin.capture_id} is not the one that was pinned: its manifest has other bytes."]
    return []


def _without(head: Link | None, pin: Pin) -> str:
    if head is not None and head.counter >= pin.counter:
        return f"Capture {pin.capture_id}, which was pinned, is gone, and nobody has forgotten it."
    now = "there is none now" if head is None else f"now the newest is {head.capture_id}, number {head.counter}"
    return f"Capture {pin.capture_id}, number {pin.counter}, was the newest when it was pinned; {now}."


def holes(chain: Chain) -> list[str]:
    """Return a sentence for each capture that another names as its predecessor, and that is not there as it was. Pure."""
    found = sorted({sentence for link in _all(chain) for sentence in _hole(chain, link)})
    return [
        *found,
        *(f"The tombstone {name} is damaged: what it was of cannot be told." for name in chain.damaged_tombstones),
    ]


def _all(chain: Chain) -> Iterator[Link]:
    yield from chain.there.values()
    for links in chain.forgotten.values():
        yield from links


def _hole(chain: Chain, link: Link) -> Iterator[str]:
    before = link.predecessor
    if before is None:
        return
    if not chain.knows(before.capture_id):
        yield (
            f"Capture {before.capture_id} is gone, and nobody has forgotten it: it was there when {link.capture_id} was sealed."
        )
        return
    digests = chain.digests(before.capture_id)
    if before.digest not in digests and None not in digests:
        yield f"Capture {before.capture_id} is not the one that was there when {link.capture_id} was sealed."


def check_pin(repository: Repository, pin: Pin) -> None:
    """Raise RepositoryRolledBack if the repository is older than the pin."""
    found = against_pin(read_chain(repository), pin)
    if found:
        raise RepositoryRolledBack(f"The repository at {repository.address} is not as new as it was. {' '.join(found)}")
