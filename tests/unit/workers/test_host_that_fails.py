"""Under `degrade` a host whose guests all fail in the hold costs the guests of other hosts nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import libvirt
import pytest

from freezeframe.barrier import Gate
from freezeframe.contract.proof import consistency
from freezeframe.contract.words import Consistency, Policy, RunState
from orchestrator import decision
from tests.unit.orchestrator.test_decision import run
from tests.unit.workers.hold_site import CAPTURE, FREEZE, HOSTS, FakeLine, Site, results
from workers.guard.lease import LeasedGuest
from workers.hypervisor.fake_guest import agent_error
from workers.hypervisor.fake_held_guest import no_answer
from workers.steps import window

Trouble = Callable[[Site, pytest.MonkeyPatch], None]
HERE, ELSEWHERE = HOSTS
LUN = "iscsi iqn.2026-01.org.example:t/1"


def begin_refused(site: Site, _: pytest.MonkeyPatch) -> None:
    for fake in site.guests[HERE]:
        fake.refuses_begin = True


def hook_failed(site: Site, _: pytest.MonkeyPatch) -> None:
    for fake in site.guests[HERE]:
        fake.freeze_fails = agent_error("guest-fsfreeze-freeze", "fsfreeze hook has failed with status 1")


def agents_lost(site: Site, _: pytest.MonkeyPatch) -> None:
    for fake in site.guests[HERE]:
        fake.freeze_fails = no_answer()


def paused_by_others(site: Site, _: pytest.MonkeyPatch) -> None:
    for fake in site.guests[HERE]:
        fake.state_code = libvirt.VIR_DOMAIN_PAUSED


def guard_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    arm = FakeLine.arm

    def last_words(line: FakeLine, capture_id: str, guests: Sequence[LeasedGuest], seconds: float) -> dict[str, str]:
        refused = arm(line, capture_id, guests, seconds)
        line._guard.is_there = line._guard is not site.guards[HERE]
        return refused

    monkeypatch.setattr(FakeLine, "arm", last_words)


def earlier_calls_hang(site: Site, _: pytest.MonkeyPatch) -> None:
    calls = site.hosts[HERE].calls
    for fake in site.guests[HERE]:
        key = f"{fake.uuid} hold"
        calls.give_up(key, calls.start(key, lambda: threading.Event().wait(20)))


FAILING = [
    (begin_refused, "hypervisor"),
    (hook_failed, "freeze-hook"),
    (agents_lost, "agent"),
    (paused_by_others, "guest-paused"),
    (guard_ends, "guard"),
    (earlier_calls_hang, "guest-hangs"),
]


@pytest.mark.case("G3", "G4", "P4")
@pytest.mark.parametrize(("trouble", "code"), FAILING)
def test_a_host_whose_guests_all_fail_in_the_hold_reports_without_them(
    site: Site, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, code: str
) -> None:
    """Else it breaks the barrier, and each guest of the others has an instant of its own."""
    trouble(site, monkeypatch)
    held = results(site.hold(hold=FREEZE, all_or_nothing=False, hold_timeout_s=29.0))
    assert [one.fault.code for one in held[0].guest_faults] == [code] * 2
    assert held[0].proof is not None
    assert held[0].proof.report_ns is not None
    assert [guest.begun_ns for guest in held[0].proof.guests] == [None, None]
    proof = decision.proof_of(run(RunState.HOLDING, Policy.DEGRADE), held)
    assert consistency(proof) is Consistency.GROUP
    assert [guest.guest_uuid for host in proof.hosts for guest in host.guests] == [
        fake.uuid for fake in site.guests[ELSEWHERE]
    ]
    assert set(site.held_ones()) == {fake.label for fake in site.guests[HERE] if fake.paused}  # by others


@pytest.mark.case("G4")
def test_a_host_whose_guests_all_hang_reports_without_them_in_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "GIVE_UP_S", -1.9)
    for fake in site.guests[HERE]:
        fake.suspending.clear()
    held = results(site.hold(all_or_nothing=False, hold_timeout_s=2.0))
    for fake in site.guests[HERE]:
        fake.suspending.set()
    assert {one.fault.code for one in held[0].guest_faults} == {"guest-hangs"}
    assert consistency(decision.proof_of(run(RunState.HOLDING, Policy.DEGRADE), held)) is Consistency.GROUP


@pytest.mark.case("G4")
@pytest.mark.parametrize(("trouble", "code"), FAILING)
def test_under_all_guests_that_fail_in_the_hold_end_it_for_every_host(
    site: Site, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, code: str
) -> None:
    trouble(site, monkeypatch)
    here, elsewhere = results(site.hold(hold=FREEZE, hold_timeout_s=29.0))
    assert {one.fault.code for one in here.guest_faults} == {code}
    for answer in (here, elsewhere):
        assert answer.proof is not None
        assert answer.proof.woken_ns is None
    assert Gate(site.hosts[HERE].redis, CAPTURE, 1, "held", HERE, len(HOSTS)).look().state == "broken"
