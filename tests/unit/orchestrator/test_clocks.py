"""Clocks that are wrong are named before any guest is touched (cases S2, S7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ulid import ULID

from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest
from freezeframe.presence import KnownHost
from orchestrator import clocks
from orchestrator.clocks import ClockError, LateRequestError, RequestDateError
from orchestrator.errors import HostDownError
from orchestrator.planner import plan_hosts, unfit_faults

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SEALED = str(ULID.from_datetime(NOW - timedelta(seconds=5)))
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


def host(letter: str, ahead_s: float | None = 0.0, *, alive: bool = True, state: str = "running") -> KnownHost:
    guest = GuestEntry(guest_uuid=f"00000000-0000-4000-8000-00000000000{letter}", name=f"guest-{letter}", state=state)
    entry = HostEntry(
        host_id=f"host-{letter}",
        at=NOW,
        clock_ahead_s=ahead_s,
        freezeframe_version="0",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=(guest,),
    )
    return KnownHost(entry, alive)


def asked(**changes: Any) -> CaptureRequest:
    return CaptureRequest.model_validate({"capture_id": CAPTURE, "every_guest": True, **changes})


@pytest.mark.case("S7")
@pytest.mark.parametrize("days", [400, 1, -1, -400, -20_000])
def test_a_request_from_another_time_is_refused(days: int) -> None:
    dated = str(ULID.from_datetime(NOW + timedelta(days=days)))
    with pytest.raises(
        RequestDateError, match=r"2026-11-26 12:00:00 by Redis's clock; at most 5 min ahead and 1 h back"
    ):
        clocks.check_request(dated, NOW, newest=SEALED)


@pytest.mark.case("S7")
def test_a_request_from_the_past_that_hides_behind_no_capture_is_taken() -> None:
    dated = str(ULID.from_datetime(NOW - timedelta(days=400)))
    clocks.check_request(dated, NOW)
    clocks.check_request(dated, NOW, newest=str(ULID.from_datetime(NOW - timedelta(days=401))))


@pytest.mark.case("S7")
@pytest.mark.parametrize("seconds", [0, 299, -3599])
def test_a_request_of_now_is_not(seconds: int) -> None:
    clocks.check_request(str(ULID.from_datetime(NOW + timedelta(seconds=seconds))), NOW, newest=SEALED)


@pytest.mark.case("S7")
@pytest.mark.parametrize(
    ("seconds", "said"), [(86400, "86400 s ahead of"), (-86400, "86400 s behind"), (400 * 86400, "400.0 days ahead of")]
)
def test_the_orchestrators_own_clock_is_compared_with_redis(seconds: int, said: str) -> None:
    with pytest.raises(ClockError, match=f"The orchestrator's clock is {said} Redis's"):
        clocks.check_own(NOW + timedelta(seconds=seconds), NOW)
    clocks.check_own(NOW + timedelta(seconds=14), NOW)


def test_a_request_that_was_given_up_is_told_so_by_the_clock_that_its_caller_asked() -> None:
    clocks.check_in_time(None, NOW)
    clocks.check_in_time(int(NOW.timestamp() * 1e6), NOW)
    with pytest.raises(LateRequestError, match="picked up 40 s after"):
        clocks.check_in_time(int(NOW.timestamp() * 1e6), NOW + timedelta(seconds=40))


@pytest.mark.case("S2")
@pytest.mark.parametrize(("ahead_s", "said"), [(300, "300 s ahead of"), (90, "90 s ahead of"), (-300, "300 s behind")])
def test_a_host_whose_clock_is_wrong_is_named_in_the_plan(ahead_s: float, said: str) -> None:
    with pytest.raises(ClockError, match=f"The clock of host host-b is {said} Redis's") as caught:
        plan_hosts(asked(), [host("a"), host("b", ahead_s)])
    assert "timedatectl" in caught.value.hint


@pytest.mark.case("S2")
def test_a_host_that_did_not_measure_or_is_right_takes_part() -> None:
    planned = plan_hosts(asked(), [host("a", None), host("b", -14.0)])
    assert [one.host_id for one in planned] == ["host-a", "host-b"]


@pytest.mark.case("S1", "S2")
def test_degrade_goes_on_without_dead_hosts_and_wrong_clocks_and_names_them() -> None:
    hosts = [host("a"), host("b", 90.0), host("c", alive=False), host("d", alive=False, state="shut off")]
    request = asked(policy="degrade")
    assert [one.host_id for one in plan_hosts(request, hosts)] == ["host-a"]
    faults = unfit_faults(request, hosts)
    assert [(fault.guest, fault.host, fault.code) for fault in faults] == [
        ("guest-b", "host-b", "clock"),
        ("guest-c", "host-c", "host-down"),
    ]
    named = asked(every_guest=False, guests=("guest-a", "guest-c"), policy="degrade")
    assert [one.host_id for one in plan_hosts(named, hosts)] == ["host-a"]
    assert [fault.guest for fault in unfit_faults(named, hosts)] == ["guest-c"]


@pytest.mark.case("S1")
def test_all_is_refused_with_both_ways_out() -> None:
    with pytest.raises(HostDownError, match="guest-c is on host host-c") as caught:
        plan_hosts(asked(), [host("a"), host("c", alive=False)])
    assert "--policy degrade" in caught.value.hint
    assert "`freezeframe hosts forget host-c`" in caught.value.hint


@pytest.mark.case("S1")
def test_degrade_without_any_host_that_is_up_is_refused() -> None:
    with pytest.raises(HostDownError, match="host-c"):
        plan_hosts(asked(policy="degrade"), [host("c", alive=False)])


def test_a_living_host_counts_before_a_dead_one_that_says_running() -> None:
    """A stale `running` of a dead host is no reason to look for the guest there."""
    dead, living = host("a", alive=False), host("b", state="shut off")
    moved = living.entry.guests[0].model_copy(update={"guest_uuid": dead.entry.guests[0].guest_uuid, "name": "guest-a"})
    there = KnownHost(living.entry.model_copy(update={"guests": (moved,)}), alive=True)
    planned = plan_hosts(asked(every_guest=False, guests=("guest-a",)), [dead, there])
    assert [one.host_id for one in planned] == ["host-b"]


def test_clocks_may_be_apart_by_as_much_as_is_said_and_no_more() -> None:
    most = timedelta(seconds=clocks.MOST_APART_S)
    for apart in (most, -most):
        clocks.check_own(NOW + apart, NOW)
        assert clocks.host_trouble(host("a", apart.total_seconds())) is None
        more = apart * 1.001
        assert clocks.host_trouble(host("a", more.total_seconds())) is not None
        with pytest.raises(ClockError):
            clocks.check_own(NOW + more, NOW)


@pytest.mark.parametrize("most", [clocks.MOST_AHEAD, -clocks.MOST_BEHIND])
def test_a_request_may_be_dated_by_as_much_as_is_said_and_no_more(most: timedelta) -> None:
    clocks.check_request(str(ULID.from_datetime(NOW + most)), NOW, newest=SEALED)
    with pytest.raises(RequestDateError):
        clocks.check_request(str(ULID.from_datetime(NOW + most * 1.001)), NOW, newest=SEALED)


def test_a_sealed_capture_is_not_hidden_by_itself() -> None:
    """Who asks again with its id meets it, whatever its age."""
    old = str(ULID.from_datetime(NOW - timedelta(days=3)))
    clocks.check_request(old, NOW, newest=old)


def test_redis_s_time_is_of_seconds_and_microseconds() -> None:
    assert clocks.redis_time((1_700_000_000, 250_000)) == datetime.fromtimestamp(1_700_000_000.25, UTC)
