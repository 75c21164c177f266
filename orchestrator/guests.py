"""Guests of the inventory, by the words that callers name them with, each once and where it is. Pure."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from freezeframe import naming
from freezeframe.presence import Place
from orchestrator.errors import AmbiguousGuestError, SplitGuestError, UnknownGuestError

#: States of a guest that does not run and still has a QEMU, in virsh's words. It can be captured as it is, without a hold;
#: `every_guest` leaves it out by name if it would be held.
STANDING = {
    "paused": "it is paused",
    "pmsuspended": "it is suspended to memory (S3)",
    "crashed": "it has crashed and is kept as it was",
    "in shutdown": "it is shutting down",
}
#: States of a guest that a host has a QEMU for.
RUNNING = frozenset({"running", "idle", *STANDING})


#: States of a guest that works on a host. While a guest migrates one of its two hosts shows it as paused.
WORKING = frozenset({"running", "idle"})


class Known:
    """Guests of the inventory, by the words that name them: a request may name as many as there are."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = tuple(places)
        self.host_ids = {place.host.entry.host_id for place in self.places}
        self.uuids = {place.guest.name: place.guest.guest_uuid for place in self.places}
        self._called = defaultdict[str, list[Place]](list)
        self._of_uuid = defaultdict[str, list[Place]](list)
        self._on_host = defaultdict[tuple[str, str], list[Place]](list)
        for place in self.places:
            guest, host_id = place.guest, place.host.entry.host_id
            self._called[guest.name].append(place)
            self._of_uuid[guest.guest_uuid].append(place)
            for word in naming.words_of(guest.guest_uuid, guest.name):
                self._on_host[word, host_id].append(place)

    def called(self, name: str) -> list[Place]:
        """Return all places of guests of this name."""
        return list(self._called.get(name, ()))

    def of(self, guest_uuid: str) -> list[Place]:
        """Return all places of one guest."""
        return list(self._of_uuid.get(guest_uuid, ()))

    def on_host(self, word: str, host_id: str) -> list[Place]:
        """Return the guests of a host that a name or a UUID means, as `naming.meant`."""
        return list(self._on_host.get((word.lower() if naming.is_uuid(word) else word, host_id), ()))


def one_each(found: Iterable[Place]) -> list[Place]:
    """Return each guest once, where it is. Raises SplitGuestError."""
    by_uuid: dict[str, list[Place]] = {}
    for place in found:
        by_uuid.setdefault(place.guest.guest_uuid, []).append(place)
    return [_likeliest(same) for same in by_uuid.values()]


def _likeliest(same: Sequence[Place]) -> Place:
    """Return where one guest is. Raises SplitGuestError if two hosts that are up say that it works there."""
    working = {place.host.entry.host_id: place for place in same if place.host.alive and place.guest.state in WORKING}
    if len(working) > 1:
        one = same[0].guest
        ways = " or ".join(f"{naming.guest_word(one.name, one.guest_uuid)}@{host_id}" for host_id in sorted(working))
        raise SplitGuestError(
            f"Guest {one.name} ({one.guest_uuid}) runs on {' and on '.join(sorted(working))} at once.",
            advice=f"Name the one that you mean: {ways}. Give the other a UUID of its own, or end it.",
            host_ids=tuple(sorted(working)),
        )
    return max(same, key=_likely)


def _likely(place: Place) -> tuple[bool, bool, bool]:
    """A guest on two hosts migrates, or was moved while its old host was down: where it runs is where it is."""
    return place.host.alive, place.guest.state in WORKING, place.guest.state in RUNNING


def find_guest(wanted: str, known: Known) -> Place:
    """Return the guest that `wanted` names: a UUID, a name, or name@host.

    Raises UnknownGuestError, AmbiguousGuestError, SplitGuestError.
    """
    found = meant(wanted, known)
    if len({place.guest.guest_uuid for place in found}) > 1:
        ways = ", ".join(sorted(_way_out(place, known) for place in found))
        raise AmbiguousGuestError(f"More than one guest is meant by {wanted}.", advice=f"Name one of {ways}.")
    if not found:
        raise unknown(wanted, known)
    return _likeliest(found)


def meant(wanted: str, known: Known) -> list[Place]:
    """Return all places that `wanted` may mean. A UUID means nothing else; a name may have an `@`, a host's id has none."""
    if naming.is_uuid(wanted):
        return known.of(wanted.lower())
    name, at, host_id = wanted.rpartition("@")
    return known.called(wanted) + (known.on_host(name, host_id) if at else [])


def _way_out(place: Place, known: Known) -> str:
    """Return what names this guest alone, as a shell must read it."""
    alone = {one.guest.guest_uuid for one in meant(_at(place), known)} == {place.guest.guest_uuid}
    return naming.guest_word(_at(place), place.guest.guest_uuid) if alone else place.guest.guest_uuid


def _at(place: Place) -> str:
    return f"{place.guest.name}@{place.host.entry.host_id}"


def unknown(wanted: str, known: Known, *, near: bool = True) -> UnknownGuestError:
    """Return the refusal of a word that means no guest, with a name that is `near`: that takes a look at each name."""
    name, at, host_id = wanted.rpartition("@")
    message = f"There is no guest {wanted}."
    if at and host_id in known.host_ids:
        message = f"There is no guest {name} on host {host_id}."
    elif at and name in known.uuids:
        message = f"There is no guest {wanted}, and no host {host_id} with a guest {name}."
    return UnknownGuestError(message, advice=_near(wanted, name, known) if near else None)


def _near(wanted: str, name: str, known: Known) -> str | None:
    """Return advice with a name that is like one of these; None if there is none."""
    found = difflib.get_close_matches(wanted, known.uuids, n=1) or difflib.get_close_matches(name, known.uuids, n=1)
    if not found:
        return None
    return f"Did you mean {naming.guest_word(found[0], known.uuids[found[0]])}? `freezeframe guests` lists all."
