"""The planner: which guests, on which hosts, and what each disk may build upon. Pure: a function of values."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence

from freezeframe import naming
from freezeframe.contract.fault import Fault
from freezeframe.contract.plan import DiskPlan, GuestPlan, HostPlan, LeftOutGuest, ParentDisk
from freezeframe.contract.request import CaptureRequest, DiskChoice, HoldChoice
from freezeframe.contract.words import HoldKind, Policy
from freezeframe.errors import FreezeframeError
from freezeframe.presence import KnownHost, Place, places
from freezeframe.repository import Manifest, find_parents
from orchestrator.clocks import host_trouble
from orchestrator.errors import (
    AmbiguousGuestError,
    HeldTwiceError,
    HostDownError,
    NoGuestsError,
    SplitGuestError,
    UnknownGuestError,
)

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


def plan_hosts(
    request: CaptureRequest, hosts: Sequence[KnownHost], parents_of: Callable[[str], Sequence[DiskPlan]]
) -> tuple[HostPlan, ...]:
    """Who takes part, host by host. Raises the first reason why the request cannot be carried out."""
    chosen = _chosen(request, places(list(hosts)))
    skips = _targets(request.skip_disks, chosen)
    decrypts = _targets(request.decrypt_disks, chosen)
    holds = _holds(request, chosen)
    by_host: dict[str, list[GuestPlan]] = {}
    unfit: list[FreezeframeError] = []
    for place in chosen:
        if _stands(request, place, holds):
            continue
        if (trouble := _host_trouble(place)) is not None:
            if request.policy is Policy.ALL:
                raise trouble
            unfit.append(trouble)
            continue
        guest_uuid = place.guest.guest_uuid
        guest = GuestPlan(
            guest_uuid=guest_uuid,
            name=place.guest.name,
            hold=request.hold_of(holds.get(guest_uuid)),
            parents=tuple(parents_of(guest_uuid)),
            skip=tuple(skips.get(guest_uuid, ())),
            decrypt=tuple(decrypts.get(guest_uuid, ())),
        )
        by_host.setdefault(place.host.entry.host_id, []).append(guest)
    if not by_host and unfit:
        raise unfit[0]
    if not by_host:
        standing = ", ".join(f"{place.guest.name} ({place.guest.state})" for place in chosen)
        raise NoGuestsError(
            f"No host has a running guest; not running are {standing}.",
            advice="Resume or wake one of them, or capture them as they are with --hold none.",
        )
    return tuple(HostPlan(host_id=host_id, guests=tuple(guests)) for host_id, guests in sorted(by_host.items()))


def left_out(request: CaptureRequest, hosts: Sequence[KnownHost]) -> tuple[LeftOutGuest, ...]:
    """Return the guests that `every_guest` leaves out although a host has a QEMU for them, each with the reason."""
    chosen = _chosen(request, places(list(hosts)))
    holds = _holds(request, chosen)
    return tuple(
        LeftOutGuest(guest=place.guest.name, host=place.host.entry.host_id, reason=STANDING[place.guest.state])
        for place in chosen
        if _stands(request, place, holds)
    )


def unfit_faults(request: CaptureRequest, hosts: Sequence[KnownHost]) -> tuple[Fault, ...]:
    """Return a fault for each guest that policy `degrade` goes on without, because of its host."""
    chosen = _chosen(request, places(list(hosts)))
    holds = _holds(request, chosen)
    return tuple(
        Fault.of(trouble, guest=place.guest.name, host=place.host.entry.host_id)
        for place in chosen
        if not _stands(request, place, holds) and (trouble := _host_trouble(place)) is not None
    )


def _host_trouble(place: Place) -> FreezeframeError | None:
    """Return why a guest's host cannot take part: it is down, or its clock is wrong."""
    entry = place.host.entry
    if place.host.alive:
        return host_trouble(place.host)
    return HostDownError(
        f"Guest {place.guest.name} is on host {entry.host_id}, which has not been heard of since "
        f"{entry.at:%Y-%m-%d %H:%M:%S} UTC.",
        advice="Look whether the host is up and its control worker runs (`freezeframe hosts`). To capture the rest without it, "
        f"add --policy degrade; if it is gone for good: `freezeframe hosts forget {naming.shell_word(entry.host_id)}`.",
    )


def _stands(request: CaptureRequest, place: Place, holds: Mapping[str, HoldChoice]) -> bool:
    """Return True for a guest that nobody has named, does not run, and would have to be held."""
    kind = request.hold_of(holds.get(place.guest.guest_uuid)).kind
    can_be_captured = kind is HoldKind.NONE and place.guest.state != "in shutdown"
    return request.every_guest and place.guest.state in STANDING and not can_be_captured


