"""Guests that do not run where the plan has them: looked for in the inventory, and prepared where they run. Pure.

    prepare: not here ─▶ search ─▶ another host shows it running ─▶ prepared there, in the same run and epoch: the next round
                           │
                           └─▶ every other host has published since, and none shows it ─▶ the fault stands, and says where

A guest migrates while a capture is planned, and hosts publish every few seconds only, so the plan may be older than the move.
At the end of a migration the guest runs on its new host before it is gone from the old one: an entry that is newer than the
fault knows where it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from freezeframe.contract.fault import Fault
from freezeframe.contract.plan import GuestPlan, HostPlan, Plan
from freezeframe.contract.result import NOT_HERE, PrepareResult
from freezeframe.presence import ALIVE_S, KnownHost, Place, places
from orchestrator.guests import RUNNING
from orchestrator.run import Run, Search

#: Rounds of prepare after the first. A guest that moves more often while one capture prepares is not to be waited for.
ROUNDS = 2
#: Seconds to wait for newer entries; a host that publishes none for so long is down.
SEARCH_S = float(ALIVE_S)
#: Hosts that the fault of one guest names; of the others it tells the number.
MOST_NAMED: Final = 8


@dataclass(frozen=True)
class Lost:
    """A guest that does not run on the host which was asked to prepare it."""

    guest_uuid: str
    host_id: str
    fault: Fault


def lost_guests(run: Run, results: Sequence[PrepareResult]) -> tuple[Lost, ...]:
    """The guests to look for: none after the last round."""
    if run.round >= ROUNDS:
        return ()
    return tuple(
        Lost(guest.guest_uuid, result.host_id, guest.fault)
        for result in results
        if result.round == run.round
        for guest in result.guests
        if guest.fault and guest.fault.code in NOT_HERE
    )


def found_guests(lost: Sequence[Lost], hosts: Sequence[KnownHost]) -> dict[str, str]:
    """Return where lost guests run, as far as the inventory shows: guest to host."""
    wanted = {one.guest_uuid for one in lost}
    shown = defaultdict[str, list[Place]](list)
    for place in places(_alive(hosts)) if wanted else ():
        if place.guest.guest_uuid in wanted and place.guest.state in RUNNING:
            shown[place.guest.guest_uuid].append(place)
    found = {}
    for one in lost:
        there = [place for place in shown.get(one.guest_uuid, ()) if place.host.entry.host_id != one.host_id]
        if there:
            found[one.guest_uuid] = max(there, key=_runs).host.entry.host_id
    return found


def _alive(hosts: Sequence[KnownHost]) -> list[KnownHost]:
    return [host for host in hosts if host.alive]


def _runs(place: Place) -> bool:
    """One that is paused may only be on its way to that host."""
    return place.guest.state != "paused"


def is_over(run: Run, lost: Sequence[Lost], hosts: Sequence[KnownHost], now: datetime) -> bool:
    """Return True if waiting for newer entries would show nothing more."""
    left = {one.host_id for one in lost}
    entries = {host.entry.host_id: host.entry.at for host in _alive(hosts)}
    if len(left) == 1:  # else a host that a guest has left may be where another has gone to
        entries.pop(left.pop(), None)
    if run.search is None:
        return not entries
    return now >= run.search.until or all(at != run.search.seen.get(host_id) for host_id, at in entries.items())


def begin(run: Run, hosts: Sequence[KnownHost], now: datetime) -> Run | None:
    """The run, searching; None if it already is. No orders belong to it: the reconciler's next looks go on."""
    if run.search is not None:
        return None
    seen = {host.entry.host_id: host.entry.at for host in hosts}
    search = Search(until=now + timedelta(seconds=SEARCH_S), seen=seen)
    return run.model_copy(update={"search": search, "dispatched": True})


def moved_plan(plan: Plan, found: Mapping[str, str]) -> tuple[Plan, tuple[HostPlan, ...]]:
    """The plan with each found guest on its host, and these guests alone, host by host.

    A host that has no guest left stays in the plan: it has a journal of the capture, and must be told to release.
    """
    planned = {guest.guest_uuid: guest for host in plan.hosts for guest in host.guests}
    arrived = defaultdict[str, list[GuestPlan]](list)
    for guest_uuid, host_id in sorted(found.items()):
        arrived[host_id].append(planned[guest_uuid])
    stayed = {host.host_id: tuple(one for one in host.guests if one.guest_uuid not in found) for host in plan.hosts}
    hosts = tuple(
        HostPlan(host_id=host_id, guests=(*stayed.get(host_id, ()), *arrived.get(host_id, ())))
        for host_id in sorted({*stayed, *arrived})
    )
    moved = tuple(HostPlan(host_id=host_id, guests=tuple(guests)) for host_id, guests in sorted(arrived.items()))
    return plan.model_copy(update={"hosts": hosts}), moved


def standing_faults(lost: Sequence[Lost], hosts: Sequence[KnownHost]) -> list[Fault]:
    """Return the faults of guests that were not found, each with where it was looked for.

    Entries say where: one may be older than the fault, and a host whose entry cannot be read is not among them.
    """
    alive = dict.fromkeys(sorted(host.entry.host_id for host in _alive(hosts)))
    return [_standing_fault(one, alive) for one in lost]


def _standing_fault(one: Lost, alive: Collection[str]) -> Fault:
    named = [host_id for host_id in islice(alive, MOST_NAMED + 1) if host_id != one.host_id][:MOST_NAMED]
    others = len(alive) - (one.host_id in alive)
    more = f" and {others - len(named)} more hosts" if others > len(named) else ""
    elsewhere = f"By their newest entries it does not run on {', '.join(named)}{more} either."
    where = elsewhere if named else "No other host is up whose entry can be read: see `freezeframe hosts`."
    return one.fault.model_copy(update={"message": f"{one.fault.message} {where}"})
