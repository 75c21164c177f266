"""The hold window: whom a host waits for, whom it reports without, and what it tells the guard; all of it within bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from concurrent.futures import ALL_COMPLETED, Future, wait
from concurrent.futures._base import DoneAndNotDoneFutures
from types import SimpleNamespace
from typing import cast

import libvirt
import pytest
import redis

from freezeframe import redis_fault
from freezeframe.barrier import Gate, GateUnreachableError
from tests.unit.workers.hold_site import FakeLine, Site, results
from workers.bounded import GuestCalls
from workers.steps import window
from workers.steps.guest_in_hold import HeldGuest
from workers.steps.window import is_pending

HELD = "held"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an agent's second and this, a tenth of a second to let go and for calls to return."""
    monkeypatch.setattr(window, "GIVE_UP_S", -1.9)


@pytest.mark.case("G4")
def test_a_guest_that_fails_lets_the_others_go_without_waiting_for_the_slowest(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `all` the capture is lost. The slow one is freed here by what tells it to go, long before the hold's end."""
    failing, slow = site.guests["host-a"]
    failing.refuses_begin = True
    slow.suspending.clear()
    release = HeldGuest.release

    def noted(guest: HeldGuest) -> None:
        if guest.uuid == slow.uuid:
            slow.suspending.set()
        release(guest)

    monkeypatch.setattr(HeldGuest, "release", noted)
    began = time.monotonic()
    a, _ = results(site.hold(hold_timeout_s=29.0))
    assert time.monotonic() - began < 20.0
    assert a.proof is not None
    assert a.proof.report_ns is None
    assert site.held_ones() == []


@pytest.mark.case("G4")
@pytest.mark.usefixtures("short")
def test_a_host_with_a_guest_that_hangs_does_not_report_under_all(site: Site) -> None:
    hanging = site.guests["host-a"][0]
    hanging.suspending.clear()
    a, b = results(site.hold(hold_timeout_s=1.0))
    for answer in (a, b):
        assert answer.proof is not None
        assert answer.proof.woken_ns is None
        assert answer.release_us is None
    assert a.proof is not None
    assert a.proof.report_ns is None


@pytest.mark.case("P4")
def test_the_guard_is_told_at_once_of_a_guest_that_somebody_else_has_paused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the barrier: a guard that is left alone with the lease would resume the administrator's guest."""
    paused = site.guests["host-a"][0]
    paused.state_code = libvirt.VIR_DOMAIN_PAUSED
    told = threading.Event()
    seen: list[list[str]] = []
    disarm, meet = FakeLine.disarm, Gate.meet

    def noted(line: FakeLine, capture_id: str, guests: list[str]) -> bool:
        stood = disarm(line, capture_id, guests)
        if guests == [paused.uuid]:
            told.set()
        return stood

    def met(gate: Gate, deadline: float, visit: str = "") -> None:
        if gate._member == "host-a" and gate._key.endswith(HELD):
            assert told.wait(20)
            seen.append(list(site.guards["host-a"].disarmed))
        meet(gate, deadline, visit)

    monkeypatch.setattr(FakeLine, "disarm", noted)
    monkeypatch.setattr(Gate, "meet", met)
    a, _ = results(site.hold(all_or_nothing=False))
    assert seen == [[paused.uuid]]
    assert a.guest_faults[0].fault.code == "guest-paused"


@pytest.mark.case("G4")
def test_a_guest_with_a_call_of_an_earlier_hold_is_told_as_such_and_one_without_a_thread_as_such(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, back = site.guests["host-a"][0], threading.Event()
    unstarted = site.guests["host-b"][0]
    calls = site.hosts["host-a"].calls
    calls.give_up(f"{earlier.uuid} hold", calls.start(f"{earlier.uuid} hold", back.wait))
    start = GuestCalls.start

    def short_of_threads(own: GuestCalls, key: str, call: object) -> Future[object]:
        if key == f"{unstarted.uuid} hold":
            raise RuntimeError("can't start new thread")
        return start(own, key, call)  # type: ignore[arg-type]

    monkeypatch.setattr(GuestCalls, "start", short_of_threads)
    a, b = results(site.hold(all_or_nothing=False))
    back.set()
    assert [one.fault.code for one in (*a.guest_faults, *b.guest_faults)] == ["guest-hangs"] * 2
    assert a.guest_faults[0].fault.message.startswith("An earlier call on guest")
    assert "No thread can be started" in b.guest_faults[0].fault.message


@pytest.mark.case("G4")
@pytest.mark.usefixtures("short")
def test_a_guest_whose_earlier_call_has_returned_is_no_longer_pending(site: Site) -> None:
    """What could not be started never returns; taken for a call that hangs it would keep the guest from its release."""
    guest, back = site.guests["host-a"][0], threading.Event()
    calls = site.hosts["host-a"].calls
    key = f"{guest.uuid} let go"
    calls.give_up(key, calls.start(key, back.wait))
    results(site.hold())
    assert is_pending(calls, guest.uuid)
    assert guest.uuid not in site.guards["host-a"].disarmed  # nobody let it go: its lease stands
    back.set()
    until = time.monotonic() + 20.0
    while calls.is_hanging(key) and time.monotonic() < until:
        time.sleep(0.001)
    assert not is_pending(calls, guest.uuid)


@pytest.mark.parametrize(("agent_s", "most_s"), [(1, 7.0), (8, 21.0), (60, 25.0)])
def test_a_window_waits_for_its_last_calls_as_long_as_two_answers_of_an_agent_and_within_the_bound(
    site: Site, monkeypatch: pytest.MonkeyPatch, agent_s: int, most_s: float
) -> None:
    """The orchestrator counts a host as silent 30 s after its hold."""
    waited: list[float] = []
    waited_for = threading.Event()
    release = HeldGuest.release

    def noted(
        futures: Collection[Future[None]], timeout: float, return_when: str = ALL_COMPLETED
    ) -> DoneAndNotDoneFutures[None]:
        if return_when == ALL_COMPLETED:
            return wait(futures, 0)
        waited.append(timeout)
        waited_for.set()
        return wait(futures, None, return_when)

    def released(guest: HeldGuest) -> None:
        assert waited_for.wait(20)
        release(guest)

    monkeypatch.setattr(HeldGuest, "release", released)
    monkeypatch.setattr(window, "wait", noted)
    monkeypatch.setattr(window, "time", SimpleNamespace(monotonic=lambda: 1000.0, monotonic_ns=time.monotonic_ns))
    meet = Gate.meet
    monkeypatch.setattr(Gate, "meet", lambda gate, _, visit="": meet(gate, time.monotonic() + 60.0, visit))
    for host in site.hosts.values():
        object.__setattr__(host, "settings", host.settings.model_copy(update={"agent_timeout_s": agent_s}))
    results(site.hold())
    assert waited
    assert set(waited) == {most_s}


def test_a_barrier_that_another_host_did_not_reach_is_no_trouble_of_redis(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told as such it would send the operator to the wrong machine."""
    meet = Gate.meet

    def late(gate: Gate, deadline: float, visit: str = "") -> None:
        if gate._key.endswith(HELD):
            raise GateUnreachableError("the deadline passed")
        meet(gate, deadline, visit)

    monkeypatch.setattr(Gate, "meet", late)
    for held in results(site.hold()):
        assert held.fault is None
        assert held.proof is not None
        assert held.proof.woken_ns is None
    assert site.held_ones() == []


@pytest.mark.case("S3")
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_redis_that_refuses_the_barrier_is_told_alike_whether_it_refused_at_once_or_to_the_end(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, wrapped: bool
) -> None:
    fault = redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
    meet = Gate.meet

    def refused(gate: Gate, deadline: float, visit: str = "") -> None:
        if gate._key.endswith(HELD):
            raise GateUnreachableError("the deadline passed", fault) if wrapped else fault
        meet(gate, deadline, visit)

    monkeypatch.setattr(Gate, "meet", refused)
    for held in results(site.hold()):
        assert held.fault is not None
        assert held.fault.message.endswith(redis_fault.words_of(fault))
        assert held.fault.advice.startswith(redis_fault.advice_for(fault))


@pytest.mark.parametrize(("is_settled", "faults"), [(True, []), (False, ["guest-hangs"] * 2)])
def test_a_call_that_is_given_up_is_the_fault_of_a_guest_that_may_be_held_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch, *, is_settled: bool, faults: list[str]
) -> None:
    given_up: list[str] = []
    calls = GuestCalls()
    monkeypatch.setattr(calls, "give_up", lambda key, _: given_up.append(key))
    guest = SimpleNamespace(uuid="g", domain=SimpleNamespace(name="alpha"), faults=[])
    pending: tuple[Future[None], Future[None]] = (Future(), Future())
    window._give_up(calls, cast("HeldGuest", guest), *pending, is_settled=is_settled)
    assert len(given_up) == 2
    assert [one.code for one in guest.faults] == faults
