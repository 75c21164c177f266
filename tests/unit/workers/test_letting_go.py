# ruff: noqa: N802  libvirt's names
"""One attempt on one guest: it is resumed and thawed where that is needed, and called running only when it says so."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import libvirt
import pytest

from freezeframe.contract.words import HoldKind
from workers.bounded import GuestCalls
from workers.guard import letting_go
from workers.guard.fake_agent import FakeAgent
from workers.guard.fake_monitor import FakeMonitor
from workers.guard.letting_go import look
from workers.guard.reading import FoundGuest
from workers.guard.table import AGENT_S, Look
from workers.hypervisor import agent
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError, GuestGoneError, HypervisorError, HypervisorUnreachableError

GUEST = "00000000-0000-4000-8000-00000000000a"
LET_GO = {Look.RUNS, Look.GONE}


@dataclass
class Guest:
    """A guest behind libvirt and its agent, which may be out of order in some ways. It notes what is done to it."""

    frozen: bool = False
    paused: bool = False
    is_active: bool = True
    broken: frozenset[str] = frozenset()  # the calls that fail
    idle: frozenset[str] = frozenset()  # the calls that are answered and not carried out
    late: frozenset[str] = frozenset()  # the calls that are carried out and fail all the same
    done: list[str] = field(default_factory=list)
    name = "alpha"
    uuid = GUEST

    # What libvirt offers.

    def active(self) -> bool:
        return self.is_active

    def state(self) -> str:
        return "paused" if self.paused else "running"

    def let_run(self) -> None:
        if self.paused:
            self._do("resume", lambda: setattr(self, "paused", False))

    # What the agent does.

    def freeze_status(self) -> str:
        if "status" in self.broken:
            raise AgentError("The agent does not answer.")
        return "frozen" if self.frozen else "thawed"

    def thaw(self) -> int:
        self._do("thaw", lambda: setattr(self, "frozen", False))
        return 1

    def _do(self, what: str, act: Callable[[], None]) -> None:
        self.done.append(what)
        if what in self.broken:
            raise (AgentError if what == "thaw" else HypervisorError)(f"The {what} failed.")
        if what not in self.idle:
            act()
        if what in self.late:
            raise (AgentError if what == "thaw" else HypervisorError)(f"The {what} was not answered.")


@pytest.fixture
def calls() -> GuestCalls:
    return GuestCalls()


Looked = Callable[..., Look]


@pytest.fixture
def looked(calls: GuestCalls, monkeypatch: pytest.MonkeyPatch) -> Looked:
    """Look at a guest once."""

    def once(
        guest: Guest | Domain | Exception, hold: HoldKind, socket: Path | None = None, monitor: Path | None = None
    ) -> Look:
        class Libvirt:
            def domain(self, guest_uuid: str) -> Domain:
                assert guest_uuid == GUEST
                if isinstance(guest, Exception):
                    raise guest
                return cast("Domain", guest)

        def asked(domain: Domain, timeout_s: int) -> Guest:
            assert timeout_s == AGENT_S
            return cast("Guest", domain)

        monkeypatch.setattr(agent, "freeze_status", lambda domain, timeout_s: asked(domain, timeout_s).freeze_status())
        monkeypatch.setattr(agent, "thaw", lambda domain, timeout_s: asked(domain, timeout_s).thaw())
        return look(cast("Hypervisor", Libvirt()), calls, FoundGuest(GUEST, hold, socket, monitor))

    return once


class Behind:
    """libvirt's handle of a guest whose suspend waits in QEMU: it is "running", and a resume waits for the guest's job."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.code = libvirt.VIR_DOMAIN_RUNNING
        self.resumed = 0

    def UUIDString(self) -> str:
        return GUEST

    def name(self) -> str:
        return "alpha"

    def isActive(self) -> bool:
        return True

    def state(self) -> list[int]:
        return [self.code, 0]

    def resume(self) -> None:
        assert self.goes_on.wait(30)
        self.resumed += self.code == libvirt.VIR_DOMAIN_PAUSED
        self.code = libvirt.VIR_DOMAIN_RUNNING

    def suspend(self) -> None:
        assert self.goes_on.wait(30)
        self.code = libvirt.VIR_DOMAIN_PAUSED


