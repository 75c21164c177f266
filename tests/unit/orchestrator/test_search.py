"""A guest that runs on another host than planned is found again and prepared there, or refused with where it was looked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.order import PrepareOrder, ReleaseOrder
from freezeframe.contract.plan import GuestPlan, HostPlan, Plan
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import PreparedGuest, PrepareResult
from freezeframe.contract.words import HoldKind, Method, Policy, RunState
from freezeframe.presence import KnownHost
from freezeframe.settings import OrchestratorSettings
from orchestrator import decision
from orchestrator.path import orders_of
from orchestrator.run import Run
from orchestrator.search import ROUNDS, SEARCH_S

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOON = NOW + timedelta(seconds=2)
OVER = NOW + timedelta(seconds=SEARCH_S)
SETTINGS = OrchestratorSettings()
ALPHA, BETA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
FREEZE = GuestHold(kind=HoldKind.FREEZE)
GONE = Fault(code="guest-gone", message="The guest is not on host host-a.")
STOPPED = Fault(code="guest-not-running", message="Guest alpha is not running.")
TROUBLE = Fault(code="no-agent", message="The agent does not answer.")


def run(policy: Policy = Policy.ALL, **changes: Any) -> Run:
    """Alpha is planned on host-a, beta on host-b; host-c has none."""
    plan = Plan(
        capture_id=CAPTURE,
        epoch=7,
        method=Method.BACKUP_PULL,
        chunk_bytes=1 << 20,
        repository_id="r",
        hosts=(
            HostPlan(host_id="host-a", guests=(GuestPlan(guest_uuid=ALPHA, name="alpha", hold=FREEZE, skip=("vdb",)),)),
            HostPlan(host_id="host-b", guests=(GuestPlan(guest_uuid=BETA, name="beta", hold=FREEZE),)),
        ),
    )
    blank = Run(
        capture_id=CAPTURE,
        request=CaptureRequest(capture_id=CAPTURE, every_guest=True, policy=policy),
        asked_at=NOW,
        state=RunState.PREPARING,
        plan=plan,
        entered_at=NOW,
        due_at=NOW + timedelta(seconds=60),
    )
    return blank.model_copy(update=changes)


def prepared(host_id: str, guest_uuid: str, fault: Fault | None = None, number: int = 0) -> PrepareResult:
    guest = PreparedGuest(guest_uuid=guest_uuid, name=guest_uuid[-1], fault=fault)
    return PrepareResult(capture_id=CAPTURE, host_id=host_id, guests=(guest,), round=number)


def known(host_id: str, *running: str, at: datetime = NOW, state: str = "running", alive: bool = True) -> KnownHost:
    guests = tuple(GuestEntry(guest_uuid=one, name=one[-1], state=state) for one in running)
    versions = {"freezeframe_version": "0", "libvirt_version": "9.0.0", "qemu_version": "7.2.0"}
    return KnownHost(HostEntry.model_validate({"host_id": host_id, "at": at, "guests": guests, **versions}), alive)


def look(
    state: Run, results: list[PrepareResult], *hosts: KnownHost, now: datetime = NOW, must: bool = True
) -> Run | None:
    following = decision.after_prepare(state, results, now, SETTINGS, hosts)
    assert following is not None or not must
    return following


def searching(state: Run, results: list[PrepareResult], *hosts: KnownHost) -> Run:
    following = look(state, results, *hosts)
    assert following is not None
    assert following.search is not None
    return following


ALPHA_GONE = [prepared("host-a", ALPHA, GONE), prepared("host-b", BETA)]
STALE = (known("host-a", ALPHA), known("host-b", BETA), known("host-c"))


@pytest.mark.parametrize("fault", [GONE, STOPPED])
def test_a_guest_that_another_host_runs_is_prepared_there_in_the_same_epoch(fault: Fault) -> None:
    results = [prepared("host-a", ALPHA, fault), prepared("host-b", BETA)]
    following = look(run(), results, known("host-a", ALPHA, state="shut off"), known("host-c", ALPHA))
    assert following is not None
    assert (following.state, following.round, following.dispatched) == (RunState.PREPARING, 1, False)
    [order] = orders_of(following, results, NOW)
    assert isinstance(order, PrepareOrder)
    assert (order.host_id, order.epoch, order.part) == ("host-c", 7, "round1")
    assert [(guest.guest_uuid, guest.skip) for guest in order.guests] == [(ALPHA, ("vdb",))]


def test_the_found_guest_is_held_on_its_new_host_and_the_old_host_is_told_to_release() -> None:
    second = look(run(), ALPHA_GONE, known("host-c", ALPHA))
    assert second is not None
    assert look(second, ALPHA_GONE, must=False) is None  # host-c has not answered
    results = [*ALPHA_GONE, prepared("host-c", ALPHA, number=1)]
    following = look(second, results)
    assert following is not None
    assert (following.state, following.members) == (RunState.HOLDING, ("host-b", "host-c"))
    assert (set(following.kept), following.faults) == ({ALPHA, BETA}, ())
    released = orders_of(following.model_copy(update={"state": RunState.RELEASING}), results, NOW)
    assert [order.host_id for order in released if isinstance(order, ReleaseOrder)] == ["host-a", "host-b", "host-c"]


def test_a_host_with_guests_of_its_own_gets_a_second_order_and_its_first_answer_does_not_answer_it() -> None:
    second = look(run(), ALPHA_GONE, known("host-b", ALPHA, BETA))
    assert second is not None
    [order] = orders_of(second, ALPHA_GONE, NOW)
    assert isinstance(order, PrepareOrder)
    assert (order.host_id, [guest.guest_uuid for guest in order.guests]) == ("host-b", [ALPHA])
    assert look(second, ALPHA_GONE, must=False) is None
    following = look(second, [*ALPHA_GONE, prepared("host-b", ALPHA, number=1)])
    assert following is not None
    assert (following.members, set(following.kept)) == (("host-b",), {ALPHA, BETA})


def test_a_refused_second_order_leaves_the_guests_of_the_first_in_a_degraded_capture() -> None:
    second = look(run(Policy.DEGRADE), ALPHA_GONE, known("host-b", ALPHA, BETA))
    assert second is not None
    following = look(second, [*ALPHA_GONE, prepared("host-b", ALPHA, TROUBLE, number=1)])
    assert following is not None
    assert (following.state, following.kept, following.faults) == (RunState.HOLDING, (BETA,), (TROUBLE,))


def test_the_search_goes_on_until_every_other_host_has_published_again() -> None:
    state = searching(run(), ALPHA_GONE, *STALE)
    assert (state.state, state.dispatched, state.faults) == (RunState.PREPARING, True, ())
    assert look(state, ALPHA_GONE, *STALE, must=False) is None
    half = (known("host-b", BETA, at=SOON), known("host-c"))
    assert look(state, ALPHA_GONE, *half, now=SOON, must=False) is None
    following = look(state, ALPHA_GONE, known("host-b", BETA, at=SOON), known("host-c", ALPHA, at=SOON), now=SOON)
    assert following is not None
    assert (following.round, following.search, [host.host_id for host in following.moved]) == (1, None, ["host-c"])


@pytest.mark.parametrize("at", [NOW, SOON])
def test_a_guest_that_nobody_runs_is_refused_with_where_it_was_looked_for(at: datetime) -> None:
    """When all have published, or when the time is up and they have not."""
    state = searching(run(), ALPHA_GONE, *STALE)
    entries = (known("host-a", at=at), known("host-b", BETA, at=at), known("host-c", at=at))
    following = look(state, ALPHA_GONE, *entries, now=SOON if at == SOON else OVER)
    assert following is not None
    assert (following.state, following.kept) == (RunState.RELEASING, ())
    [fault] = following.faults
    elsewhere = "By their newest entries it does not run on host-b, host-c either."
    assert (fault.code, fault.message) == (GONE.code, f"{GONE.message} {elsewhere}")


def test_a_fault_names_a_few_of_many_hosts() -> None:
    state = searching(run(), ALPHA_GONE, *STALE)
    hosts = [known(f"host-{letter}", at=SOON) for letter in "abcdefghijkl"]
    following = look(state, ALPHA_GONE, *hosts, now=SOON)
    assert following is not None
    [fault] = following.faults
    named = ", ".join(f"host-{letter}" for letter in "bcdefghi")
    elsewhere = f"By their newest entries it does not run on {named} and 3 more hosts either."
    assert fault.message == f"{GONE.message} {elsewhere}"


def test_a_host_that_a_guest_has_left_may_be_where_another_has_gone_to() -> None:
    """So both are waited for; where one guest alone has moved, its old host is not."""
    both = [prepared("host-a", ALPHA, GONE), prepared("host-b", BETA, GONE)]
    hosts = (known("host-a"), known("host-b"))
    state = searching(run(), both, *hosts)
    assert look(state, both, known("host-a"), known("host-b", at=SOON), now=SOON, must=False) is None
    assert look(state, both, known("host-a", at=SOON), known("host-b", at=SOON), now=SOON) is not None
    alone = searching(run(), ALPHA_GONE, *hosts)
    assert look(alone, ALPHA_GONE, known("host-a"), known("host-b", at=SOON), now=SOON) is not None


def test_without_another_host_nobody_is_waited_for() -> None:
    following = look(run(), ALPHA_GONE, known("host-a", ALPHA), known("host-b", ALPHA, alive=False))
    assert following is not None
    assert following.state is RunState.RELEASING
    assert "No other host is up whose entry can be read: see `freezeframe hosts`." in following.faults[0].message


def test_where_it_runs_goes_before_where_it_may_still_be_arriving() -> None:
    following = look(run(), ALPHA_GONE, known("host-b", ALPHA, state="paused"), known("host-c", ALPHA))
    assert following is not None
    assert [host.host_id for host in following.moved] == ["host-c"]


def test_a_capture_of_all_that_is_lost_anyway_does_not_search() -> None:
    following = look(
        run(), [prepared("host-a", ALPHA, GONE), prepared("host-b", BETA, TROUBLE)], known("host-c", ALPHA)
    )
    assert following is not None
    assert (following.state, following.faults) == (RunState.RELEASING, (TROUBLE, GONE))


def test_a_guest_that_keeps_moving_is_given_up() -> None:
    state: Run | None = run()
    results = list(ALPHA_GONE)
    hosts = ["host-c", "host-a"]
    for number, host_id in enumerate(hosts, 1):
        assert state is not None
        state = look(state, results, known(host_id, ALPHA))
        results.append(prepared(host_id, ALPHA, GONE, number))
    assert state is not None
    assert state.round == len(hosts) == ROUNDS
    following = look(state, results, known("host-b", ALPHA))
    assert following is not None
    assert (following.state, following.faults) == (RunState.RELEASING, (GONE,))
