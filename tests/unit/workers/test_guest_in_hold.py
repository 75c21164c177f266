"""One guest through its hold: what others hold is left alone, what is pending is not called over, what failed is let go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import libvirt
import libvirt_qemu
import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.result import PreparedGuest
from freezeframe.contract.words import HoldKind
from workers import hold as holding
from workers.hypervisor import agent
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError, HypervisorError
from workers.hypervisor.fake_guest import agent_error
from workers.hypervisor.fake_held_guest import HeldFake, agent_command, held_fake, no_answer
from workers.hypervisor.freeze_failure import SlowFreezeError
from workers.steps.guest_in_hold import HeldGuest, Phase

LONG_S = 60.0
BACKUP = "<domainbackup/>"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldFake]:
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
    one = held_fake(1)
    yield one
    one.suspending.set()
    one.beginning.set()


def guest_of(fake: HeldFake, kind: HoldKind, *, delay_s: float = 0.0) -> HeldGuest:
    prepared = PreparedGuest(guest_uuid=fake.uuid, name=fake.label)
    hold = GuestHold(kind=kind)
    return HeldGuest(fake.domain(), fake.domain(), prepared, hold, (), BACKUP, None, agent_timeout_s=1, delay_s=delay_s)


def deadline(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


HELD_BY = {
    HoldKind.FREEZE: ["freeze", "begin", "thaw"],
    HoldKind.PAUSE: ["suspend", "begin", "resume"],
    HoldKind.FREEZE_PAUSE: ["freeze", "suspend", "begin", "resume", "thaw"],
    HoldKind.NONE: ["begin"],
}


@pytest.mark.parametrize("kind", list(HoldKind))
def test_a_guest_is_held_its_backup_begun_and_let_go(fake: HeldFake, kind: HoldKind) -> None:
    guest = guest_of(fake, kind)
    guest.take(deadline())
    assert guest.phase is Phase.BEGUN
    assert not guest.is_settled()
    guest.release()
    assert fake.log == HELD_BY[kind]
    assert guest.is_settled()
    assert guest.faults == []
    proof = guest.proof(lease_stood=True)
    assert proof.cut_short is None
    steps = list(proof.steps().values())
    assert None not in steps
    assert steps == sorted(steps, key=lambda at: at or 0)


def test_letting_go_asks_nothing_over_the_connection_on_which_a_call_may_stand(fake: HeldFake) -> None:
    guest = guest_of(fake, HoldKind.PAUSE)
    guest.take(deadline())
    guest.domain.handle = None
    guest.release()
    assert guest.is_settled()
    assert guest.faults == []


@pytest.mark.case("P4")
@pytest.mark.parametrize("kind", [HoldKind.FREEZE, HoldKind.PAUSE, HoldKind.FREEZE_PAUSE])
@pytest.mark.parametrize(
    "state", [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED, libvirt.VIR_DOMAIN_CRASHED]
)
def test_a_guest_that_was_paused_since_it_was_prepared_is_left_so_and_told(
    fake: HeldFake, kind: HoldKind, state: int
) -> None:
    fake.state_code = state
    guest = guest_of(fake, kind)
    guest.take(deadline())
    guest.release()
    assert fake.log == []
    assert fake.state_code == state
    assert guest.phase is Phase.LEFT_ALONE
    assert guest.is_settled()  # nothing of ours is pending: the guard must leave it alone too
    (fault,) = guest.faults
    assert fault.code == "guest-paused"
    assert "guest-1 was prepared while it ran" in fault.message


@pytest.mark.case("P4")
def test_a_guest_without_a_hold_is_captured_although_it_is_paused(fake: HeldFake) -> None:
    fake.state_code = libvirt.VIR_DOMAIN_PAUSED
    guest = guest_of(fake, HoldKind.NONE)
    guest.take(deadline())
    guest.release()
    assert fake.log == ["begin"]
    assert fake.paused


@pytest.mark.case("P4")
@pytest.mark.parametrize("kind", [HoldKind.FREEZE, HoldKind.FREEZE_PAUSE])
def test_a_guest_that_something_else_has_frozen_since_it_was_prepared_is_left_so_and_told(
    fake: HeldFake, kind: HoldKind
) -> None:
    fake.frozen = True
    guest = guest_of(fake, kind)
    guest.take(deadline())
    guest.release()
    assert fake.log == []
    assert fake.frozen
    assert guest.is_settled()
    (fault,) = guest.faults
    assert fault.code == "guest-frozen"
    assert "something else has frozen it" in fault.message


def test_a_freeze_that_the_agent_could_not_do_is_followed_by_a_thaw(fake: HeldFake) -> None:
    """The agent says that the guest is thawed, so nobody else has it; what it did before it failed is not known."""
    fake.freeze_fails = agent_error("guest-fsfreeze-freeze", "failed to freeze /: Input/output error")
    guest = guest_of(fake, HoldKind.FREEZE)
    guest.take(deadline())
    assert fake.log == ["thaw"]
    assert guest.is_settled()
    assert guest.faults[0].code == "freeze-failed"


def test_a_guest_that_is_told_to_go_before_its_turn_is_not_touched(fake: HeldFake) -> None:
    guest = guest_of(fake, HoldKind.FREEZE_PAUSE, delay_s=LONG_S)
    taking = threading.Thread(target=guest.take, args=(deadline(),))
    taking.start()
    guest.release()
    taking.join()
    assert fake.log == []
    assert guest.is_settled()
    proof = guest.proof(lease_stood=True)
    assert proof.hold_start_ns is None
    assert proof.hold_ms is None


def test_a_backup_that_cannot_begin_lets_its_guest_go_at_once(fake: HeldFake) -> None:
    fake.refuses_begin = True
    guest = guest_of(fake, HoldKind.FREEZE_PAUSE)
    guest.take(deadline())
    assert fake.log == ["freeze", "suspend", "resume", "thaw"]
    assert guest.is_settled()
    assert "beginning the backup" in guest.faults[0].message.lower()


def test_no_backup_is_begun_when_the_guard_has_gone(fake: HeldFake) -> None:
    guest = guest_of(fake, HoldKind.PAUSE)
    guest.stands = lambda: False
    guest.take(deadline())
    assert fake.log == ["suspend", "resume"]
    assert guest.faults[0].code == "guard"


@pytest.mark.case("S4", "G4")
def test_a_suspend_that_is_pending_when_the_guest_is_let_go_is_not_called_over(fake: HeldFake) -> None:
    """The guest is seen running, and its suspend waits in QEMU's monitor; when it takes effect it is taken back."""
    fake.suspending.clear()
    guest = guest_of(fake, HoldKind.PAUSE)
    taking = threading.Thread(target=guest.take, args=(deadline(),))
    taking.start()
    assert fake.suspend_called.wait(LONG_S)
    guest.release()
    assert not guest.is_settled()  # so the guard keeps the lease, and nothing is written down as let go
    fake.suspending.set()
    taking.join()
    assert fake.log == ["suspend", "resume"]
    assert not fake.paused
    assert guest.is_settled()
    assert guest.begun_ns is None


