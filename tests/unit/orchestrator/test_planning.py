"""A plan, of what the hosts have published."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.plan import Plan
from freezeframe.contract.request import CaptureRequest, HoldChoice
from freezeframe.contract.words import HoldKind, Policy, WantedKind
from freezeframe.presence import KnownHost, UnreadHost
from freezeframe.settings import OrchestratorSettings
from orchestrator import planning
from orchestrator.board import Boards
from orchestrator.errors import NoGuestsError, UnknownGuestError
from orchestrator.parents import Briefs
from orchestrator.unread import UnreadHostError

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


def host(*guests: tuple[str, str]) -> KnownHost:
    entries = tuple(
        GuestEntry(guest_uuid=f"00000000-0000-4000-8000-00000000000{number}", name=name, state=state)
        for number, (name, state) in enumerate(guests)
    )
    entry = HostEntry(
        host_id="host-a",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        freezeframe_version="0",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=entries,
    )
    return KnownHost(entry, alive=True)


def plan_of(request: CaptureRequest) -> tuple[Plan, tuple[Fault, ...], tuple[str, ...]]:
    suspects = SimpleNamespace(marked=lambda: SimpleNamespace(has=lambda *_: False))
    repository: Any = SimpleNamespace(config=SimpleNamespace(chunk_bytes=4096, id="r"), suspects=suspects)
    client: Any = None
    runs: Any = SimpleNamespace(next_epoch=lambda _: 1)
    planner = planning.Planner(client, runs, repository, OrchestratorSettings(), Briefs(), Boards(), planning.AtWork())
    found = planning.find(client, request)
    plan, warnings = planner._plan(request, found)
    return plan, found.faults, warnings


@pytest.mark.case("P6")
def test_a_plan_for_every_guest_names_those_that_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "known_hosts", lambda _: [host(("alpha", "running"), ("beta", "paused"))])
    monkeypatch.setattr(planning, "unread_hosts", lambda _: [])
    request = CaptureRequest(capture_id=CAPTURE, every_guest=True, kind=WantedKind.FULL)
    plan, faults, _ = plan_of(request)
    assert faults == ()
    assert [guest.name for one in plan.hosts for guest in one.guests] == ["alpha"]
    assert [(one.guest, one.host, one.reason) for one in plan.left_out] == [("beta", "host-a", "it is paused")]


NEWER = UnreadHost("hv-9", "is of version 2 and newer than this freezeframe", alive=True)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "known_hosts", lambda _: [host(("alpha", "running"))])
    monkeypatch.setattr(planning, "unread_hosts", lambda _: [NEWER])


@pytest.mark.usefixtures("unread")
def test_every_guest_is_not_planned_without_those_of_a_host_that_cannot_be_read() -> None:
    request = CaptureRequest(capture_id=CAPTURE, every_guest=True, kind=WantedKind.FULL)
    with pytest.raises(UnreadHostError, match=r"hv-9 is up, .* of version 2 and newer") as refused:
        plan_of(request)
    assert "--policy degrade" in refused.value.hint
    assert "forget" not in refused.value.hint  # it is up


@pytest.mark.usefixtures("unread")
def test_every_guest_but_those_of_a_host_that_cannot_be_read_with_a_fault_that_names_it() -> None:
    request = CaptureRequest(capture_id=CAPTURE, every_guest=True, kind=WantedKind.FULL, policy=Policy.DEGRADE)
    plan, faults, _ = plan_of(request)
    assert [guest.name for one in plan.hosts for guest in one.guests] == ["alpha"]
    assert [(fault.code, fault.host) for fault in faults] == [("unread-host", "hv-9")]


@pytest.mark.case("I5")
@pytest.mark.parametrize("policy", list(Policy))
def test_an_option_for_a_guest_that_nobody_knows_is_refused_where_every_host_can_be_read(
    monkeypatch: pytest.MonkeyPatch, policy: Policy
) -> None:
    """Left out with a word it would freeze the guest that must be paused."""
    monkeypatch.setattr(planning, "known_hosts", lambda _: [host(("alpha", "running"))])
    monkeypatch.setattr(planning, "unread_hosts", lambda _: [])
    slip = (HoldChoice(guest="alpa", kind=HoldKind.PAUSE),)
    request = CaptureRequest(
        capture_id=CAPTURE, every_guest=True, kind=WantedKind.FULL, policy=policy, guest_holds=slip
    )
    with pytest.raises(UnknownGuestError, match="There is no guest alpa"):
        plan_of(request)


@pytest.mark.usefixtures("unread")
def test_guests_that_are_named_and_found_need_no_other_host() -> None:
    request = CaptureRequest(capture_id=CAPTURE, guests=("alpha",), kind=WantedKind.FULL)
    plan, faults, _ = plan_of(request)
    assert [guest.name for one in plan.hosts for guest in one.guests] == ["alpha"]
    assert faults == ()


@pytest.mark.usefixtures("unread")
def test_a_guest_that_is_not_found_may_be_on_a_host_that_cannot_be_read() -> None:
    request = CaptureRequest(capture_id=CAPTURE, guests=("beta",), kind=WantedKind.FULL)
    with pytest.raises(UnknownGuestError, match=r"no guest beta.*Host hv-9 is up") as refused:
        plan_of(request)
    assert "freezeframe version" in refused.value.hint


def test_where_no_guest_runs_on_the_hosts_that_can_be_read_the_others_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "known_hosts", lambda _: [host(("alpha", "shut off"))])
    monkeypatch.setattr(planning, "unread_hosts", lambda _: [NEWER])
    request = CaptureRequest(capture_id=CAPTURE, every_guest=True, kind=WantedKind.FULL, policy=Policy.DEGRADE)
    with pytest.raises(NoGuestsError, match="hv-9"):
        plan_of(request)


def test_a_host_that_is_gone_for_good_is_forgotten_by_the_printed_command() -> None:
    down = UnreadHostError(UnreadHost("hv-9", "cannot be read (3 faults)", alive=False))
    assert "`freezeframe hosts forget hv-9`" in down.hint
