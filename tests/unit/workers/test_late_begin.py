"""A backup that begins when the others have gone on is of another instant: told, dropped, and no other guest's trouble."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import libvirt_qemu
import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.proof import consistency
from freezeframe.contract.result import HoldResult, PreparedGuest
from freezeframe.contract.words import Consistency, HoldKind, Policy, RunState, Step
from orchestrator import decision
from tests.unit.orchestrator.test_decision import NOW, SETTINGS, run
from tests.unit.workers.hold_site import CAPTURE, FREEZE, PAUSE, Site, results
from workers.hypervisor.fake_held_guest import HeldFake, agent_command, held_fake
from workers.scratch.open_backups import begun_guests
from workers.steps import window
from workers.steps.guest_in_hold import HeldGuest, Phase

pytestmark = pytest.mark.case("G4")
LONG_S = 20.0


def begins_when(site: Site, monkeypatch: pytest.MonkeyPatch, late: HeldFake, when: str) -> None:
    """Have the guest's backup begin when it was left behind, or when it was let go."""
    late.beginning.clear()
    leave_behind, release = HeldGuest.leave_behind, HeldGuest.release

    def left(guest: HeldGuest) -> None:
        leave_behind(guest)
        if guest.uuid == late.uuid and when == "left behind":
            late.beginning.set()
            while not late.has_backup:
                time.sleep(0.001)

    def released(guest: HeldGuest) -> None:
        release(guest)
        if guest.uuid == late.uuid:
            late.beginning.set()

    monkeypatch.setattr(HeldGuest, "leave_behind", left)
    monkeypatch.setattr(HeldGuest, "release", released)


@pytest.mark.parametrize("hold", [PAUSE, FREEZE])
@pytest.mark.parametrize("when", ["left behind", "let go"])
def test_under_degrade_it_is_told_and_dropped_and_the_others_keep_their_instant(
    site: Site, monkeypatch: pytest.MonkeyPatch, when: str, hold: GuestHold
) -> None:
    """Four guests became crash, guest, guest and guest; nobody was told, and the capture ended with 0."""
    late = site.guests["host-a"][0]
    begins_when(site, monkeypatch, late, when)
    held = results(site.hold(hold=hold, all_or_nothing=False, hold_timeout_s=2.0))
    ((host, fault),) = [(answer.host_id, one) for answer in held for one in answer.guest_faults]
    assert (host, fault.guest_uuid, fault.fault.code, fault.fault.guest) == (
        "host-a",
        late.uuid,
        "late-hold",
        late.label,
    )
    assert "its backup had not begun" in fault.fault.message
    state = run(RunState.HOLDING, Policy.DEGRADE, kept=tuple(site.fakes))
    proof = decision.proof_of(state, held)
    assert consistency(proof) is Consistency.GROUP
    kept = [uuid for uuid in site.fakes if uuid != late.uuid]
    assert [guest.guest_uuid for one in proof.hosts for guest in one.guests] == kept
    following = decision.after_hold(state, held, NOW, SETTINGS)
    assert following is not None
    assert (following.kept, [one.code for one in following.faults]) == (tuple(kept), ["late-hold"])
    assert late.has_backup
    journal = site.hosts["host-a"].journal.of(CAPTURE)
    journal.store_result(Step.HOLD, "", held[0].model_dump_json())
    assert late.uuid not in (begun_guests(journal) or ())  # so its backup is ended, and its scratch files grow no more
    assert site.held_ones() == []


