"""What a verification asks and finds: its tier, the damage, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freezeframe.repository.whereabouts import Place


class Tier(StrEnum):
    """How closely to look, in this order."""

    PRESENT = "present"
    DECODABLE = "decodable"
    REHASHED = "rehashed"
    RESTORED = "restored"

    @property
    def or_closer(self) -> tuple[Tier, ...]:
        tiers = tuple(Tier)
        return tiers[tiers.index(self) :]


#: The tiers at which single chunks are looked at; `restored` is of whole disks.
CHUNK_TIERS = (Tier.PRESENT, Tier.DECODABLE, Tier.REHASHED)


@dataclass(frozen=True)
class Damage:
    """An index or a chunk that is not what was written, and every place in the repository that it belongs to.

    `set_aside`: writers find it missing, so the next capture that meets it writes it anew.
    """

    digest: str
    reason: str
    places: tuple[Place, ...]
    set_aside: bool = False


@dataclass(frozen=True)
class VerifyReport:
    """What was found. `damaged_captures` names all that are affected, not only those that were asked about."""

    tier: Tier
    captures: tuple[str, ...]  # whose indexes were read
    chunks_checked: int
    bytes_read: int  # as stored
    indexes: tuple[Damage, ...]
    chunks: tuple[Damage, ...]
    folders: tuple[str, ...] = ()  # of a share: whose chunks were looked at
    restores: tuple[
        Damage, ...
    ] = ()  # disks whose chunks are sound, and that a restore did not bring back; by their index
    repaired: tuple[str, ...] = ()  # digests of what had been set aside, and was written anew since
    put_back: tuple[str, ...] = ()  # digests of what had been set aside and is sound
    whole_again: tuple[
        str, ...
    ] = ()  # captures of the repaired ones of which no damage is known any more, newest first
    bad_reads: int = 0  # objects that were wrong at the first look, and right at the second
    restrained: str | None = None  # why nothing more was set aside: the host may be what is wrong
    notes: tuple[str, ...] = ()  # what could not be done besides
    newer: tuple[Damage, ...] = ()  # no damage: what a newer version has written, and this one could not look at

    @property
    def damage(self) -> tuple[Damage, ...]:
        return (*self.indexes, *self.chunks, *self.restores)

    @property
    def sound(self) -> bool:
        return not self.damage

    @property
    def damaged_captures(self) -> list[str]:
        """Newest first."""
        return sorted({place.capture_id for one in self.damage for place in one.places}, reverse=True)

    @property
    def newer_captures(self) -> set[str]:
        """The captures that have something which this version could not look at."""
        return {place.capture_id for one in self.newer for place in one.places}


@dataclass(frozen=True)
class Progress:
    chunks_checked: int
    bytes_read: int
    folders_done: int = 0  # of a share
    chunks_total: int | None = None  # where all of some captures are looked at


#: Told how far a verification has come.
OnProgress = Callable[[Progress], None]


@dataclass
class Findings:
    """Reasons by digest, and counts; grows while a verification goes on."""

    indexes: dict[str, str] = field(default_factory=dict)
    chunks: dict[bytes, str] = field(default_factory=dict)
    newer_indexes: dict[str, str] = field(default_factory=dict)
    newer_chunks: dict[bytes, str] = field(default_factory=dict)
    aside: set[str] = field(default_factory=set)  # digests in hex
    restrained: str | None = None
    indexes_checked: int = 0
    chunks_checked: int = 0
    bytes_read: int = 0
    bad_reads: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Once each: a thousand chunks that cannot be moved are one thing to know."""
        if text not in self.notes:
            self.notes.append(text)
