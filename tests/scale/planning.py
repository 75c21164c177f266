"""Planning a capture: by names, of every guest, with choices, and the parents of its disks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any

from freezeframe.contract.plan import DiskPlan
from freezeframe.contract.request import DiskChoice, HoldChoice
from freezeframe.contract.words import HoldKind
from freezeframe.presence import KnownHost, UnreadHost, places
from freezeframe.repository import ParentSearch
from freezeframe.repository.parent import AT_MOST
from orchestrator import unread
from orchestrator.choices import without_strays
from orchestrator.planner import left_out, parent_disks, plan_hosts, unfit_faults
from tests.scale.capture import ManyGuests
from tests.scale.counting import counted

Call = Callable[[], object]


def _none(_: str) -> list[DiskPlan]:
    return []


def plan_by_name(many: ManyGuests) -> Call:
    request, hosts = counted((many.by_name, many.inventory))
    return lambda: plan_hosts(request, hosts)


def plan_every_guest(many: ManyGuests) -> Call:
    request, hosts = counted((many.request(), many.inventory))
    return lambda: plan_hosts(request, hosts)


def plan_with_choices(many: ManyGuests) -> Call:
    """An option or two for each guest, by its name on its host."""
    words = [f"{one.guest.name}@{one.host.entry.host_id}" for one in places(many.inventory)]
    choices: dict[str, Any] = {
        "guest_holds": tuple(HoldChoice(guest=word, kind=HoldKind.PAUSE) for word in words),
        "skip_disks": tuple(DiskChoice(guest=word, target="vdz") for word in words),
    }
    request, hosts = counted((many.request(**choices), many.inventory))
    return lambda: (plan_hosts(request, hosts), left_out(request, hosts))


def plan_without_hosts_that_are_down(many: ManyGuests) -> Call:
    down = [KnownHost(host.entry, alive=number % 2 == 0) for number, host in enumerate(many.inventory)]
    request, hosts = counted((many.request(), [*down, *many.inventory[:1]]))
    return lambda: unfit_faults(request, hosts)


def options_that_nobody_knows(many: ManyGuests) -> Call:
    """And as many hosts that cannot be read, which may have those guests."""
    choices = tuple(HoldChoice(guest=f"nobody-{one}", kind=HoldKind.PAUSE) for one in many.every_uuid)
    request, hosts = counted((many.request(guest_holds=choices), many.inventory))
    missing = [UnreadHost(host_id, "is of a later version", alive=True) for host_id in many.host_ids]

    def call() -> None:
        rest, strays = without_strays(request, hosts)
        assert not rest.guest_holds
        for stray in strays:
            unread.explained(stray, missing)

    return call


def parents(many: ManyGuests) -> Call:
    manifests = counted([many.manifest] * 3)

    def call() -> None:
        found = ParentSearch(manifests)
        for guest_uuid in many.every_uuid:
            parent_disks(found.of(guest_uuid))

    return call


def parents_that_are_in_no_capture(many: ManyGuests) -> Call:
    """Of a repository with so many captures of other guests that the search gives up."""
    other = ManyGuests(1, 1, 1).manifest.changed({"guests": ()})
    wanted = counted(many.every_uuid)

    def call() -> None:
        found = ParentSearch(repeat(other, AT_MOST + 1))
        for guest_uuid in wanted:
            found.of(guest_uuid)

    return call
