"""Each guest is disarmed as soon as it runs and no call is pending: a neighbour that hangs must not cost it its lease."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from freezeframe.contract.proof import consistency, guest_consistency, shortcomings
from freezeframe.contract.words import Consistency, HoldKind, Policy, RunState
from orchestrator import decision
from tests.unit.orchestrator.test_decision import run
from tests.unit.workers.hold_site import FREEZE, PAUSE, FakeGuard, FakeLine, Site, proof_of, results
from workers import hold as holding
from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_held_guest import HeldFake, no_answer
from workers.steps import window

pytestmark = pytest.mark.case("G4")
LONG_S = 20.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a window wait for its last calls for longer than any other here waits."""
    monkeypatch.setattr(window, "GIVE_UP_S", 2 * LONG_S)
    monkeypatch.setattr(window, "LONGEST_GIVE_UP_S", 2 * LONG_S)


class Disarms:
    """The guests of each disarming of a host, in order."""

    def __init__(self, guard: FakeGuard, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[str]] = []
        self._changed = threading.Condition()
        disarm = FakeLine.disarm

        def noted(line: FakeLine, capture_id: str, guests: Sequence[str] | None = None) -> bool:
            stood = disarm(line, capture_id, guests)
            if line._guard is guard:
                with self._changed:
                    self.calls.append(list(guests or ()))
                    self._changed.notify_all()
            return stood

        monkeypatch.setattr(FakeLine, "disarm", noted)

    @property
    def guests(self) -> list[str]:
        return [guest for call in self.calls for guest in call]

    def wait_for(self, *guests: str) -> bool:
        """Return True when these have been disarmed, False if they have not in a while."""
        with self._changed:
            return self._changed.wait_for(lambda: set(guests) <= set(self.guests), LONG_S / 2)


@pytest.fixture
def disarms(site: Site, monkeypatch: pytest.MonkeyPatch) -> Disarms:
    return Disarms(site.guards["host-a"], monkeypatch)


def letting_go_waits(monkeypatch: pytest.MonkeyPatch, late: HeldFake, until: Callable[[], object]) -> None:
    let_go = holding.let_go

    def waiting(domain: Domain, kind: HoldKind, timeout_s: int) -> holding.LetGo:
        if domain.uuid == late.uuid:
            until()
        return let_go(domain, kind, timeout_s)

    monkeypatch.setattr(holding, "let_go", waiting)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("hold", [PAUSE, FREEZE])
@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
def test_a_guest_is_disarmed_while_another_is_still_let_go(
    site: Site, monkeypatch: pytest.MonkeyPatch, disarms: Disarms, hold: object, *, everyone: bool
) -> None:
    late, other = site.guests["host-a"]
    seen: list[bool] = []
    letting_go_waits(monkeypatch, late, lambda: seen.append(disarms.wait_for(other.uuid)))
    held = results(site.hold(hold=hold, all_or_nothing=everyone))  # type: ignore[arg-type]
    assert seen == [True]
    assert disarms.calls == [[other.uuid], [late.uuid]]
    assert consistency(proof_of(held)) is Consistency.GROUP  # the lease of the late one stood until it was disarmed


@pytest.mark.usefixtures("patient")
def test_a_lease_that_runs_out_for_a_guest_that_hangs_had_stood_for_those_that_were_disarmed(
    site: Site, monkeypatch: pytest.MonkeyPatch, disarms: Disarms
) -> None:
    """By default an agent that hangs is given up 17.5 s after the begin, and the lease is of 12 s."""
    hanging, other = site.guests["host-a"]

    def runs_out() -> None:
        disarms.wait_for(other.uuid)
        site.guards["host-a"].stood = False

    letting_go_waits(monkeypatch, hanging, runs_out)
    held = results(site.hold())
    proof = proof_of(held)
    cut = {guest.guest_uuid: guest.cut_short for host in proof.hosts for guest in host.guests}
    assert cut == {
        hanging.uuid: "the thaw guard let it go",
        **{fake.uuid: None for fake in (other, *site.guests["host-b"])},
    }
    labels = {
        guest.guest_uuid: guest_consistency(shortcomings(proof), guest) for host in proof.hosts for guest in host.guests
    }
    assert [labels[one.uuid] for one in (hanging, other)] == [Consistency.CRASH, Consistency.GUEST]


@pytest.mark.usefixtures("patient")
def test_under_degrade_a_guest_whose_agent_hangs_costs_its_neighbours_no_label(
    site: Site, monkeypatch: pytest.MonkeyPatch, disarms: Disarms
) -> None:
    hanging, other = site.guests["host-a"]
    hanging.freeze_fails = no_answer()
    seen: list[bool] = []

    def runs_out() -> None:
        seen.append(disarms.wait_for(other.uuid))
        site.guards["host-a"].stood = False

    letting_go_waits(monkeypatch, hanging, runs_out)
    held = results(site.hold(hold=FREEZE, all_or_nothing=False))
    assert all(seen)
    proof = decision.proof_of(run(RunState.HOLDING, Policy.DEGRADE), held)
    assert consistency(proof) is Consistency.GROUP
    assert len([guest for host in proof.hosts for guest in host.guests]) == 3


@pytest.mark.usefixtures("patient")
def test_a_guest_with_a_pending_call_is_not_disarmed_although_it_was_seen_running(site: Site, disarms: Disarms) -> None:
    """Its suspend may still take effect, and then only its lease would have it let go."""
    pending, other = site.guests["host-a"]
    pending.suspending.clear()
    early: list[str] = []

    def end() -> None:
        disarms.wait_for(other.uuid)
        early.extend(disarms.guests)
        pending.suspending.set()

    threading.Thread(target=end, daemon=True).start()
    results(site.hold(all_or_nothing=False, hold_timeout_s=1.0))
    assert early == [other.uuid]
    assert disarms.calls == [[other.uuid], [pending.uuid]]
    assert site.held_ones() == []


def test_guests_that_are_let_go_together_are_disarmed_together(site: Site, disarms: Disarms) -> None:
    results(site.hold())
    assert sorted(disarms.guests) == [fake.uuid for fake in site.guests["host-a"]]  # and none twice


@pytest.mark.parametrize("late_s", [0.0, 0.3])
def test_a_guest_that_is_let_go_late_is_disarmed_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, disarms: Disarms, late_s: float
) -> None:
    late = site.guests["host-a"][1]
    letting_go_waits(monkeypatch, late, lambda: time.sleep(late_s))
    assert consistency(proof_of(results(site.hold()))) is Consistency.GROUP
    assert sorted(disarms.guests) == [fake.uuid for fake in site.guests["host-a"]]