@pytest.mark.case("S4")
@pytest.mark.parametrize("hold", [HoldKind.PAUSE, HoldKind.FREEZE_PAUSE])
def test_a_guest_on_which_a_suspend_waits_in_qemu_is_not_called_running_though_libvirt_does(
    looked: Looked, calls: GuestCalls, monkeypatch: pytest.MonkeyPatch, hold: HoldKind
) -> None:
    """Its lease must stay, however long, or undoing could not go by it: QEMU carries the suspend out when it continues."""
    monkeypatch.setattr(letting_go, "LIBVIRT_S", 0.05)
    handle = Behind()
    domain = Domain(handle)
    assert domain.state() == "running"
    assert looked(domain, hold) is Look.NO_ANSWER
    assert looked(domain, hold) is Look.NO_ANSWER
    handle.code = libvirt.VIR_DOMAIN_PAUSED  # the suspend has taken effect
    handle.goes_on.set()
    while calls.is_hanging(f"{GUEST} libvirt"):
        time.sleep(0.005)
    assert handle.resumed == 1


def test_a_frozen_guest_is_thawed(looked: Looked) -> None:
    guest = Guest(frozen=True)
    assert looked(guest, HoldKind.FREEZE) is Look.RUNS
    assert (guest.done, guest.frozen) == (["thaw"], False)


@pytest.mark.parametrize("hold", [HoldKind.FREEZE, HoldKind.PAUSE, HoldKind.FREEZE_PAUSE])
def test_a_guest_that_runs_is_left_alone(looked: Looked, hold: HoldKind) -> None:
    """Each thaw calls the guest's freeze hooks, and the guard looks for half a minute and longer."""
    guest = Guest()
    assert looked(guest, hold) is Look.RUNS
    assert guest.done == []


def test_a_guest_that_is_frozen_and_paused_is_resumed_first(looked: Looked) -> None:
    """Its agent answers to nobody before."""
    guest = Guest(frozen=True, paused=True)
    assert looked(guest, HoldKind.FREEZE_PAUSE) is Look.RUNS
    assert guest.done == ["resume", "thaw"]


@pytest.mark.parametrize("hold", [HoldKind.FREEZE, HoldKind.PAUSE])
def test_what_the_hold_had_nothing_to_do_with_stays(looked: Looked, hold: HoldKind) -> None:
    guest = Guest(frozen=hold is HoldKind.PAUSE, paused=hold is HoldKind.FREEZE)
    assert looked(guest, hold) is Look.RUNS
    assert guest.done == []


def test_a_guest_that_does_not_say_whether_it_is_frozen_is_thawed_and_not_called_running(looked: Looked) -> None:
    guest = Guest(frozen=True, broken=frozenset({"status"}))
    assert looked(guest, HoldKind.FREEZE) not in LET_GO
    assert (guest.done, guest.frozen) == (["thaw"], False)


def test_a_thaw_that_was_lost_and_has_worked_is_a_thaw(looked: Looked) -> None:
    assert looked(Guest(frozen=True, late=frozenset({"thaw"})), HoldKind.FREEZE) is Look.RUNS


@pytest.mark.parametrize("hold", [HoldKind.FREEZE, HoldKind.PAUSE, HoldKind.FREEZE_PAUSE])
@pytest.mark.parametrize("how", ["broken", "idle"])
def test_a_guest_that_is_still_held_is_not_called_running(looked: Looked, hold: HoldKind, how: str) -> None:
    faults = {how: frozenset({"thaw", "resume"})}
    guest = Guest(frozen=hold.freezes, paused=hold.pauses, **faults)  # type: ignore[arg-type]
    assert looked(guest, hold) not in LET_GO


@pytest.mark.parametrize(
    "error",
    [HypervisorError("odd"), RuntimeError("a defect"), HypervisorUnreachableError("away"), GuestGoneError("no")],
)
def test_a_guest_that_was_not_held_needs_no_answer_of_libvirt(looked: Looked, error: Exception) -> None:
    assert looked(error, HoldKind.NONE) is Look.RUNS


@pytest.mark.parametrize("hold", [HoldKind.FREEZE, HoldKind.PAUSE])
@pytest.mark.parametrize(
    "error", [HypervisorError("odd"), RuntimeError("a defect"), HypervisorUnreachableError("away")]
)
def test_a_guest_that_libvirt_does_not_tell_of_is_not_called_running(
    looked: Looked, error: Exception, hold: HoldKind
) -> None:
    assert looked(error, hold) not in LET_GO


