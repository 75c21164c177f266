"""A guest of which the hold cannot learn whether somebody else has paused it: nothing is done to it, and it is told of.

An administrator had paused it after it was prepared; libvirtd was started again since, so that the first question failed; and
the guest was resumed, as one whose hold has failed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import libvirt
import libvirt_qemu
import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.result import PreparedGuest
from freezeframe.contract.words import HoldKind
from tests.unit.workers.hold_site import HOSTS, Site, results
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError, HypervisorUnreachableError
from workers.hypervisor.fake_guest import libvirt_error
from workers.hypervisor.fake_held_guest import HeldFake, agent_command, held_fake
from workers.steps import window
from workers.steps.guest_in_hold import HeldGuest, Phase
from workers.steps.untouched import check_untouched

pytestmark = pytest.mark.case("P4")

LONG_S = 60.0
HOLDS = (HoldKind.FREEZE, HoldKind.PAUSE, HoldKind.FREEZE_PAUSE)
FAILURES = {
    "hypervisor-unreachable": HypervisorUnreachableError("Asking for the state failed: Connection reset by peer."),
    "guest-gone": GuestGoneError("Asking for the state failed: Domain not found."),
    "unexpected": ValueError("a defect"),
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> HeldFake:
    """A guest that an administrator has paused."""
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
    one = held_fake(1)
    one.state_code = libvirt.VIR_DOMAIN_PAUSED
    return one


def guest_of(fake: HeldFake, kind: HoldKind) -> HeldGuest:
    prepared = PreparedGuest(guest_uuid=fake.uuid, name=fake.label)
    return HeldGuest(
        fake.domain(), fake.domain(), prepared, GuestHold(kind=kind), (), "<domainbackup/>", None, agent_timeout_s=1
    )


Question = Callable[[Domain, GuestHold], None]


class Hanging:
    """The first question of a hold, which the test lets return."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, *_: object) -> None:
        self.asked.set()
        assert self.may_end.wait(LONG_S)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    one = Hanging()
    monkeypatch.setattr("workers.steps.guest_in_hold.check_untouched", one)
    yield one
    one.may_end.set()


@pytest.mark.parametrize("kind", HOLDS)
@pytest.mark.parametrize("code", list(FAILURES))
def test_a_guest_whose_state_is_not_told_is_left_as_it_is(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch, kind: HoldKind, code: str
) -> None:
    def failing(*_: object) -> None:
        raise FAILURES[code]

    monkeypatch.setattr("workers.steps.guest_in_hold.check_untouched", failing)
    guest = guest_of(fake, kind)
    guest.take(LONG_S)
    guest.release()
    assert (fake.log, fake.paused) == ([], True)
    assert (guest.phase, guest.is_settled()) == (Phase.LEFT_ALONE, True)
    assert len(guest.faults) == 1
    assert guest.proof(lease_stood=True).hold_start_ns is None


@pytest.mark.parametrize("kind", HOLDS)
@pytest.mark.parametrize("is_late", [True, False], ids=["left-behind", "another-failed"])
def test_a_guest_whose_state_is_told_too_late_is_left_as_it_is_and_need_not_be_waited_for(
    fake: HeldFake, hanging: Hanging, kind: HoldKind, *, is_late: bool
) -> None:
    guest = guest_of(fake, kind)
    taking = threading.Thread(target=guest.take, args=(LONG_S,))
    taking.start()
    assert hanging.asked.wait(LONG_S)
    if is_late:
        guest.leave_behind()
    guest.release()
    assert guest.is_settled()  # the guard need not, and must not, let it go: no call is pending that could hold it
    guest.tell_late()
    hanging.may_end.set()
    taking.join()
    assert (fake.log, fake.paused) == ([], True)
    assert (guest.phase, guest.is_settled()) == (Phase.LEFT_ALONE, True)
    assert [fault.code for fault in guest.faults] == (["guest-hangs"] if is_late else [])


def test_a_guest_that_was_left_behind_before_it_was_asked_of_is_not_held(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.state_code = libvirt.VIR_DOMAIN_RUNNING
    guest = guest_of(fake, HoldKind.FREEZE_PAUSE)
    real = check_untouched

    def slow(domain: Domain, hold: GuestHold) -> None:
        real(domain, hold)
        guest.leave_behind()

    monkeypatch.setattr("workers.steps.guest_in_hold.check_untouched", slow)
    guest.take(LONG_S)
    assert fake.log == []
    assert guest.is_settled()


@pytest.mark.parametrize("kind", [HoldKind.PAUSE, HoldKind.FREEZE_PAUSE])
def test_a_guest_whose_pause_was_sent_is_let_go_whatever_became_of_the_answer(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch, kind: HoldKind
) -> None:
    fake.state_code = libvirt.VIR_DOMAIN_RUNNING
    suspend = HeldFake.suspend

    def lost(one: HeldFake) -> None:
        suspend(one)
        raise libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "the connection was lost")

    monkeypatch.setattr(HeldFake, "suspend", lost)
    guest = guest_of(fake, kind)
    guest.take(LONG_S)
    assert fake.log[-1] == ("resume" if kind is HoldKind.PAUSE else "thaw")
    assert not fake.paused
    assert not fake.frozen
    assert guest.is_settled()


@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
@pytest.mark.parametrize("kind", HOLDS)
@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "fails"])
def test_the_capture_tells_of_it_and_neither_guard_nor_undo_touches_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, kind: HoldKind, *, everyone: bool, hangs: bool
) -> None:
    one, other = site.guests[HOSTS[0]]
    real, hanging = check_untouched, Hanging()

    def ask(domain: Domain, hold: GuestHold) -> None:
        if domain.uuid != one.uuid:
            real(domain, hold)
            return
        one.state_code = libvirt.VIR_DOMAIN_PAUSED  # since it was made ready
        if hangs:
            hanging()
        raise FAILURES["hypervisor-unreachable"]

    monkeypatch.setattr("workers.steps.guest_in_hold.check_untouched", ask)
    monkeypatch.setattr(window, "GIVE_UP_S", 1.0)
    a, _ = results(site.hold(hold=GuestHold(kind=kind), all_or_nothing=everyone, hold_timeout_s=2.0))
    hanging.may_end.set()
    assert one.paused
    assert one.log == []
    assert one.uuid in site.guards[HOSTS[0]].disarmed
    held, let_go = site.journalled(HOSTS[0])
    assert sorted(let_go) == sorted(held) == sorted([one.uuid, other.uuid])
    code = "guest-hangs" if hangs else "hypervisor-unreachable"
    assert [(fault.guest_uuid, fault.fault.code) for fault in a.guest_faults] == [(one.uuid, code)]
    assert a.proof is not None
    begun = {guest.guest_uuid for guest in a.proof.guests if guest.begun_ns is not None}
    assert one.uuid not in begun
    assert everyone or begun == {other.uuid}
