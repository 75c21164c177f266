"""The chain: the links of all captures of a repository, there and forgotten, and what has become of each.

    manifests, listed  ──▶ there | unreadable: damaged, newer, refused
    tombstones, read   ──▶ forgotten | elsewhere: a copy lacks it | damaged | unclear: newer, refused

Newer and refused is *unclear*: it may be right. It is never taken for absent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from freezeframe.repository.errors import RepositoryDamaged
from freezeframe.repository.lineage import Link, newest
from freezeframe.repository.read_ahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezeframe.repository.errors import ManifestUnreadable, RepositoryError
    from freezeframe.repository.repository import Repository


class State(Enum):
    """The state of a manifest that was there once."""

    KEPT = auto()  # it is there as it was, or was forgotten
    ELSEWHERE = auto()  # nobody has forgotten it: this is a copy, which lacks it
    GONE = auto()
    REPLACED = auto()
    DAMAGED = auto()
    UNCLEAR = auto()  # what would tell it is newer, or is refused


@dataclass(frozen=True)
class Chain:
    """All links of a repository."""

    there: dict[str, Link] = field(default_factory=dict)
    forgotten: dict[str, list[Link]] = field(default_factory=dict)  # a capture may have been sealed and forgotten twice
    elsewhere: dict[str, list[Link]] = field(default_factory=dict)  # what a copy lacks, or has lacked
    unreadable: dict[str, ManifestUnreadable] = field(default_factory=dict)  # manifests that are there
    damaged_tombstones: tuple[str, ...] = ()
    unclear_tombstones: tuple[RepositoryError, ...] = ()

    @property
    def newest(self) -> Link | None:
        """Return the newest link that is there or was."""
        return newest(self.links())

    @property
    def unclear(self) -> list[RepositoryError]:
        """Return why the chain cannot be followed to its end, though nothing is known to be wrong."""
        refused = [
            error
            for one, error in self.unreadable.items()
            if not isinstance(error, RepositoryDamaged) and one not in self.forgotten
        ]
        return [*refused, *self.unclear_tombstones]

    def links(self) -> Iterator[Link]:
        yield from self.there.values()
        for links in (*self.forgotten.values(), *self.elsewhere.values()):
            yield from links

    def has_forgotten(self, capture_id: str, digest: str) -> bool:
        """Return True if a tombstone is of that manifest. One without a digest is of a manifest that could not be read."""
        return _has(self.forgotten, capture_id, digest)

    def state(self, capture_id: str, digest: str) -> State:
        """Return what has become of the manifest of a capture with that digest."""
        link, error = self.there.get(capture_id), self.unreadable.get(capture_id)
        if (link is not None and link.digest == digest) or self.has_forgotten(capture_id, digest):
            return State.KEPT
        if error is not None:
            return State.DAMAGED if isinstance(error, RepositoryDamaged) else State.UNCLEAR
        if link is None and _has(self.elsewhere, capture_id, digest):
            return State.ELSEWHERE
        if self.unclear_tombstones:
            return State.UNCLEAR
        return State.GONE if link is None and capture_id not in self.forgotten else State.REPLACED

    def names(self, capture_id: str, digest: str) -> bool:
        """Return True if a link that can be read was sealed upon that manifest."""
        return any((one.capture_id, one.digest) == (capture_id, digest) for link in self.links() for one in link.named)


def _has(links: dict[str, list[Link]], capture_id: str, digest: str) -> bool:
    return any(one.digest in {digest, None} for one in links.get(capture_id, ()))


def read_chain(repository: Repository) -> Chain:
    """Read the links of all captures. Raises RepositoryNotReadable if the store as a whole cannot be read.

    Manifests are listed first: what is forgotten meanwhile has its tombstone by then.
    """
    ids = repository.capture_ids()
    there: dict[str, Link] = {}
    unreadable: dict[str, ManifestUnreadable] = {}
    for capture_id, found in zip(ids, read_ahead(ids, repository.link), strict=True):
        if isinstance(found, Link):
            there[capture_id] = found
        elif found is not None:
            unreadable[capture_id] = found
    tombstones = repository.lineages.tombstones()
    forgotten: dict[str, list[Link]] = {}
    elsewhere: dict[str, list[Link]] = {}
    for tombstone in tombstones.read.values():
        for link in tombstone.captures:
            (elsewhere if tombstone.not_copied else forgotten).setdefault(link.capture_id, []).append(link)
    return Chain(there, forgotten, elsewhere, unreadable, tuple(tombstones.damaged), tuple(tombstones.unclear))
