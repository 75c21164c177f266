"""A guest that is held when the others no longer wait for it, without any call that failed: it is told of, never dropped."""

from __future__ import annotations

import threading

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.naming import NamedGuest
from tests.unit.workers.hold_site import FREEZE, HOSTS, PAUSE, Site, results
from workers import hold as holding
from workers.hypervisor import backup, freeze_failure
from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_held_guest import HeldFake
from workers.steps.guest_in_hold import HeldGuest
from workers.steps.hold_failure import too_late


def held_too_late(site: Site, monkeypatch: pytest.MonkeyPatch, late: HeldFake) -> None:
    """Have the guest's suspend or freeze succeed just after the guest was told to go."""
    told = threading.Event()
    release, freeze = HeldGuest.release, HeldFake._freeze

    def noted(guest: HeldGuest) -> None:
        release(guest)
        if guest.uuid == late.uuid:
            late.suspending.set()
            told.set()

    def frozen(fake: HeldFake) -> str:
        assert fake is not late or told.wait(30)
        return freeze(fake)

    late.suspending.clear()
    monkeypatch.setattr(HeldGuest, "release", noted)
    monkeypatch.setattr(HeldFake, "_freeze", frozen)
    monkeypatch.setattr(freeze_failure, "LATE_S", 60.0)  # of a busy machine


@pytest.mark.case("G3", "G4")
@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
@pytest.mark.parametrize(("hold", "code"), [(PAUSE, "late-hold"), (FREEZE, "slow-freeze")])
def test_a_guest_whose_hold_succeeds_too_late_is_told_by_name(
    site: Site, monkeypatch: pytest.MonkeyPatch, hold: GuestHold, code: str, *, everyone: bool
) -> None:
    """It vanished from a capture under `degrade`, which ended as if all were well."""
    late, other = site.guests["host-a"]
    held_too_late(site, monkeypatch, late)
    a, b = results(site.hold(hold=hold, all_or_nothing=everyone, hold_timeout_s=2.0))
    assert [(one.guest_uuid, one.fault.code, one.fault.guest) for one in a.guest_faults] == [
        (late.uuid, code, late.label)
    ]
    assert b.guest_faults == ()
    assert a.proof is not None
    begun = {guest.guest_uuid for guest in a.proof.guests if guest.begun_ns is not None}
    assert begun == {other.uuid}
    assert site.held_ones() == []
    slow = site.hosts["host-a"].paces.too_slow(late.uuid)
    assert (slow is not None) == (code == "slow-freeze")


@pytest.mark.case("G3")
def test_a_guest_that_froze_too_late_is_refused_the_next_time_and_not_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, _ = site.guests["host-a"]
    held_too_late(site, monkeypatch, late)
    results(site.hold(hold=FREEZE, all_or_nothing=False, hold_timeout_s=2.0))
    slow = site.hosts["host-a"].paces.too_slow(late.uuid)
    assert slow is not None
    assert slow.ms >= 0.9 * 0.75 * 2.0 * 1000


@pytest.mark.case("G4")
def test_a_guest_that_is_taken_back_because_another_failed_is_not_called_late(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, innocent = site.guests["host-a"]
    held_too_late(site, monkeypatch, innocent)
    failing.refuses_begin = True
    a, _ = results(site.hold(hold_timeout_s=29.0))
    assert [one.guest_uuid for one in a.guest_faults] == [failing.uuid]


@pytest.mark.case("G4")
@pytest.mark.parametrize(
    ("held_s", "freeze_s", "begins", "code"),
    [
        (None, None, False, "late-hold"),  # its thread did not get its turn
        (7.6, None, False, "late-hold"),
        (7.6, (0.5, 7.5), False, "late-hold"),  # the pause that followed took the time
        (7.6, (7.4, 7.5), False, "slow-freeze"),
        (7.6, (7.6, 7.5), False, "slow-freeze"),
        (9.1, (9.0, 10.0), False, "slow-freeze"),  # nine tenths of its time to the tick
        (9.1, (8.9, 10.0), False, "late-hold"),
        (9.7, (9.6, 7.5), False, "late-freeze"),  # libvirt would have ended it
        (7.6, (0.4, 0.3), False, "late-hold"),  # what came before the freeze took the time
        (0.1, None, True, "late-hold"),
        (0.6, (0.5, 7.5), True, "late-hold"),
        (7.1, (7.0, 7.5), True, "slow-freeze"),  # which left no time for the begin
    ],
)
def test_what_took_the_time_is_named(
    held_s: float | None, freeze_s: tuple[float, float] | None, code: str, *, begins: bool
) -> None:
    fault = too_late(NamedGuest("guest-1", "00000000-0000-4000-8000-00000000000a"), held_s, freeze_s, begins=begins)
    assert (fault.code, "guest-1" in fault.message) == (code, True)
    assert ("its backup had not begun" in fault.message) == (begins and code == "late-hold")


@pytest.mark.case("G4")
@pytest.mark.parametrize(("held_s", "said"), [(None, "its turn had not come"), (7.6, "held only after 7.6 s")])
def test_a_guest_that_had_its_turn_too_late_is_told_apart_from_one_that_had_none(
    held_s: float | None, said: str
) -> None:
    """The first asks for a longer time-out, the second for fewer guests a host or more threads."""
    assert said in too_late(NamedGuest("guest-1", "00000000-0000-4000-8000-00000000000a"), held_s, None).message


@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
def test_an_exception_that_nobody_has_foreseen_is_the_guest_s_fault(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, everyone: bool
) -> None:
    odd, other = site.guests["host-a"]
    begin = backup.begin

    def broken(domain: Domain, backup_xml: str, checkpoint_xml: str | None) -> None:
        if domain.uuid == odd.uuid:
            raise ValueError("odd XML")
        begin(domain, backup_xml, checkpoint_xml)

    monkeypatch.setattr(backup, "begin", broken)
    a, _ = results(site.hold(all_or_nothing=everyone))
    assert [(one.guest_uuid, one.fault.code) for one in a.guest_faults] == [(odd.uuid, "unexpected")]
    assert "ValueError" in a.guest_faults[0].fault.message
    assert odd.label in a.guest_faults[0].fault.message
    assert site.held_ones() == []
    assert set(site.guards["host-a"].disarmed) == {odd.uuid, other.uuid}


@pytest.mark.parametrize("which", ["let_go", "verify_let_go"])
def test_a_letting_go_that_fails_in_a_way_nobody_has_foreseen_is_told_and_leaves_the_guest_to_the_guard(
    site: Site, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("state")

    monkeypatch.setattr(holding, which, broken)
    for answer in results(site.hold()):
        assert {one.fault.code for one in answer.guest_faults} == {"unexpected"}
    assert len(HOSTS) == len([guard for guard in site.guards.values() if guard.armed])
    if which == "verify_let_go":
        assert [guard.disarmed for guard in site.guards.values()] == [[], []]
