"""Under `degrade` a host none of whose guests is fit before the muster costs the guests of other hosts nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from freezeframe.contract.proof import consistency
from freezeframe.contract.result import HeldGuestFault, StorageUse
from freezeframe.contract.words import Consistency, Policy, RunState
from orchestrator import decision
from tests.unit.orchestrator.test_decision import NOW, SETTINGS, run
from tests.unit.workers.hold_site import CAPTURE, FREEZE, HOLD_S, HOSTS, FakeLine, Site, proof_of, results
from workers.bounded import GuestCalls
from workers.guard.client import GuardError
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError
from workers.hypervisor.fake_guest import disk_xml, domain_xml
from workers.hypervisor.fake_held_guest import HeldFake, no_answer
from workers.journal import CaptureJournal, HoldChange
from workers.steps import held_guest
from workers.steps import hold as step

Trouble = Callable[[Site, pytest.MonkeyPatch], None]
HERE, ELSEWHERE = HOSTS
LUN = "iscsi iqn.2026-01.org.example:t/1"


def too_slow(site: Site, _: pytest.MonkeyPatch) -> None:
    for fake in site.guests[HERE]:
        site.hosts[HERE].paces.remember_too_slow(fake.uuid, HOLD_S * 1000)


def restarted(site: Site, _: pytest.MonkeyPatch) -> None:
    for fake in site.guests[HERE]:
        fake.live_xml = fake.live_xml.replace("<domain ", "<domain id='8' ")


def attached(site: Site, _: pytest.MonkeyPatch) -> None:
    for fake in site.guests[HERE]:
        disks = (disk_xml("vda", f"/{fake.label}.img"), disk_xml("vdb", "/more.img"))
        fake.live_xml = domain_xml(*disks, name=fake.label, uuid=fake.uuid)


def agents_gone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, here = HeldFake.agent_command, {fake.uuid for fake in site.guests[HERE]}

    def gone(fake: HeldFake, command: str, timeout_s: int) -> str:
        if fake.uuid in here:
            raise no_answer()
        return ask(fake, command, timeout_s)

    monkeypatch.setattr(HeldFake, "agent_command", gone)


def raising(error: Exception) -> Trouble:
    def set_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        here, real = {fake.uuid for fake in site.guests[HERE]}, site.domain

        def raises(uuid: str) -> Domain:
            if uuid in here:
                raise error
            return real(uuid)

        monkeypatch.setattr(site, "domain", raises)

    return set_up


def full_disk(_: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    record = CaptureJournal.record

    def full(journal: CaptureJournal, change: Any) -> None:
        if HERE in str(journal.guest(change.guest_uuid)._directory):
            raise OSError(28, "No space left on device")
        record(journal, change)

    monkeypatch.setattr(CaptureJournal, "record", full)


def unclaimed(site: Site, _: pytest.MonkeyPatch) -> None:
    for fake in site.guests[HERE]:
        site.hosts[HERE].claims.drop(fake.uuid, CAPTURE)


def claims_unreadable(site: Site, _: pytest.MonkeyPatch) -> None:
    for fake in site.guests[HERE]:
        (site.hosts[HERE].settings.state_dir / "claims" / fake.uuid).write_text("{")


def from_the_past(site: Site, _: pytest.MonkeyPatch) -> None:
    for fake in site.guests[HERE]:
        site.hosts[HERE].claims.fence(fake.uuid, 2)


def guard_gone(site: Site, _: pytest.MonkeyPatch) -> None:
    site.guards[HERE].is_there = False


def guard_fails(call: str) -> Trouble:
    def set_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(FakeLine, call)

        def fails(line: FakeLine, *arguments: Any) -> Any:
            if line._guard is site.guards[HERE]:
                raise GuardError("The thaw guard did not answer.")
            return real(line, *arguments)

        monkeypatch.setattr(FakeLine, call, fails)

    return set_up


UNFIT = [
    (too_slow, "slow-freeze"),
    (restarted, "guest-restarted"),
    (attached, "disks-changed"),
    (agents_gone, "no-agent"),
    (raising(HypervisorError("libvirt is away.")), "hypervisor"),
    (raising(ValueError("odd XML")), "guest-trouble"),
    (raising(OSError(5, "Input/output error")), "host-storage"),
    (full_disk, "host-storage"),
    (unclaimed, "not-prepared"),
    (claims_unreadable, "claim-unreadable"),
    (from_the_past, "stale-order"),
    (guard_gone, "guard"),
    (guard_fails("ping"), "guard"),
]


@pytest.mark.case("G3", "G4", "P5", "S9")
@pytest.mark.parametrize(("trouble", "code"), [*UNFIT, (guard_fails("arm"), "guard")])
def test_a_host_whose_guests_are_all_unfit_holds_nobody_and_costs_the_others_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, code: str
) -> None:
    trouble(site, monkeypatch)
    here, elsewhere = results(site.hold(hold=FREEZE, all_or_nothing=False))
    assert [(one.guest_uuid, one.fault.code, one.fault.host) for one in here.guest_faults] == [
        (fake.uuid, code, HERE) for fake in site.guests[HERE]
    ]
    assert here.proof is not None
    assert here.proof.guests == ()
    assert elsewhere.guest_faults == ()
    assert consistency(proof_of([here, elsewhere])) is Consistency.GROUP
    assert [fake.log for fake in site.guests[HERE]] == [[], []]
    assert [fake.has_backup for fake in site.guests[ELSEWHERE]] == [True, True]
    assert site.guards[HERE].armed == []
    held, let_go = site.journalled(HERE)
    assert set(held) <= set(let_go)
    assert site.held_ones() == []


@pytest.mark.parametrize(("trouble", "code"), UNFIT)
def test_under_all_they_end_the_capture_before_anybody_is_held(
    site: Site, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, code: str
) -> None:
    trouble(site, monkeypatch)
    answers = site.hold(hold=FREEZE)
    assert getattr(answers[HERE], "code", None) == code
    assert isinstance(answers[ELSEWHERE], step.MusterError)
    assert [fake.log for fake in site.fakes.values()] == [[], [], [], []]


@pytest.mark.case("G4")
def test_guests_that_hang_while_they_are_made_ready_are_told_and_the_other_host_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, back, real = {fake.uuid for fake in site.guests[HERE]}, threading.Event(), site.domain

    def hangs(uuid: str) -> Domain:
        if uuid in hanging:
            back.wait()
        return real(uuid)

    monkeypatch.setattr(held_guest, "READY_S", 0.1)
    monkeypatch.setattr(site, "domain", hangs)
    held = results(site.hold(all_or_nothing=False))
    back.set()
    assert [one.fault.code for one in held[0].guest_faults] == ["guest-hangs"] * 2
    assert consistency(proof_of(held)) is Consistency.GROUP


@pytest.mark.case("G4")
def test_guests_that_hang_while_they_are_made_ready_are_waited_for_together(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six of them, one after another, would take all of the muster's time."""
    clock, waited = SimpleNamespace(now_s=1000.0), list[float]()

    class Hanging(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            assert timeout is not None
            waited.append(timeout)
            clock.now_s += timeout
            raise TimeoutError

    monkeypatch.setattr(GuestCalls, "start", lambda *_: Hanging())
    monkeypatch.setattr(held_guest, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    host, unfit = site.hosts[HERE], list[HeldGuestFault]()
    assert held_guest.ready(host, site.order(HERE, all_or_nothing=False), host.journal.of(CAPTURE), unfit) == []
    assert waited == [10.0, 0.0]
    assert {one.fault.code for one in unfit} == {"guest-hangs"}


@pytest.mark.case("S5")
def test_a_guest_whose_journal_cannot_be_written_costs_its_neighbour_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, kept = site.guests[HERE]
    record = CaptureJournal.record

    def full(journal: CaptureJournal, change: Any) -> None:
        if isinstance(change, HoldChange) and change.guest_uuid == lost.uuid:
            raise OSError(28, "No space left on device")
        record(journal, change)

    monkeypatch.setattr(CaptureJournal, "record", full)
    held = results(site.hold(all_or_nothing=False))
    assert [(one.guest_uuid, one.fault.code) for one in held[0].guest_faults] == [(lost.uuid, "host-storage")]
    assert site.guards[HERE].armed == [kept.uuid]
    assert lost.log == []
    assert consistency(proof_of(held)) is Consistency.GROUP


@pytest.mark.case("S9")
def test_a_host_without_guests_needs_no_guard(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    too_slow(site, monkeypatch)
    site.guards[HERE].is_there = False
    assert consistency(proof_of(results(site.hold(hold=FREEZE, all_or_nothing=False)))) is Consistency.GROUP


def test_if_no_host_has_a_guest_left_every_guest_is_told_and_nothing_is_kept(site: Site) -> None:
    for fake in site.fakes.values():
        fake.live_xml = fake.live_xml.replace("<domain ", "<domain id='8' ")
    held = results(site.hold(all_or_nothing=False))
    assert {one.guest_uuid for answer in held for one in answer.guest_faults} == set(site.fakes)
    assert all(fake.log == [] for fake in site.fakes.values())
    state = run(RunState.HOLDING, Policy.DEGRADE, kept=tuple(site.fakes))
    following = decision.after_hold(state, held, NOW, SETTINGS)
    assert following is not None
    assert (following.state, following.kept) == (RunState.RELEASING, ())
    assert {fault.code for fault in following.faults} == {"guest-restarted"}


def new_writer() -> HeldFake:
    source = "<source protocol='iscsi' name='iqn.2026-01.org.example:t/1'><host name='s'/></source>"
    lun = f"<disk type='network' device='disk'><driver type='raw'/>{source}<target dev='vdn'/></disk>"
    uuid = "00000000-0000-4000-8000-00000000000e"
    return HeldFake(domain_xml(lun, name="new", uuid=uuid), uuid=uuid, label="new")


@pytest.mark.case("P2")
def test_a_host_without_guests_tells_what_the_guests_that_run_on_it_write_to(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capture goes on with disks of other hosts, to which they may write."""
    too_slow(site, monkeypatch)
    fakes = [*site.fakes.values(), new_writer()]
    monkeypatch.setattr(Hypervisor, "domains", lambda _: [one.domain() for one in fakes])
    here, _ = results(site.hold(hold=FREEZE, all_or_nothing=False))
    writer = StorageUse(guest_uuid=fakes[-1].uuid, guest="new", target="vdn", writes=(LUN,))
    assert here.uses == (writer,)


@pytest.mark.case("P2")
def test_a_host_without_guests_that_cannot_see_their_writers_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Hypervisor) -> list[object]:
        raise HypervisorError("Listing guests failed: no.")

    too_slow(site, monkeypatch)
    monkeypatch.setattr(Hypervisor, "domains", away)
    here, _ = results(site.hold(hold=FREEZE, all_or_nothing=False))
    assert here.writers_unseen == "Listing guests failed: no"