@pytest.mark.parametrize("when", ["left behind", "let go"])
def test_under_all_it_is_told_by_name(site: Site, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    late = site.guests["host-a"][0]
    begins_when(site, monkeypatch, late, when)
    a, b = results(site.hold(hold_timeout_s=2.0))
    assert [(one.guest_uuid, one.fault.code) for one in (*a.guest_faults, *b.guest_faults)] == [
        (late.uuid, "late-hold")
    ]
    assert site.held_ones() == []


def test_a_backup_that_begins_when_the_window_has_ended_is_no_part_of_the_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its call was given up, and returns while the host is looking at the others."""
    monkeypatch.setattr(window, "GIVE_UP_S", -1.9)
    late = site.guests["host-a"][0]
    late.beginning.clear()
    tell_late = HeldGuest.tell_late

    def returned(guest: HeldGuest) -> None:
        tell_late(guest)
        if guest.uuid == late.uuid:
            late.beginning.set()
            while guest.is_settled() is False:
                time.sleep(0.001)

    monkeypatch.setattr(HeldGuest, "tell_late", returned)
    a, _ = results(site.hold(all_or_nothing=False, hold_timeout_s=1.0))
    assert [(one.guest_uuid, one.fault.code) for one in a.guest_faults] == [(late.uuid, "guest-hangs")]
    assert begun(a) == {site.guests["host-a"][1].uuid}
    assert late.has_backup


def begun(answer: HoldResult) -> set[str]:
    assert answer.proof is not None
    return {guest.guest_uuid for guest in answer.proof.guests if guest.begun_ns is not None}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldFake]:
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
    one = held_fake(1)
    yield one
    one.suspending.set()
    one.beginning.set()


@pytest.fixture
def guest(fake: HeldFake) -> HeldGuest:
    prepared = PreparedGuest(guest_uuid=fake.uuid, name=fake.label)
    hold = GuestHold(kind=HoldKind.PAUSE)
    return HeldGuest(fake.domain(), fake.domain(), prepared, hold, (), "<domainbackup/>", None, agent_timeout_s=1)


def test_a_guest_whose_backup_has_begun_is_not_left_behind(guest: HeldGuest) -> None:
    guest.take(time.monotonic() + LONG_S)
    guest.leave_behind()
    guest.release()
    guest.tell_late()
    assert (guest.faults, guest.left_in) == ([], None)
    assert guest.begun_ns is not None


def test_a_guest_that_was_left_behind_before_its_turn_is_not_touched(fake: HeldFake, guest: HeldGuest) -> None:
    guest.leave_behind()
    guest.take(time.monotonic() + LONG_S)
    guest.release()
    guest.tell_late()
    assert (fake.log, guest.is_settled()) == ([], True)
    assert "its turn had not come" in guest.faults[0].message


def test_a_guest_that_was_left_behind_while_it_was_held_begins_no_backup(fake: HeldFake, guest: HeldGuest) -> None:
    """There would be one more to end, and nobody reads it."""
    fake.suspending.clear()
    taking = threading.Thread(target=guest.take, args=(time.monotonic() + LONG_S,))
    taking.start()
    assert fake.suspend_called.wait(LONG_S)
    guest.leave_behind()
    fake.suspending.set()
    taking.join()
    assert fake.log == ["suspend", "resume"]
    assert guest.begun_ns is None
    assert guest.is_settled()


@pytest.mark.parametrize("how", ["left behind", "told to go"])
def test_a_begin_that_returns_too_late_counts_for_nothing(fake: HeldFake, guest: HeldGuest, how: str) -> None:
    fake.beginning.clear()
    taking = threading.Thread(target=guest.take, args=(time.monotonic() + LONG_S,))
    taking.start()
    while guest.phase is not Phase.HELD:
        time.sleep(0.001)
    if how == "left behind":
        guest.leave_behind()
    else:
        guest.release()
    fake.beginning.set()
    taking.join()
    guest.tell_late()
    assert guest.begun_ns is None
    assert guest.is_settled()
    assert not fake.paused
    # one that was told to go because another failed, under policy `all`, has no fault of its own
    assert [fault.code for fault in guest.faults] == (["late-hold"] if how == "left behind" else [])


def test_the_fault_says_after_how_long_the_guest_was_held(guest: HeldGuest) -> None:
    """From when it was begun with, and not a time of the clock."""
    guest.leave_behind()
    guest.left_in = Phase.HELD
    guest.hold_start_ns, guest.held_ns = 5_000_000_000_000, 5_002_500_000_000
    guest.tell_late()
    assert "was held after 2.5 s" in guest.faults[0].message


def test_a_guest_that_is_not_held_yet_when_it_is_told_of_has_no_such_time(guest: HeldGuest) -> None:
    guest.leave_behind()
    guest.left_in = Phase.HOLDING
    guest.hold_start_ns = 5_000_000_000_000
    guest.tell_late()
    assert "its turn had not come" in guest.faults[0].message