@pytest.mark.case("G4")
def test_a_begin_that_is_pending_when_the_guest_is_let_go(fake: HeldFake) -> None:
    fake.beginning.clear()
    guest = guest_of(fake, HoldKind.FREEZE)
    taking = threading.Thread(target=guest.take, args=(deadline(),))
    taking.start()
    while guest.phase is not Phase.HELD:
        time.sleep(0.001)
    guest.release()
    assert not fake.frozen
    assert not guest.is_settled()
    fake.beginning.set()
    taking.join()
    assert guest.is_settled()
    assert not fake.frozen


def test_a_freeze_that_ends_when_the_guest_was_told_to_go_is_not_followed_by_a_pause(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = guest_of(fake, HoldKind.FREEZE_PAUSE)

    def freeze_late(*_: object) -> int:
        guest.release()
        fake.frozen = True
        fake.log.append("freeze")
        return 2

    monkeypatch.setattr(agent, "freeze", freeze_late)
    guest.take(deadline())
    assert "suspend" not in fake.log
    assert not fake.frozen
    assert guest.is_settled()


def test_a_guest_that_does_not_confirm_that_it_runs_is_not_settled(fake: HeldFake) -> None:
    fake.lies_about_resume = True
    guest = guest_of(fake, HoldKind.PAUSE)
    guest.take(deadline())
    guest.release()
    assert not guest.is_settled()
    assert guest.faults[0].code == "still-held"
    fake.lies_about_resume = False
    guest.release()
    assert guest.is_settled()


def test_a_release_that_is_repeated_keeps_what_the_first_one_saw(fake: HeldFake) -> None:
    """The label rests on when the first was sent, which may have worked; and the second finds what the first has done."""
    fake.lies_about_resume = True
    guest = guest_of(fake, HoldKind.PAUSE)
    guest.take(deadline())
    guest.release()
    first_ns = guest.thaw_start_ns
    fake.lies_about_resume = False
    fake.resume()
    guest.release()
    assert first_ns is not None
    proof = guest.proof(lease_stood=True)
    assert proof.thaw_start_ns == first_ns
    assert proof.cut_short is None


def test_a_guest_that_somebody_resumed_was_cut_short(fake: HeldFake) -> None:
    guest = guest_of(fake, HoldKind.PAUSE)
    guest.take(deadline())
    fake.resume()
    guest.release()
    assert guest.proof(lease_stood=True).cut_short == "it was paused, and ran before it was resumed"


def test_a_guest_whose_lease_did_not_stand_was_cut_short(fake: HeldFake) -> None:
    guest = guest_of(fake, HoldKind.PAUSE)
    guest.take(deadline())
    guest.release()
    assert guest.proof(lease_stood=False).cut_short == "the thaw guard let it go"


def test_a_guest_with_fewer_filesystems_thawed_than_frozen_was_cut_short(fake: HeldFake) -> None:
    guest = guest_of(fake, HoldKind.FREEZE)
    guest.frozen, guest.found = 2, holding.LetGo(thawed=0, was_paused=None)
    assert guest.proof(lease_stood=True).cut_short == "2 filesystems were frozen and 0 thawed"


@pytest.mark.case("G3")
def test_a_freeze_that_windows_ended_by_itself_proves_nothing_and_is_told_as_such(fake: HeldFake) -> None:
    """VSS holds writes for 10 s. The agent calls the guest frozen until the thaw, which it answers with an error."""
    fake.expires = True
    guest = guest_of(fake, HoldKind.FREEZE)
    guest.take(deadline())
    guest.release()
    assert guest.is_settled()  # it runs
    proof = guest.proof(lease_stood=True)
    assert proof.cut_short is not None
    assert not proof.own_instant
    (fault,) = guest.faults
    assert fault.code == "freeze-expired"
    assert "guest-1" in fault.message
    assert "--hold-timeout" in fault.hint
    assert "--guest-hold 00000000-0000-4000-8000-000000000001:freeze-pause" in fault.hint


@pytest.mark.case("G3")
def test_a_second_thaw_of_a_freeze_that_ended_by_itself_makes_it_no_better(fake: HeldFake) -> None:
    fake.expires = True
    guest = guest_of(fake, HoldKind.FREEZE)
    guest.take(deadline())
    guest._go(guest.apart)
    guest._go(guest.apart)
    assert guest.found == holding.LetGo(thawed=0, was_paused=None)
    assert not guest.proof(lease_stood=True).own_instant


@pytest.mark.case("G3")
def test_a_guest_that_was_paused_too_was_still_however_long_its_filesystems_stayed_frozen(fake: HeldFake) -> None:
    fake.expires = True
    guest = guest_of(fake, HoldKind.FREEZE_PAUSE)
    guest.take(deadline())
    guest.release()
    assert (guest.is_settled(), guest.faults) == (True, [])
    proof = guest.proof(lease_stood=True)
    assert (proof.cut_short, proof.own_instant) == (None, True)


@pytest.mark.case("G3")
def test_a_paused_guest_that_somebody_resumed_was_cut_short_also_if_its_freeze_ended(fake: HeldFake) -> None:
    fake.expires = True
    guest = guest_of(fake, HoldKind.FREEZE_PAUSE)
    guest.take(deadline())
    fake.resume()
    guest.release()
    assert guest.proof(lease_stood=True).cut_short == "it was paused, and ran before it was resumed"


def test_another_error_of_a_thaw_is_no_freeze_that_ended_by_itself(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(handle: HeldFake, command: str, timeout_s: int, flags: int) -> str:
        if "thaw" in command:
            raise agent_error("guest-fsfreeze-thaw", "failed to open /srv: Input/output error")
        return agent_command(handle, command, timeout_s, flags)

    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", fails)
    for kind in (HoldKind.FREEZE, HoldKind.FREEZE_PAUSE):
        with pytest.raises(AgentError, match="Input/output error") as caught:
            holding.let_go(fake.domain(), kind, 1)
        assert caught.value.code == "agent"


@pytest.mark.parametrize(("left_s", "given_s"), [(10.0, 10), (7.4, 7), (0.2, 1), (-3.0, 1)])
def test_a_freeze_is_given_what_is_left_of_the_hold_s_time(fake: HeldFake, left_s: float, given_s: int) -> None:
    guest = guest_of(fake, HoldKind.FREEZE)
    guest.take(deadline(left_s))
    assert fake.freeze_timeouts == [given_s]


@pytest.mark.case("G3")
def test_a_freeze_that_does_not_end_in_its_time_is_told_as_slow_with_its_time(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([100.0, 110.1])
    monkeypatch.setattr("workers.hypervisor.agent.time.monotonic", lambda: next(times))
    fake.freeze_fails = no_answer()
    with pytest.raises(SlowFreezeError, match=r"guest-1 had not frozen its filesystems after 10\.1 s") as caught:
        agent.freeze(fake.domain(), 10)
    assert caught.value.code == "slow-freeze"
    assert "--hold-timeout" in caught.value.hint
    assert "--guest-hold 00000000-0000-4000-8000-000000000001:pause" in caught.value.hint


@pytest.mark.case("G3")
@pytest.mark.parametrize(
    ("seconds", "code"), [(4.4, "agent"), (4.5, "slow-freeze"), (7.0, "slow-freeze"), (7.1, "late-freeze")]
)
def test_a_freeze_without_an_answer_is_held_against_the_guest_only_if_libvirt_was_in_time(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch, seconds: float, code: str
) -> None:
    """A libvirtd was suspended for 8 s: the guest's own freeze took 1.5 s, and it was refused for a week."""
    times = iter([100.0, 100.0 + seconds])
    monkeypatch.setattr("workers.hypervisor.agent.time.monotonic", lambda: next(times))
    fake.freeze_fails = no_answer()
    with pytest.raises(AgentError) as caught:
        agent.freeze(fake.domain(), 5)
    assert caught.value.code == code


@pytest.mark.case("G3")
def test_an_agent_that_answers_nothing_is_told_as_missing(fake: HeldFake, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 105.0])
    monkeypatch.setattr("workers.hypervisor.agent.time.monotonic", lambda: next(times))
    fake.freeze_fails = no_answer()
    with pytest.raises(AgentError) as caught:
        agent.freeze(fake.domain(), 10)
    assert caught.value.code == "agent"


@pytest.mark.parametrize("fails", [False, True])
def test_the_agent_s_time_out_is_put_back(fake: HeldFake, monkeypatch: pytest.MonkeyPatch, *, fails: bool) -> None:
    """It is the guest's, for every client, until the guest stops (invariant 4)."""
    told: list[int] = []
    monkeypatch.setattr(HeldFake, "agentSetResponseTimeout", lambda _self, seconds: told.append(seconds))
    fake.commands["guest-get-fsinfo"] = not fails
    try:
        agent.filesystems(fake.domain(), 5)
    except AgentError:
        assert fails
    assert told == [5, libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK]
    agent.freeze(fake.domain(), 5)
    agent.thaw(fake.domain(), 5)
    agent.freeze_status(fake.domain(), 5)
    assert len(told) == 2


@pytest.mark.case("G4")
def test_a_guest_that_was_told_to_go_begins_no_backup_although_it_has_not_confirmed_that_it_runs(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its suspend comes back while it is being let go: nobody would end that backup before the release."""

    def silent(*_: object) -> None:
        raise AgentError("The agent does not answer.")

    fake.suspending.clear()
    guest = guest_of(fake, HoldKind.FREEZE_PAUSE)
    taking = threading.Thread(target=guest.take, args=(deadline(),))
    taking.start()
    assert fake.suspend_called.wait(LONG_S)
    with monkeypatch.context() as patch:
        patch.setattr(holding, "verify_let_go", silent)
        guest.release()
    assert guest.phase is Phase.GOING
    fake.suspending.set()
    taking.join()
    assert "begin" not in fake.log
    assert guest.begun_ns is None
    assert (fake.paused, fake.frozen) == (False, False)


def test_a_letting_go_that_failed_is_told_and_nothing_is_claimed_for_its_guest(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it worked all the same, and when, nobody knows."""

    def fails(*_: object) -> holding.LetGo:
        fake.resume()
        raise HypervisorError("The connection was closed.")

    guest = guest_of(fake, HoldKind.PAUSE)
    guest.take(deadline())
    monkeypatch.setattr(holding, "let_go", fails)
    guest.release()
    assert [str(fault) for fault in guest.faults] == ["The connection was closed."]
    assert guest.is_settled()
    cut_short = guest.proof(lease_stood=True).cut_short
    assert cut_short == "letting it go failed, so nobody knows when it was let go"


def test_a_guest_whose_freeze_failed_and_whose_agent_does_not_say_whether_it_is_frozen_is_let_go(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after any hold that failed: what did not begin with this freeze can only be seen by the agent's own word."""
    silent = True

    def status(_domain: Domain, _timeout_s: int) -> str:
        if silent:
            raise AgentError("The agent does not answer.")
        return "thawed"

    fake.freeze_fails = agent_error("guest-fsfreeze-freeze", "failed to freeze /: Input/output error")
    monkeypatch.setattr(agent, "freeze_status", status)
    guest = guest_of(fake, HoldKind.FREEZE)
    guest.take(deadline())
    assert fake.log == ["thaw"]
    assert guest.faults[0].code == "freeze-failed"
    assert guest.phase is not Phase.LEFT_ALONE
    silent = False
    guest.release()
    assert guest.is_settled()
