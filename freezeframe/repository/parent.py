"""The capture of each disk that an incremental may start from: a pure choice among manifests, the newest first.

| the search for a guest's parents goes on until | since                                                                  |
|-------------------------------------------------|------------------------------------------------------------------------|
| `AT_LEAST` captures were looked at              | they are read together: a disk that was swapped for another is in them |
| each disk of its newest capture has a parent    | the others have none that is newer                                     |
| or `CAPTURES_OF_GUEST` of its captures          | a disk that never carries a checkpoint has no parent anywhere          |
| or `AT_MOST` captures altogether                | a guest that was never captured is in none, and its caller waits       |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from freezeframe.repository.read_ahead import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezeframe.repository.manifest import DiskCapture, GuestCapture, Manifest

#: Captures that are looked at for every guest.
AT_LEAST: Final = AT_ONCE
#: Captures of one guest that are looked at for a disk of its newest that has no parent yet.
CAPTURES_OF_GUEST: Final = 64
#: Captures that are looked at altogether: 10 s of round trips of 30 ms, if none is remembered.
AT_MOST: Final = 10_000


@dataclass(frozen=True)
class Parent:
    """A sealed capture of a disk that began a checkpoint."""

    capture_id: str
    disk: DiskCapture

    @property
    def checkpoint(self) -> str:
        return self.disk.checkpoint or ""


@dataclass
class _Guest:
    """The captures of one guest that were found."""

    parents: dict[tuple[str, str | None], Parent] = field(default_factory=dict)
    #: Disks of its newest capture: those that were read by what they are, those that were skipped by their targets alone.
    read: frozenset[tuple[str, str | None]] = frozenset()
    skipped: frozenset[str] = frozenset()
    captures: int = 0
    given_up: bool = False

    def add(self, capture_id: str, guest: GuestCapture) -> None:
        if not self.captures:
            self.read = frozenset(_key(disk) for disk in guest.disks)
            self.skipped = frozenset(disk.target for disk in guest.skipped)
        self.captures += 1
        for disk in guest.disks:
            if disk.checkpoint is not None:
                self.parents.setdefault(_key(disk), Parent(capture_id, disk))

    @property
    def is_complete(self) -> bool:
        if self.captures >= CAPTURES_OF_GUEST:
            return True
        targets = {target for target, _ in self.parents}
        return bool(self.captures) and self.read <= self.parents.keys() and self.skipped <= targets


class ParentSearch:
    """The parents of several guests, from one reading of the manifests that goes no further than it has to.

    `manifests` are newest first, as the repository lists them: an id's own time may be wrong.
    """

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._rest = iter(manifests)
        self._guests: dict[str, _Guest] = {}
        self._looked_at = 0
        #: Guests that are in none of the captures that were looked at, although there are more.
        self.given_up: list[str] = []

    def of(self, guest_uuid: str) -> list[Parent]:
        """Return, for each disk of a guest, the newest sealed capture of it that has a checkpoint; newest first.

        A disk is what it is, not where it is plugged in: a target under which two disks were captured has two. A later capture
        without a checkpoint (a disk that was raw for a while, say) does not hide it: the checkpoint's bitmap went on recording.
        Whether the disk is still the same, and the checkpoint sound, is for the host to prove.
        """
        found = self._guests.setdefault(guest_uuid, _Guest())
        while self._looked_at < AT_LEAST or not found.is_complete:
            if self._looked_at >= AT_MOST:
                if not found.captures and not found.given_up:
                    found.given_up = True
                    self.given_up.append(guest_uuid)
                break
            manifest = next(self._rest, None)
            if manifest is None:
                break
            self._looked_at += 1
            for guest in manifest.guests:
                self._guests.setdefault(guest.guest_uuid, _Guest()).add(manifest.capture_id, guest)
        return list(found.parents.values())


def find_parents(manifests: Iterable[Manifest], guest_uuid: str) -> list[Parent]:
    """Return the parents of one guest, as `ParentSearch`."""
    return ParentSearch(manifests).of(guest_uuid)


def _key(disk: DiskCapture) -> tuple[str, str | None]:
    return disk.target, disk.identity.key if disk.identity else None
