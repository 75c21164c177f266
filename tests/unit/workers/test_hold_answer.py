"""A host's answer after a hold, and its memory of it: no release that never was, no cause that it does not know."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from lxml import etree
from structlog.testing import capture_logs

from freezeframe.barrier import Gate, GateReply
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.result import HeldGuestFault, PrepareResult
from freezeframe.contract.words import Step
from tests.unit.workers.hold_site import CAPTURE, FREEZE, HOSTS, PAUSE, REPOSITORY, FakeLine, Site, results
from workers.bounded import GuestHangsError
from workers.guard.client import GuardError
from workers.guard.lease import LeasedGuest
from workers.host import Host
from workers.hypervisor import backup
from workers.hypervisor.checkpoint import checkpoint_name
from workers.hypervisor.domain import Domain
from workers.journal import BackupChange
from workers.steps import held_guest, window
from workers.steps import hold as step
from workers.steps.guest_in_hold import HeldGuest
from workers.steps.held_guest import ready
from workers.steps.prepared import read_prepared


def test_a_barrier_that_was_broken_up_is_no_release_in_any_answer(site: Site) -> None:
    """A release is what the label rests on: its time, and how many hosts were there."""
    site.guests["host-a"][1].refuses_begin = True
    for held in results(site.hold()):
        assert (held.release_us, held.release_arrivals) == (None, None)


def test_a_barrier_that_was_released_is_told_with_its_time_and_the_number_of_its_hosts(site: Site) -> None:
    for held in results(site.hold()):
        assert held.release_us is not None
        assert held.release_arrivals == len(HOSTS)
        assert held.arrived_us is not None
        assert held.arrived_us <= held.release_us


def test_a_barrier_that_nobody_can_look_at_costs_the_proof_nothing_but_the_release(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Gate.look

    def away(gate: Gate) -> GateReply:
        if (found := real(gate)).state == "open":
            return found  # before the hold, whether this host has reported already
        raise redis.ConnectionError("away")

    monkeypatch.setattr(Gate, "look", away)
    for held in results(site.hold()):
        assert (held.release_us, held.release_arrivals) == (None, None)
        assert held.arrived_us is not None  # it was told when it arrived
        assert held.proof is not None
        assert held.proof.woken_ns is not None
        assert held.proof.clock_after is None  # it is not asked for what nothing needs, when it does not answer
    assert site.held_ones() == []


def test_a_host_that_is_alone_at_the_muster_says_so_and_holds_nobody(site: Site) -> None:
    with pytest.raises(step.MusterError, match=r"Not every host came to the muster within 0\.2 s"):
        step.hold(site.hosts["host-a"], site.order("host-a", muster_timeout_s=0.2))
    assert [fake.log for fake in site.fakes.values()] == [[], [], [], []]


@pytest.mark.parametrize("hold", [PAUSE, FREEZE])
def test_how_long_each_guest_took_is_remembered_for_the_next_hold(site: Site, hold: GuestHold) -> None:
    held = results(site.hold(hold=hold))
    for answer in held:
        assert answer.proof is not None
        for guest in answer.proof.guests:
            assert guest.begun_ns is not None
            assert guest.hold_start_ns is not None
            took_ms = round((guest.begun_ns - guest.hold_start_ns) / 1e6, 3)
            assert site.hosts[answer.host_id].paces.expected_ms(guest.guest_uuid) == took_ms


def test_of_a_guest_whose_backup_did_not_begin_no_pace_is_remembered(site: Site) -> None:
    failed, other = site.guests["host-a"]
    failed.refuses_begin = True
    results(site.hold(all_or_nothing=False))
    paces = site.hosts["host-a"].paces
    assert paces.expected_ms(failed.uuid) is None
    assert paces.expected_ms(other.uuid) is not None


@pytest.mark.case("G4")
def test_a_guest_that_hangs_while_it_is_made_ready_costs_one_thread_however_often_it_is_tried(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, back, real = site.guests["host-a"][0], threading.Event(), site.domain
    asked: list[str] = []

    def hangs(uuid: str) -> Domain:
        asked.append(uuid)
        if uuid == hanging.uuid:
            back.wait()
        return real(uuid)

    monkeypatch.setattr(held_guest, "READY_S", 0.1)
    monkeypatch.setattr(site, "domain", hangs)
    host = site.hosts["host-a"]
    for _ in range(3):
        with pytest.raises(GuestHangsError):
            ready(host, site.order("host-a"), host.journal.of(CAPTURE), [])
    assert asked.count(hanging.uuid) == 1
    back.set()
    until = time.monotonic() + 20.0
    while host.calls.is_hanging(f"{hanging.uuid} ready") and time.monotonic() < until:
        time.sleep(0.001)
    assert len(ready(host, site.order("host-a"), host.journal.of(CAPTURE), [])) == 2  # as soon as it has returned


KEPT = "00000000-0000-4000-8000-0000000000aa"


@pytest.mark.parametrize(
    ("secrets", "patience_s"),
    [((None,), 10.0), ((KEPT,), 40.0), ((None, KEPT), 40.0), ((KEPT, None), 40.0), ((None, None), 10.0)],
)
def test_a_guest_whose_scratch_file_may_be_made_anew_is_waited_for_as_long_as_that_takes(
    site: Site, secrets: Sequence[str | None], patience_s: float
) -> None:
    waited: list[float | None] = []

    class Answer(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            waited.append(timeout)
            return None

    host, fake = site.hosts["host-a"], site.guests["host-a"][0]
    guest = read_prepared(host.journal.of(CAPTURE)).guests[fake.uuid]
    disks = tuple(guest.disks[0].model_copy(update={"scratch_secret": secret}) for secret in secrets)
    held_guest._made(host, site.order("host-a"), guest.model_copy(update={"disks": disks}), Answer(), [])
    assert waited == [patience_s]


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [(KeyError("a defect"), True), (GuestHangsError("libvirt has not answered"), False)],
    ids=str,
)
def test_trouble_of_a_guest_that_is_not_foreseen_is_logged_with_its_traceback(
    site: Site, error: Exception, *, is_logged: bool
) -> None:
    """The fault that goes out has a sentence; where it came from is in the log alone."""
    fake, unfit = site.guests["host-a"][0], list[HeldGuestFault]()
    order = site.order("host-a", FREEZE, all_or_nothing=False)
    with capture_logs() as logged:
        held_guest.leave_out(site.hosts["host-a"], order, unfit, fake.uuid, "db1", error)
    assert [one.guest_uuid for one in unfit] == [fake.uuid]
    expected = [("error", "db1", error)] if is_logged else []
    assert [(line["log_level"], line["guest"], line["exc_info"]) for line in logged] == expected


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """The checkpoint's XML with which each guest's backup was begun."""
    seen: dict[str, str | None] = {}
    begin = backup.begin

    def noted(domain: Domain, backup_xml: str, checkpoint_xml: str | None) -> None:
        seen[domain.uuid] = checkpoint_xml
        begin(domain, backup_xml, checkpoint_xml)

    monkeypatch.setattr(backup, "begin", noted)
    return seen


def track(host: Host, guest_uuid: str, checkpoint: str) -> None:
    """Have the guest prepared with a checkpoint on its disk."""
    journal = host.journal.of(CAPTURE)
    (path,) = journal.result_paths(Step.PREPARE)
    result = PrepareResult.model_validate_json(path.read_text())
    guests = tuple(
        guest.model_copy(
            update={"disks": tuple(disk.model_copy(update={"checkpoint": checkpoint}) for disk in guest.disks)}
        )
        if guest.guest_uuid == guest_uuid
        else guest
        for guest in result.guests
    )
    journal.store_result(Step.PREPARE, "", result.model_copy(update={"guests": guests}).model_dump_json())


def test_a_checkpoint_is_made_of_the_disks_that_can_have_one_and_of_no_other_guest(
    site: Site, begun: dict[str, str | None]
) -> None:
    """A raw disk has no bitmap: asked for one, QEMU refuses the whole backup within the hold."""
    tracked, untracked = site.guests["host-a"]
    name = checkpoint_name(REPOSITORY, CAPTURE)
    track(site.hosts["host-a"], tracked.uuid, name)
    results(site.hold())
    assert begun.keys() == site.fakes.keys()
    assert begun[untracked.uuid] is None
    xml = etree.fromstring(begun[tracked.uuid] or "")
    assert xml.findtext("name") == name
    assert [(disk.get("name"), disk.get("checkpoint")) for disk in xml.iterfind("disks/disk")] == [("vda", "bitmap")]
    changes = site.hosts["host-a"].journal.of(CAPTURE).changes()
    noted = {one.guest_uuid: one.checkpoint for one in changes if isinstance(one, BackupChange)}
    assert noted == {tracked.uuid: name, untracked.uuid: None}


@pytest.mark.parametrize("everyone", [True, False], ids=["all or nothing", "degrade"])
def test_guests_are_held_to_the_end_of_the_hold_s_time_only_where_no_other_goes_on_without_the_slow_one(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, everyone: bool
) -> None:
    """Under `degrade` the others need what is left of the time for the barrier."""
    given: list[float] = []
    take = HeldGuest.take

    def noted(guest: HeldGuest, deadline: float, ended: Callable[[], None]) -> None:
        given.append(deadline)
        take(guest, deadline, ended)

    monkeypatch.setattr(HeldGuest, "take", noted)
    clock = SimpleNamespace(monotonic=lambda: 1000.0, monotonic_ns=time.monotonic_ns)
    monkeypatch.setattr(window, "time", clock)
    meet = Gate.meet
    monkeypatch.setattr(Gate, "meet", lambda gate, _, visit="": meet(gate, time.monotonic() + 60.0, visit))
    results(site.hold(all_or_nothing=everyone, hold_timeout_s=8.0))
    assert set(given) == {1008.0 if everyone else 1006.0}


@pytest.mark.case("G4")
def test_under_degrade_a_guest_that_was_not_held_in_time_is_let_go_before_the_barrier_and_the_others_after_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not stay held for the sake of a capture that goes on without it."""
    monkeypatch.setattr(window, "GIVE_UP_S", 0.1)
    late, other = site.guests["host-a"]
    late.suspending.clear()
    told = threading.Event()
    release, meet = HeldGuest.release, Gate.meet

    def noted(guest: HeldGuest) -> None:
        if guest.uuid == late.uuid:
            told.set()
        release(guest)

    def met(gate: Gate, deadline: float, visit: str = "") -> None:
        if gate._member == "host-a" and gate._key.endswith("held"):
            assert told.wait(30)
        meet(gate, deadline, visit)

    monkeypatch.setattr(HeldGuest, "release", noted)
    monkeypatch.setattr(Gate, "meet", met)
    a, _ = results(site.hold(all_or_nothing=False, hold_timeout_s=2.0))
    assert a.proof is not None
    assert a.proof.woken_ns is not None
    kept = {guest.guest_uuid: guest for guest in a.proof.guests}[other.uuid]
    assert kept.thaw_start_ns is not None
    assert kept.thaw_start_ns >= a.proof.woken_ns


