"""What a decision about a capture needs of its manifest, without its guests' XML and its proof: a few hundred bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezeframe.naming import words_of
from freezeframe.repository.age import credible, not_before

if TYPE_CHECKING:
    from datetime import datetime

    from freezeframe.contract.retention import Selection
    from freezeframe.contract.words import Consistency
    from freezeframe.repository.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Candidate:
    """A capture that may be kept or forgotten. `at` is its instant, or when it was asked for if that is later: then some clock
    had gone `back`. `guests` are names by UUID, in order of names.
    """

    capture_id: str
    at: datetime
    guests: tuple[tuple[str, str], ...]
    group: str | None
    tags: tuple[str, ...]
    consistency: Consistency
    contradicted: bool = False  # dated later than the store has it
    back: bool = False  # dated earlier than it was asked for

    @classmethod
    def of(cls, manifest: Manifest, stored_at: datetime | None = None) -> Candidate:
        """`stored_at` is the manifest's time by the store's clock, which a later instant contradicts."""
        instant = manifest.instant.at
        at = instant if manifest.imported else not_before(instant, manifest.capture_id, manifest.created_at)
        guests = sorted((guest.name, guest.guest_uuid) for guest in manifest.guests)
        return cls(
            capture_id=manifest.capture_id,
            at=at,
            guests=tuple((uuid, name) for name, uuid in guests),
            group=manifest.group,
            tags=tuple(sorted(set(manifest.tags))),
            consistency=manifest.consistency,
            contradicted=stored_at is not None and credible(at, stored_at) != at,
            back=at != instant,
        )

    @property
    def guest_names(self) -> list[str]:
        return [name for _, name in self.guests]

    def selected_by(self, selection: Selection) -> bool:
        return selection.has({word for guest in self.guests for word in words_of(*guest)}, self.group, self.tags)