@pytest.mark.parametrize("guest", [Guest(is_active=False), GuestGoneError("It is not here.")])
def test_a_guest_is_gone_when_its_qemu_is(looked: Looked, guest: Guest | Exception, tmp_path: Path) -> None:
    assert looked(guest, HoldKind.FREEZE) is Look.GONE
    assert looked(guest, HoldKind.FREEZE, tmp_path / "agent") is Look.GONE


@pytest.mark.parametrize("guest", [Guest(is_active=False), GuestGoneError("It is not here.")])
def test_a_guest_that_libvirt_has_lost_is_thawed_over_its_agents_socket(
    looked: Looked, guest: Guest | Exception, tmp_path: Path
) -> None:
    one = FakeAgent(tmp_path / "agent")
    assert looked(guest, HoldKind.FREEZE, tmp_path / "agent") is Look.RUNS
    assert one.status == "thawed"
    one.end()


@pytest.mark.case("G9")
@pytest.mark.parametrize("hold", [HoldKind.FREEZE, HoldKind.FREEZE_PAUSE])
def test_a_guest_whose_agent_libvirt_does_not_reach_is_thawed_over_the_agents_socket(
    looked: Looked, hold: HoldKind, tmp_path: Path
) -> None:
    """Libvirt answers for the guest, and says of its agent that it is not connected."""
    guest = Guest(frozen=True, paused=hold.pauses, broken=frozenset({"status", "thaw"}))
    one = FakeAgent(tmp_path / "agent")
    assert looked(guest, hold, tmp_path / "agent") is Look.RUNS
    assert (one.status, guest.paused) == ("thawed", False)
    one.end()


@pytest.mark.case("G9")
def test_an_agent_that_nobody_reaches_keeps_the_guest_held(looked: Looked, tmp_path: Path) -> None:
    guest = Guest(frozen=True, broken=frozenset({"status", "thaw"}))
    assert looked(guest, HoldKind.FREEZE, tmp_path / "nobody") not in LET_GO


@pytest.mark.case("G9")
def test_a_guest_that_stays_paused_is_not_called_running_because_its_agent_says_thawed(
    looked: Looked, tmp_path: Path
) -> None:
    guest = Guest(frozen=True, paused=True, broken=frozenset({"status", "thaw"}), idle=frozenset({"resume"}))
    one = FakeAgent(tmp_path / "agent")
    assert looked(guest, HoldKind.FREEZE_PAUSE, tmp_path / "agent") not in LET_GO
    one.end()


@pytest.mark.case("G9", "S4")
@pytest.mark.parametrize("agent", [None, "gone"])
@pytest.mark.parametrize("guest", [Guest(is_active=False), GuestGoneError("It is not here.")])
def test_a_paused_guest_that_libvirt_has_lost_is_resumed_over_its_monitor_agent_or_not(
    looked: Looked, guest: Guest | Exception, agent: str | None, tmp_path: Path
) -> None:
    """Those who have no agent are the ones that are told to hold by a pause."""
    path = tmp_path / "monitor"
    monitor = FakeMonitor(path)
    assert looked(guest, HoldKind.PAUSE, tmp_path / agent if agent else None, path) is Look.RUNS
    assert monitor.status == "running"
    monitor.end()
    assert looked(guest, HoldKind.PAUSE, None, path) is Look.GONE


@pytest.mark.case("G9")
def test_a_lost_guest_without_any_known_socket_is_gone_only_if_no_qemu_of_it_runs(
    looked: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letting_go, "running_qemus", lambda: {GUEST: 42})
    assert looked(GuestGoneError("no"), HoldKind.PAUSE) is Look.NO_ANSWER
    monkeypatch.setattr(letting_go, "running_qemus", lambda: {"another": 42})
    assert looked(GuestGoneError("no"), HoldKind.PAUSE) is Look.GONE


def test_a_lost_guest_whose_agent_stays_silent_is_not_called_gone(
    looked: Looked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letting_go, "AGENT_S", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent"))
        listener.listen(4)
        assert looked(GuestGoneError("no"), HoldKind.FREEZE, tmp_path / "agent") not in LET_GO
