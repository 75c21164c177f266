"""The planner: which guests, on which hosts, and what each disk may build upon. Pure: a function of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from freezeframe import __version__, naming
from freezeframe.contract.fault import Fault
from freezeframe.contract.inventory import CONTRACT, HostEntry
from freezeframe.contract.plan import DiskPlan, GuestPlan, HostPlan, LeftOutGuest, ParentDisk
from freezeframe.contract.request import CaptureRequest, HoldChoice
from freezeframe.contract.words import HoldKind, Policy
from freezeframe.errors import FreezeframeError
from freezeframe.presence import KnownHost, Place, places
from freezeframe.repository import Parent
from orchestrator.choices import Choices
from orchestrator.clocks import host_trouble
from orchestrator.errors import HostContractError, HostDownError, NoGuestsError
from orchestrator.guests import RUNNING, STANDING, Known, find_guest, one_each


def plan_hosts(request: CaptureRequest, hosts: Sequence[KnownHost]) -> tuple[HostPlan, ...]:
    """Return who takes part, host by host, without parents. Raises the first reason why the request cannot be carried out."""
    chosen, asked = _chosen_and_asked(request, hosts)
    skips = asked.targets(request.skip_disks)
    decrypts = asked.targets(request.decrypt_disks)
    holds = asked.holds()
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


def with_parents(hosts: Sequence[HostPlan], parents_of: Callable[[str], Sequence[DiskPlan]]) -> tuple[HostPlan, ...]:
    """Return who takes part, with what each disk may build upon."""
    return tuple(
        HostPlan(
            host_id=host.host_id,
            guests=tuple(
                guest.model_copy(update={"parents": tuple(parents_of(guest.guest_uuid))}) for guest in host.guests
            ),
        )
        for host in hosts
    )


def left_out(request: CaptureRequest, hosts: Sequence[KnownHost]) -> tuple[LeftOutGuest, ...]:
    """Return the guests that `every_guest` leaves out, each with the reason.

    Those for which a host has a QEMU all the same, and those that an option names.
    """
    chosen, asked = _chosen_and_asked(request, hosts)
    holds = asked.holds()
    found = [(place, STANDING[place.guest.state]) for place in chosen if _stands(request, place, holds)]
    found += [
        (place, f"it is {place.guest.state}; the options that name it were passed over")
        for place in asked.passed_over()
    ]
    return tuple(
        LeftOutGuest(guest=place.guest.name, host=place.host.entry.host_id, reason=reason) for place, reason in found
    )


def unfit_faults(request: CaptureRequest, hosts: Sequence[KnownHost]) -> tuple[Fault, ...]:
    """Return a fault for each guest that policy `degrade` goes on without, because of its host."""
    chosen, asked = _chosen_and_asked(request, hosts)
    holds = asked.holds()
    return tuple(
        Fault.of(trouble, guest=place.guest.name, host=place.host.entry.host_id)
        for place in chosen
        if not _stands(request, place, holds) and (trouble := _host_trouble(place)) is not None
    )


def _host_trouble(place: Place) -> FreezeframeError | None:
    """Return why a guest's host cannot take part: it is down, of another version, or its clock is wrong."""
    entry = place.host.entry
    if place.host.alive:
        return _contract_trouble(entry) or host_trouble(place.host)
    return HostDownError(
        f"Guest {place.guest.name} is on host {entry.host_id}, which has not been heard of since "
        f"{entry.at:%Y-%m-%d %H:%M:%S} UTC.",
        advice="Look whether the host is up and its control worker runs (`freezeframe hosts`). To capture the rest without it, "
        f"add --policy degrade; if it is gone for good: `freezeframe hosts forget {naming.argument(entry.host_id)}`.",
    )


def _contract_trouble(entry: HostEntry) -> FreezeframeError | None:
    """Return why a host of another version cannot take part: one of the two would not understand the other."""
    if entry.contract == CONTRACT:
        return None
    newer = (
        f"newer than this orchestrator's ({__version__})"
        if entry.contract > CONTRACT
        else "too old for this orchestrator"
    )
    behind = "the orchestrator's machine" if entry.contract > CONTRACT else f"host {entry.host_id}"
    return HostContractError(
        f"Freezeframe on host {entry.host_id} ({entry.freezeframe_version}) is {newer}.",
        advice=f"Bring {behind} to the newer version. To capture the rest without it meanwhile, add --policy degrade.",
    )


def _stands(request: CaptureRequest, place: Place, holds: Mapping[str, HoldChoice]) -> bool:
    """Return True for a guest that nobody has named, does not run, and would have to be held."""
    kind = request.hold_of(holds.get(place.guest.guest_uuid)).kind
    can_be_captured = kind is HoldKind.NONE and place.guest.state != "in shutdown"
    return request.every_guest and place.guest.state in STANDING and not can_be_captured


def _chosen_and_asked(request: CaptureRequest, hosts: Sequence[KnownHost]) -> tuple[list[Place], Choices]:
    """Return the guests that are meant, and what was chosen for single ones of them."""
    known = Known(places(hosts))
    chosen = _chosen(request, known)
    return chosen, Choices(request, Known(chosen), known)


def _chosen(request: CaptureRequest, known: Known) -> list[Place]:
    """The guests that are meant, each once: one that was named twice, or that two hosts show, takes part once."""
    if not request.every_guest:
        return one_each([find_guest(wanted, known) for wanted in request.guests])
    running = one_each([place for place in known.places if place.guest.state in RUNNING])
    if not running:
        raise NoGuestsError("No host has a running guest.")
    return running


def parent_disks(
    parents: Iterable[Parent],
    is_suspect: Callable[[str, str], bool] = lambda _capture, _index: False,
) -> list[DiskPlan]:
    """Return the parents of a guest's disks as its host is told of them."""
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
        for parent in parents
    ]
