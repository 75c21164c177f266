"""Guests of the inventory, by the words that callers name them with, each once and where it is. Pure."""

from __future__ import annotations

import difflib
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


def find_guest(wanted: str, known: Sequence[Place]) -> Place:
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


def meant(wanted: str, known: Sequence[Place]) -> list[Place]:
    """Return all places that `wanted` may mean. A UUID means nothing else; a name may have an `@`, a host's id has none."""
    if naming.is_uuid(wanted):
        return [place for place in known if place.guest.guest_uuid == wanted.lower()]
    name, at, host_id = wanted.rpartition("@")
    on_host = [place for place in known if at and place.host.entry.host_id == host_id]
    there = naming.meant(name, on_host, lambda place: place.guest.guest_uuid, lambda place: place.guest.name)
    return [place for place in known if place.guest.name == wanted] + there


def _way_out(place: Place, known: Sequence[Place]) -> str:
    """Return what names this guest alone, as a shell must read it."""
    alone = {one.guest.guest_uuid for one in meant(_at(place), known)} == {place.guest.guest_uuid}
    return naming.guest_word(_at(place), place.guest.guest_uuid) if alone else place.guest.guest_uuid


def _at(place: Place) -> str:
    return f"{place.guest.name}@{place.host.entry.host_id}"


def unknown(wanted: str, known: Sequence[Place]) -> UnknownGuestError:
    """Return the refusal of a word that means no guest, with a near one."""
    name, at, host_id = wanted.rpartition("@")
    hosts = {place.host.entry.host_id for place in known}
    names = {place.guest.name: place.guest.guest_uuid for place in known}
    message = f"There is no guest {wanted}."
    if at and host_id in hosts:
        message = f"There is no guest {name} on host {host_id}."
    elif at and name in names:
        message = f"There is no guest {wanted}, and no host {host_id} with a guest {name}."
    near = difflib.get_close_matches(wanted, names, n=1) or difflib.get_close_matches(name, names, n=1)
    advice = (
        f"Did you mean {naming.guest_word(near[0], names[near[0]])}? `freezeframe guests` lists all." if near else None
    )
    return UnknownGuestError(message, advice=advice)
