"""The choices of a request for single guests: how one is held, which of its disks are left out or captured decrypted. Pure.

| an option names a guest that      | by its name, UUID or name@host  | then                                              |
|-----------------------------------|---------------------------------|---------------------------------------------------|
| is captured                       | any request                     | it counts                                         |
| is known and does not run         | every guest                     | it is passed over, and the guest told as left out |
| is known and takes no part        | guests by name                  | the request is refused                            |
| nobody knows                      | any request                     | the request is refused                            |

Two choices of a hold for one guest go together if they do not contradict each other: a kind and mount points, as where the
advice of a warning was added to the command that it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from freezeframe.contract.request import CaptureRequest, DiskChoice, HoldChoice
from freezeframe.naming import NamedGuest
from freezeframe.presence import KnownHost, Place, places
from orchestrator.errors import HeldTwiceError, UnknownGuestError
from orchestrator.guests import Known, find_guest, meant, unknown

#: Words that nobody knows for which a near name is looked for: that takes a second for each where there are 10,000 guests.
MOST_NEAR: Final = 8


@dataclass(frozen=True)
class Choices:
    """The choices of a request. `chosen` are the guests that it captures, `known` all of the inventory."""

    request: CaptureRequest
    chosen: Known
    known: Known

    def targets(self, choices: Iterable[DiskChoice]) -> dict[str, list[str]]:
        """Return the disks that were chosen, by their guests' UUIDs. Raises UnknownGuestError, AmbiguousGuestError."""
        targets: dict[str, list[str]] = {}
        for choice in choices:
            place = self._guest(choice.guest)
            if place is not None:
                targets.setdefault(place.guest.guest_uuid, []).append(choice.target)
        return targets

    def holds(self) -> dict[str, HoldChoice]:
        """Return how guests are held that have a hold of their own, by UUID.

        Raises UnknownGuestError, AmbiguousGuestError, and HeldTwiceError for choices that contradict each other.
        """
        found: dict[str, tuple[Place, list[HoldChoice]]] = {}
        for choice in self.request.guest_holds:
            place = self._guest(choice.guest)
            if place is not None:
                found.setdefault(place.guest.guest_uuid, (place, []))[1].append(choice)
        return {guest_uuid: self._merged(place, choices) for guest_uuid, (place, choices) in found.items()}

    def passed_over(self) -> list[Place]:
        """Return the guests that options name although a capture of every guest leaves them out, each once."""
        found: dict[str, Place] = {}
        for word in words_of(self.request):
            if self._guest(word) is None:
                for place in meant(word, self.known):
                    found.setdefault(place.guest.guest_uuid, place)
        return list(found.values())

    def _guest(self, word: str) -> Place | None:
        """Return the captured guest that an option names; None for one that is left out, since it does not run.

        Raises UnknownGuestError, AmbiguousGuestError.
        """
        if meant(word, self.chosen):
            return find_guest(word, self.chosen)
        known = meant(word, self.known)
        if not known:
            raise unknown(word, self.known)
        if not self.request.every_guest:
            raise UnknownGuestError(
                f"An option names guest {word}, which is not among the guests to capture.",
                advice="Name that guest too, or leave the option out.",
            )
        # it may be known by a host that it has left, and captured where it runs
        uuids = {place.guest.guest_uuid for place in known}
        return next(iter(self.chosen.of(uuids.pop())), None) if len(uuids) == 1 else None

    def _merged(self, place: Place, choices: Sequence[HoldChoice]) -> HoldChoice:
        guest = NamedGuest(place.guest.name, place.guest.guest_uuid)
        kinds = list(dict.fromkeys(choice.kind for choice in choices if choice.kind is not None))
        if len(kinds) > 1:
            ways = " or ".join(f"--guest-hold {guest.option(kind)}" for kind in kinds)
            raise HeldTwiceError(
                f"Guest {guest} is given {len(kinds)} holds of its own: {', '.join(kinds)}.",
                advice=f"Keep one of them: {ways}.",
            )
        kind = kinds[0] if kinds else None
        mountpoints = tuple(dict.fromkeys(path for choice in choices for path in choice.mountpoints))
        held = kind or self.request.hold
        if mountpoints and not held.freezes:
            raise HeldTwiceError(
                f"Mount points of guest {guest} are named, and its hold, {held}, freezes none.",
                advice="Leave out --mountpoint for that guest, or hold it with --guest-hold "
                f"{guest.option('freeze-pause')} instead.",
            )
        return HoldChoice(guest=choices[0].guest, kind=kind, mountpoints=mountpoints)


def words_of(request: CaptureRequest) -> Iterator[str]:
    """Yield the words by which options name guests."""
    yield from (choice.guest for choice in request.guest_holds)
    yield from (choice.guest for choice in (*request.skip_disks, *request.decrypt_disks))


def without_strays(
    request: CaptureRequest, hosts: Sequence[KnownHost]
) -> tuple[CaptureRequest, list[UnknownGuestError]]:
    """Return the request without the options that name a guest which nobody knows, and a refusal for each such word."""
    known = Known(places(hosts))
    strays = {word: None for word in words_of(request) if not meant(word, known)}
    rest = {
        "guest_holds": tuple(one for one in request.guest_holds if one.guest not in strays),
        "skip_disks": tuple(one for one in request.skip_disks if one.guest not in strays),
        "decrypt_disks": tuple(one for one in request.decrypt_disks if one.guest not in strays),
    }
    refusals = [unknown(word, known, near=number < MOST_NEAR) for number, word in enumerate(strays)]
    return request.model_copy(update=rest), refusals