@pytest.mark.case("S9")
def test_a_guard_that_does_not_answer_is_found_before_the_muster(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket is there, and its process is suspended: no host may arm its guests for a hold that cannot be."""

    def silent(line: FakeLine) -> None:
        if line._guard is site.guards["host-a"]:
            raise GuardError("The thaw guard did not answer.")

    monkeypatch.setattr(FakeLine, "ping", silent)
    answers = site.hold()
    assert isinstance(answers["host-a"], GuardError)
    assert isinstance(answers["host-b"], step.MusterError)
    assert [guard.armed for guard in site.guards.values()] == [[], []]


@pytest.mark.case("S9")
def test_a_guard_that_ends_after_it_was_armed_keeps_its_host_from_beginning_backups(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would let these guests go if the worker ended as well; they are let go, and the capture is lost."""
    arm = FakeLine.arm

    def last_words(line: FakeLine, capture_id: str, guests: Sequence[LeasedGuest], seconds: float) -> dict[str, str]:
        refused = arm(line, capture_id, guests, seconds)
        line._guard.is_there = line._guard is not site.guards["host-a"]
        return refused

    monkeypatch.setattr(FakeLine, "arm", last_words)
    a, _ = results(site.hold())
    assert {one.fault.code for one in a.guest_faults} == {"guard"}
    assert not any(fake.has_backup for fake in site.guests["host-a"])
    assert site.held_ones() == []


def test_a_socket_of_an_earlier_try_is_removed_before_the_hold(site: Site) -> None:
    """QEMU binds a path that is there only where it may unlink it."""
    host, fake = site.hosts["host-a"], site.guests["host-a"][0]
    socket = host.qemu(fake.label, fake.uuid).export_socket(CAPTURE)
    socket.touch()
    results(site.hold())
    assert not socket.exists()


def test_a_guest_that_another_result_may_have_is_told_with_the_result_that_cannot_be_read(site: Site) -> None:
    """And one that was prepared, and is not claimed any more, without it: that result is not its trouble."""
    host = site.hosts["host-a"]
    known, missing = site.guests["host-a"]
    journal = host.journal.of(CAPTURE)
    (path,) = journal.result_paths(Step.PREPARE)
    result = PrepareResult.model_validate_json(path.read_text())
    others = tuple(guest for guest in result.guests if guest.guest_uuid != missing.uuid)
    journal.store_result(Step.PREPARE, "", result.model_copy(update={"guests": others}).model_dump_json())
    journal.store_result(Step.PREPARE, "round1", "{")
    host.claims.drop(known.uuid, CAPTURE)
    unfit: list[HeldGuestFault] = []
    assert ready(host, site.order("host-a", all_or_nothing=False), journal, unfit) == []
    messages = {one.guest_uuid: one.fault.message for one in unfit}
    assert "round1" not in messages[known.uuid]
    assert "round1" in messages[missing.uuid]