def _chosen(request: CaptureRequest, known: Sequence[Place]) -> list[Place]:
    """The guests that are meant, each once: one that was named twice, or that two hosts show, takes part once."""
    if not request.every_guest:
        return _one_each([find_guest(wanted, known) for wanted in request.guests])
    running = _one_each([place for place in known if place.guest.state in RUNNING])
    if not running:
        raise NoGuestsError("No host has a running guest.")
    return running


def _one_each(found: Iterable[Place]) -> list[Place]:
    by_uuid: dict[str, list[Place]] = {}
    for place in found:
        by_uuid.setdefault(place.guest.guest_uuid, []).append(place)
    return [_likeliest(same) for same in by_uuid.values()]


def _likeliest(same: Sequence[Place]) -> Place:
    """Return where one guest is. Raises SplitGuestError if two hosts that are up say that it works there."""
    working = {place.host.entry.host_id: place for place in same if place.host.alive and place.guest.state in WORKING}
    if len(working) > 1:
        ways = " or ".join(naming.shell_word(f"{working[one].guest.name}@{one}") for one in sorted(working))
        one = same[0].guest
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
    found = _meant(wanted, known)
    if len({place.guest.guest_uuid for place in found}) > 1:
        ways = ", ".join(sorted(_way_out(place, known) for place in found))
        raise AmbiguousGuestError(f"More than one guest is meant by {wanted}.", advice=f"Name one of {ways}.")
    if not found:
        raise _unknown(wanted, known)
    return _likeliest(found)


def _meant(wanted: str, known: Sequence[Place]) -> list[Place]:
    """Return all places that `wanted` may mean. A UUID means nothing else; a name may have an `@`, a host's id has none."""
    if naming.is_uuid(wanted):
        return [place for place in known if place.guest.guest_uuid == wanted.lower()]
    name, at, host_id = wanted.rpartition("@")
    on_host = [place for place in known if at and place.host.entry.host_id == host_id]
    there = naming.meant(name, on_host, lambda place: place.guest.guest_uuid, lambda place: place.guest.name)
    return [place for place in known if place.guest.name == wanted] + there


def _way_out(place: Place, known: Sequence[Place]) -> str:
    """Return what names this guest alone, as a shell must read it."""
    word = f"{place.guest.name}@{place.host.entry.host_id}"
    alone = {one.guest.guest_uuid for one in _meant(word, known)} == {place.guest.guest_uuid}
    return naming.shell_word(word if alone else place.guest.guest_uuid)


def _unknown(wanted: str, known: Sequence[Place]) -> UnknownGuestError:
    name, at, host_id = wanted.rpartition("@")
    hosts = {place.host.entry.host_id for place in known}
    names = {place.guest.name for place in known}
    message = f"There is no guest {wanted}."
    if at and host_id in hosts:
        message = f"There is no guest {name} on host {host_id}."
    elif at and name in names:
        message = f"There is no guest {wanted}, and no host {host_id} with a guest {name}."
    near = difflib.get_close_matches(wanted, names, n=1) or difflib.get_close_matches(name, names, n=1)
    advice = f"Did you mean {naming.shell_word(near[0])}? `freezeframe guests` lists all." if near else None
    return UnknownGuestError(message, advice=advice)


def _targets(choices: Iterable[DiskChoice], chosen: Sequence[Place]) -> dict[str, list[str]]:
    """Return the disks that were chosen, by their guests' UUIDs. Raises UnknownGuestError for a guest that takes no part."""
    targets: dict[str, list[str]] = {}
    for choice in choices:
        place = find_guest(choice.guest, chosen)
        targets.setdefault(place.guest.guest_uuid, []).append(choice.target)
    return targets


def _holds(request: CaptureRequest, chosen: Sequence[Place]) -> dict[str, HoldChoice]:
    """Raises UnknownGuestError for a guest that is not captured, HeldTwiceError for one that is named twice."""
    holds: dict[str, HoldChoice] = {}
    for choice in request.guest_holds:
        guest = find_guest(choice.guest, chosen).guest
        if holds.setdefault(guest.guest_uuid, choice) is not choice:
            raise HeldTwiceError(f"Guest {guest.name} is given a hold of its own twice.")
    return holds


def parent_disks(
    manifests: Iterable[Manifest],
    guest_uuid: str,
    is_suspect: Callable[[str, str], bool] = lambda _capture, _index: False,
) -> list[DiskPlan]:
    """Return the captures that disks of a guest could build upon, newest first."""
    return [
        DiskPlan(
            target=parent.disk.target,
            parent=ParentDisk(
                capture_id=parent.capture_id,
                checkpoint=parent.checkpoint,
                index=parent.disk.index,
                size_bytes=parent.disk.size_bytes,
                chunk_bytes=parent.disk.chunk_bytes,
                identity=parent.disk.identity,
                suspect=is_suspect(parent.capture_id, parent.disk.index),
            ),
        )
        for parent in find_parents(manifests, guest_uuid)
    ]
