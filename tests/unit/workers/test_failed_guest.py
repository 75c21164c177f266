"""A guest that fails ends the wait for it before it is let go: its agent may not answer, and the others are held meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.result import PreparedGuest
from freezeframe.contract.words import HoldKind
from tests.unit.workers.hold_site import FREEZE, HOSTS, Site, results
from workers import hold as holding
from workers.hypervisor import backup
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.fake_guest import agent_error
from workers.hypervisor.fake_held_guest import HeldFake, agent_command, held_fake, no_answer
from workers.steps.guest_in_hold import HeldGuest, Phase

pytestmark = pytest.mark.case("G3", "G4")
LONG_S = 20.0

Trouble = Callable[[HeldFake, HeldGuest, pytest.MonkeyPatch], None]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> HeldFake:
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
    return held_fake(1)


@pytest.fixture
def guest(fake: HeldFake) -> HeldGuest:
    prepared = PreparedGuest(guest_uuid=fake.uuid, name=fake.label)
    hold = GuestHold(kind=HoldKind.FREEZE_PAUSE)
    return HeldGuest(fake.domain(), fake.domain(), prepared, hold, (), "<domainbackup/>", None, agent_timeout_s=1)


def nothing(_fake: HeldFake, _guest: HeldGuest, _: pytest.MonkeyPatch) -> None:
    pass


def hook_fails(fake: HeldFake, _guest: HeldGuest, _: pytest.MonkeyPatch) -> None:
    fake.freeze_fails = agent_error("guest-fsfreeze-freeze", "fsfreeze hook has failed with status 1")


def agent_is_silent(fake: HeldFake, _guest: HeldGuest, _: pytest.MonkeyPatch) -> None:
    fake.freeze_fails = no_answer()


def begin_is_refused(fake: HeldFake, _guest: HeldGuest, _: pytest.MonkeyPatch) -> None:
    fake.refuses_begin = True


def guard_is_gone(_fake: HeldFake, guest: HeldGuest, _: pytest.MonkeyPatch) -> None:
    guest.stands = lambda: False


def defect(_fake: HeldFake, _guest: HeldGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("odd XML")

    monkeypatch.setattr(backup, "begin", broken)


def others_paused_it(fake: HeldFake, _guest: HeldGuest, _: pytest.MonkeyPatch) -> None:
    fake.state_code = libvirt.VIR_DOMAIN_PAUSED


def told_to_go_before(_fake: HeldFake, guest: HeldGuest, _: pytest.MonkeyPatch) -> None:
    guest.release()


@pytest.mark.parametrize(
    ("trouble", "done", "done_later"),
    [
        (nothing, ["freeze", "suspend", "begin"], []),
        (hook_fails, [], ["thaw"]),
        (agent_is_silent, [], ["thaw"]),
        (begin_is_refused, ["freeze", "suspend"], ["resume", "thaw"]),
        (guard_is_gone, ["freeze", "suspend"], ["resume", "thaw"]),
        (defect, ["freeze", "suspend"], ["resume", "thaw"]),
        (others_paused_it, [], []),
        (told_to_go_before, [], []),
    ],
)
def test_the_end_of_a_take_is_told_once_and_before_the_guest_is_let_go(
    fake: HeldFake,
    guest: HeldGuest,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Trouble,
    done: list[str],
    done_later: list[str],
) -> None:
    trouble(fake, guest, monkeypatch)
    told: list[list[str]] = []
    guest.take(time.monotonic() + 10.0, lambda: told.append(list(fake.log)))
    assert told == [done]
    assert fake.log == [*done, *done_later]
    assert guest.is_settled() == (trouble is not nothing)


def test_a_guest_that_its_take_lets_go_is_not_let_go_twice_at_once(
    fake: HeldFake, guest: HeldGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second thaw would wait for the first at an agent that hangs, and the window would give both up."""
    begun, goes_on, let_go = threading.Event(), threading.Event(), holding.let_go

    def waiting(domain: Domain, kind: HoldKind, timeout_s: int) -> holding.LetGo:
        assert domain is guest.domain
        begun.set()
        assert goes_on.wait(LONG_S)
        return let_go(domain, kind, timeout_s)

    monkeypatch.setattr(holding, "let_go", waiting)
    fake.refuses_begin = True
    taking = threading.Thread(target=guest.take, args=(time.monotonic() + 10.0,))
    taking.start()
    assert begun.wait(LONG_S)
    guest.release()
    assert not guest.is_settled()  # nobody has seen it running
    goes_on.set()
    taking.join()
    assert fake.log == ["freeze", "suspend", "resume", "thaw"]
    assert guest.is_settled()


def test_a_guest_that_its_take_could_not_let_go_is_let_go_again(
    fake: HeldFake, guest: HeldGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise AgentError("The agent does not answer.")

    fake.refuses_begin = True
    with monkeypatch.context() as patch:
        patch.setattr(holding, "let_go", silent)
        patch.setattr(holding, "verify_let_go", silent)
        guest.take(time.monotonic() + 10.0)
    assert (guest.phase, guest.is_settled(), fake.paused, fake.frozen) == (Phase.GOING, False, True, True)
    guest.release()
    assert (guest.is_settled(), fake.paused, fake.frozen) == (True, False, False)


def test_a_take_that_ends_in_an_exception_of_no_guest_tells_its_end_and_lets_go(
    fake: HeldFake, guest: HeldGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(backup, "begin", ends)
    told: list[bool] = []
    with pytest.raises(SystemExit):
        guest.take(time.monotonic() + 10.0, lambda: told.append(fake.paused))
    assert told == [True]
    assert guest.is_settled()


def fails_when_the_others_are_held(site: Site, monkeypatch: pytest.MonkeyPatch, failed: HeldFake) -> None:
    """Have a guest fail as the last: one that is told to go before it was held needs no letting go."""
    left, begin, lock = {fake.uuid for fake in site.fakes.values()} - {failed.uuid}, backup.begin, threading.Lock()
    failed.freezing.clear()

    def noted(domain: Domain, *xml: Any) -> None:
        begin(domain, *xml)
        with lock:
            left.discard(domain.uuid)
        if not left:
            failed.freezing.set()

    monkeypatch.setattr(backup, "begin", noted)


def lets_go_when_the_others_run(site: Site, monkeypatch: pytest.MonkeyPatch, failed: HeldFake) -> SimpleNamespace:
    """Have a guest's letting go wait until all other guests of both hosts have been let go; note whether they were."""
    seen, let_go = SimpleNamespace(others_ran=None), holding.let_go
    left, gone = {fake.uuid for fake in site.fakes.values()} - {failed.uuid}, threading.Condition()

    def waiting(domain: Domain, kind: HoldKind, timeout_s: int) -> holding.LetGo:
        if domain.uuid == failed.uuid:
            with gone:
                seen.others_ran = gone.wait_for(lambda: not left, LONG_S / 2)
            return let_go(domain, kind, timeout_s)
        found = let_go(domain, kind, timeout_s)
        with gone:
            left.discard(domain.uuid)
            gone.notify_all()
        return found

    monkeypatch.setattr(holding, "let_go", waiting)
    return seen


@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
@pytest.mark.parametrize("why", ["freeze", "begin"])
def test_the_others_are_not_held_until_a_guest_that_failed_is_let_go(
    site: Site, monkeypatch: pytest.MonkeyPatch, why: str, *, everyone: bool
) -> None:
    """Under `all` a freeze that failed after 1 s kept the guests of all hosts frozen for the whole time-out."""
    failed = site.guests["host-a"][0]
    if why == "freeze":
        failed.freeze_fails = no_answer()
    else:
        failed.refuses_begin = True
    fails_when_the_others_are_held(site, monkeypatch, failed)
    seen = lets_go_when_the_others_run(site, monkeypatch, failed)
    held = results(site.hold(hold=FREEZE, all_or_nothing=everyone, hold_timeout_s=60.0))
    assert seen.others_ran is True
    assert [one.guest_uuid for answer in held for one in answer.guest_faults] == [failed.uuid]
    woken = [answer.proof.woken_ns is not None for answer in held if answer.proof]
    assert woken == [not everyone] * len(HOSTS)
    assert site.held_ones() == []
    assert set(site.guards["host-a"].disarmed) == {fake.uuid for fake in site.guests["host-a"]}
