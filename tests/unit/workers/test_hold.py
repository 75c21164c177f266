"""The hold of several hosts with several guests each, on a real Redis: a failure delays no other, doubt keeps a lease."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import libvirt
import pytest
import redis

from freezeframe.barrier import Gate, GateUnreachableError
from freezeframe.contract.doubts import doubts
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import GuestToHold, HoldOrder
from freezeframe.contract.proof import consistency
from freezeframe.contract.result import HoldResult, PrepareResult
from freezeframe.contract.words import Consistency, Step
from freezeframe.naming import NamedGuest
from freezeframe.settings import BusSettings
from tests.unit.workers.hold_site import (
    CAPTURE,
    FREEZE,
    GRACE_S,
    HOLD_S,
    HOSTS,
    PAUSE,
    REPOSITORY,
    FakeGuard,
    FakeLine,
    Site,
    give_each_guest_a_qemu,
    host_of,
    prepare,
    proof_of,
    results,
)
from workers import bounded
from workers.guard.client import GuardError
from workers.guard.lease import LeasedGuest
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError
from workers.hypervisor.fake_held_guest import HeldFake, held_fake
from workers.hypervisor.freeze_failure import LateFreezeError, SlowFreezeError
from workers.journal import BackupChange, CaptureJournal, HoldChange, LetGoChange
from workers.steps import held_guest, window
from workers.steps import hold as step
from workers.steps.undo import undo_capture


@pytest.mark.parametrize("hold", [PAUSE, FREEZE])
def test_a_hold_as_it_is_measured_shows_one_instant_and_gives_no_doubts(site: Site, hold: GuestHold) -> None:
    held = results(site.hold(hold=hold))
    proof = proof_of(held)
    assert consistency(proof) is Consistency.GROUP
    assert doubts(proof) == []
    for host_id in HOSTS:
        uuids = [fake.uuid for fake in site.guests[host_id]]
        assert site.guards[host_id].armed == uuids
        assert site.guards[host_id].disarmed == uuids
        assert site.guards[host_id].seconds == HOLD_S + GRACE_S  # the host lets go by itself first
        assert site.journalled(host_id) == (uuids, uuids)
    assert site.held_ones() == []


def test_redis_s_clock_is_read_before_the_hold_and_after_it(site: Site) -> None:
    for held in results(site.hold()):
        proof = held.proof
        assert proof is not None
        assert proof.clock_before is not None
        assert proof.clock_after is not None
        for guest in proof.guests:
            assert guest.hold_start_ns is not None
            assert guest.thawed_ns is not None
            assert proof.clock_before.at_ns <= guest.hold_start_ns < guest.thawed_ns <= proof.clock_after.at_ns


def test_changes_are_in_the_journal_before_the_muster(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fsync lies within the window, and a crash in it finds every hold written down."""
    seen: list[tuple[str, int, int]] = []
    meet = Gate.meet

    def looked(gate: Gate, deadline: float, visit: str = "") -> None:
        for host_id in HOSTS:
            changes = site.hosts[host_id].journal.of(CAPTURE).changes()
            counts = [sum(isinstance(change, kind) for change in changes) for kind in (BackupChange, HoldChange)]
            if gate._member == host_id and gate._key.endswith("muster"):
                seen.append((host_id, *counts))  # type: ignore[arg-type]
        meet(gate, deadline, visit)

    monkeypatch.setattr(Gate, "meet", looked)
    results(site.hold())
    assert sorted(seen) == [("host-a", 2, 2), ("host-b", 2, 2)]


@pytest.mark.case("S9")
@pytest.mark.parametrize("when", ["before the hold", "at the arming"])
def test_a_host_whose_guard_is_gone_makes_every_host_give_up_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Not after the muster's 60 s. And no guest was touched."""
    if when == "before the hold":
        site.guards["host-a"].is_there = False
    else:
        arm = FakeLine.arm

        def fails(line: FakeLine, capture_id: str, guests: Sequence[LeasedGuest], seconds: float) -> dict[str, str]:
            if line._guard is site.guards["host-a"]:
                raise GuardError("The thaw guard did not answer.")
            return arm(line, capture_id, guests, seconds)

        monkeypatch.setattr(FakeLine, "arm", fails)
    began = time.monotonic()
    answers = site.hold(hold_timeout_s=60.0)
    assert time.monotonic() - began < 30.0  # of 60 s for the muster and 60 s for the hold
    assert isinstance(answers["host-a"], GuardError)
    other = answers["host-b"]
    if when == "before the hold":
        assert isinstance(other, step.MusterError)
        assert site.fakes[site.guests["host-b"][0].uuid].log == []
    assert site.held_ones() == []
    for host_id in HOSTS:
        held, let_go = site.journalled(host_id)
        assert held == let_go


@pytest.mark.parametrize("trouble", ["libvirt", "an order for another guest", "the journal's disk"])
def test_a_host_that_cannot_make_its_guests_ready_breaks_up_the_muster(
    site: Site, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    last = site.guests["host-a"][1].uuid
    if trouble == "libvirt":
        real = site.domain

        def fails(uuid: str) -> Domain:
            if uuid == last:
                raise HypervisorError("no")
            return real(uuid)

        monkeypatch.setattr(site, "domain", fails)
    elif trouble == "the journal's disk":
        record = CaptureJournal.record

        def full(journal: CaptureJournal, change: Any) -> None:
            if isinstance(change, HoldChange) and change.guest_uuid == last:
                raise OSError(28, "No space left on device")
            record(journal, change)

        monkeypatch.setattr(CaptureJournal, "record", full)
    else:
        site.hosts["host-a"].claims.drop(last, CAPTURE)
    answers = site.hold()
    assert not isinstance(answers["host-a"], HoldResult)
    assert isinstance(answers["host-b"], step.MusterError)
    held, let_go = site.journalled("host-a")
    assert set(held) <= set(let_go)  # no guest counts as held that never was
    assert [fake.log for fake in site.fakes.values()] == [[], [], [], []]


def spoil_result(host: Host, fake: HeldFake) -> Path:
    """Have one guest in a result of a later order alone, which cannot be read."""
    journal = host.journal.of(CAPTURE)
    (path,) = journal.result_paths(Step.PREPARE)
    result = PrepareResult.model_validate_json(path.read_text())
    others = tuple(guest for guest in result.guests if guest.guest_uuid != fake.uuid)
    journal.store_result(Step.PREPARE, "", result.model_copy(update={"guests": others}).model_dump_json())
    journal.store_result(Step.PREPARE, "round1", '{"v": 2, "guests": "of another shape"}')
    return next(path for path in journal.result_paths(Step.PREPARE) if "round1" in path.name)


@pytest.mark.case("S5")
@pytest.mark.parametrize("trouble", ["unreadable", "unclaimed"])
def test_a_guest_that_is_not_known_to_be_prepared_holds_up_no_other_under_degrade(site: Site, trouble: str) -> None:
    lost, kept = site.guests["host-a"]
    path = spoil_result(site.hosts["host-a"], lost) if trouble == "unreadable" else None
    if path is None:
        site.hosts["host-a"].claims.drop(lost.uuid, CAPTURE)
    answers = site.hold(all_or_nothing=False)
    first = answers["host-a"]
    assert isinstance(first, HoldResult)
    assert first.fault is None
    (fault,) = first.guest_faults
    assert (fault.guest_uuid, fault.fault.code) == (lost.uuid, "not-prepared")
    assert path is None or str(path) in fault.fault.message
    assert first.proof is not None
    assert [guest.guest_uuid for guest in first.proof.guests] == [kept.uuid]
    assert site.journalled("host-a") == ([kept.uuid], [kept.uuid])
    assert site.held_ones() == []


@pytest.mark.case("S5")
def test_a_result_that_cannot_be_read_holds_nobody_under_all_and_is_named(site: Site) -> None:
    path = spoil_result(site.hosts["host-a"], site.guests["host-a"][1])
    answers = site.hold()
    assert str(path) in str(answers["host-a"])
    assert isinstance(answers["host-b"], step.MusterError)
    assert [fake.log for fake in site.fakes.values()] == [[], [], [], []]
    assert path.exists()


def test_an_order_from_the_past_holds_nobody(site: Site) -> None:
    """A hold that is older than another capture's prepare of the same guest."""
    site.hosts["host-a"].claims.fence(site.guests["host-a"][1].uuid, 2)
    answers = site.hold()
    assert not isinstance(answers["host-a"], HoldResult)
    assert "epoch" in str(answers["host-a"])
    assert site.held_ones() == []


def test_a_guest_that_fails_lets_every_host_go_at_once_under_all_or_nothing(site: Site) -> None:
    site.guests["host-a"][1].refuses_begin = True
    began = time.monotonic()
    a, b = results(site.hold(hold_timeout_s=60.0))
    assert time.monotonic() - began < 30.0
    assert a.proof is not None
    assert a.proof.report_ns is None
    assert b.proof is not None
    assert b.proof.woken_ns is None
    assert [one.guest_uuid for one in a.guest_faults] == [site.guests["host-a"][1].uuid]
    assert site.held_ones() == []
    gate = Gate(site.hosts["host-a"].redis, CAPTURE, 1, "held", "host-a", len(HOSTS))
    assert gate.look().state == "broken"


def test_a_guest_that_fails_is_left_out_under_degrade_and_the_rest_is_proven(site: Site) -> None:
    failed = site.guests["host-a"][1]
    failed.refuses_begin = True
    a, b = results(site.hold(all_or_nothing=False))
    for one in (a, b):
        assert one.proof is not None
        assert one.proof.woken_ns is not None
    assert [one.guest_uuid for one in a.guest_faults] == [failed.uuid]
    assert sum(guest.begun_ns is not None for one in (a, b) if one.proof for guest in one.proof.guests) == 3
    assert site.held_ones() == []


@pytest.mark.case("P4")
def test_a_guest_that_an_administrator_paused_is_left_so_by_all(site: Site) -> None:
    """By the worker, and by the guard, which is told at once; recovery has nothing to undo on it."""
    paused = site.guests["host-a"][0]
    paused.state_code = libvirt.VIR_DOMAIN_PAUSED
    a, _ = results(site.hold())
    assert site.held_ones() == [paused.label]
    assert site.guards["host-a"].disarmed[0] == paused.uuid
    assert a.guest_faults[0].fault.code == "guest-paused"
    held, let_go = site.journalled("host-a")
    assert set(held) == set(let_go)


def test_a_guest_that_does_not_confirm_that_it_runs_keeps_its_lease_and_its_hold_in_the_journal(site: Site) -> None:
    liar, honest = site.guests["host-a"]
    liar.lies_about_resume = True
    a, _ = results(site.hold())
    assert site.guards["host-a"].disarmed == [honest.uuid]
    assert site.journalled("host-a") == ([liar.uuid, honest.uuid], [honest.uuid])
    assert a.proof is not None
    cut = {guest.guest_uuid: guest.cut_short for guest in a.proof.guests}
    assert cut == {liar.uuid: "the thaw guard let it go", honest.uuid: None}
    assert a.guest_faults[0].fault.code == "still-held"


@pytest.mark.parametrize("how", ["it was let go", "the guard is gone"])
def test_nothing_is_claimed_for_a_lease_that_did_not_stand(site: Site, how: str) -> None:
    guard = site.guards["host-a"]
    if how == "it was let go":
        guard.stood = False
    else:
        site.guests["host-b"][0].suspending.clear()
        threading.Thread(target=_lose_guard, args=(site,), daemon=True).start()
    proof = proof_of(results(site.hold()))
    assert consistency(proof) is Consistency.CRASH
    assert site.held_ones() == []


def _lose_guard(site: Site) -> None:
    while not all(fake.has_backup for fake in site.guests["host-a"]):
        time.sleep(0.001)
    site.guards["host-a"].is_there = False
    site.guests["host-b"][0].suspending.set()


@pytest.mark.case("G4")
@pytest.mark.parametrize("everyone", [True, False], ids=["all or nothing", "degrade"])
def test_a_guest_whose_suspend_hangs_is_given_up_and_the_others_go_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, everyone: bool
) -> None:
    """Its QEMU is suspended, or waits for its storage: the step ends, the guard keeps that guest's lease, and no other's."""
    monkeypatch.setattr(window, "GIVE_UP_S", 0.1)
    hanging, other = site.guests["host-a"]
    hanging.suspending.clear()
    a, b = results(site.hold(hold_timeout_s=1.0, all_or_nothing=everyone))
    assert site.guards["host-a"].disarmed == [other.uuid]
    assert site.journalled("host-a")[1] == [other.uuid]
    assert "guest-hangs" in {one.fault.code for one in a.guest_faults if one.guest_uuid == hanging.uuid}
    assert a.proof is not None
    assert b.proof is not None
    if everyone:
        assert a.proof.woken_ns is None
    else:
        kept = {guest.guest_uuid for one in (a, b) if one.proof for guest in one.proof.guests if guest.begun_ns}
        assert kept == {other.uuid, *(fake.uuid for fake in site.guests["host-b"])}
        assert a.proof.woken_ns is not None
    host = site.hosts["host-a"]
    calls = host.calls
    assert calls.is_hanging(f"{hanging.uuid} hold")
    (left,) = undo_capture(host, host.journal.of(CAPTURE), sealed=())
    assert hanging.uuid in left  # its backup may still begin; the other guest is released
    assert (host.claims.holder(hanging.uuid), host.claims.holder(other.uuid)) == (CAPTURE, None)
    hanging.suspending.set()
    while calls.is_hanging(f"{hanging.uuid} hold"):
        time.sleep(0.001)
    assert site.held_ones() == []  # what took effect late was taken back


@pytest.mark.case("G4")
def test_a_guest_whose_suspend_ends_late_is_disarmed_late_and_by_itself(site: Site) -> None:
    """It took effect after all others were let go, and was taken back within the bound: nothing is left to the guard."""
    late, other = site.guests["host-a"]
    late.suspending.clear()

    def end() -> None:
        while site.guards["host-a"].disarmed != [other.uuid]:
            time.sleep(0.001)
        late.suspending.set()

    threading.Thread(target=end, daemon=True).start()
    a, _ = results(site.hold(hold_timeout_s=1.0))
    assert site.guards["host-a"].disarmed == [other.uuid, late.uuid]
    assert site.held_ones() == []
    assert set(site.journalled("host-a")[1]) == {late.uuid, other.uuid}
    assert "guest-hangs" not in {one.fault.code for one in a.guest_faults}
    assert a.proof is not None
    cut = {guest.guest_uuid: guest.cut_short for guest in a.proof.guests}
    assert cut[late.uuid] == "it was paused, and ran before it was resumed"


@pytest.mark.case("G4")
def test_a_guest_with_a_call_of_an_earlier_hold_that_hangs_is_not_touched(site: Site) -> None:
    hanging, back = site.guests["host-a"][0], threading.Event()
    calls = site.hosts["host-a"].calls
    calls.give_up(f"{hanging.uuid} hold", calls.start(f"{hanging.uuid} hold", back.wait))
    began = time.monotonic()
    a, b = results(site.hold(all_or_nothing=False, hold_timeout_s=120.0))
    assert time.monotonic() - began < 60.0  # the others were not held for its sake
    back.set()
    assert hanging.log == []
    assert [(one.guest_uuid, one.fault.code) for one in a.guest_faults] == [(hanging.uuid, "guest-hangs")]
    for one in (a, b):
        assert one.proof is not None
        assert one.proof.woken_ns is not None


@pytest.mark.case("G4")
def test_a_guest_that_hangs_while_it_is_made_ready_is_left_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, back, real = site.guests["host-a"][0], threading.Event(), site.domain

    def hangs(uuid: str) -> Domain:
        if uuid == hanging.uuid:
            back.wait()
        return real(uuid)

    monkeypatch.setattr(held_guest, "READY_S", 0.1)
    monkeypatch.setattr(site, "domain", hangs)
    a, b = results(site.hold(all_or_nothing=False))
    back.set()
    assert [(one.guest_uuid, one.fault.code) for one in a.guest_faults] == [(hanging.uuid, "guest-hangs")]
    assert b.proof is not None
    assert b.proof.woken_ns is not None
    assert hanging.log == []


@pytest.mark.case("G3")
@pytest.mark.parametrize("everyone", [True, False], ids=["all or nothing", "degrade"])
def test_a_guest_that_was_too_slow_is_refused_by_name_before_anybody_is_held(site: Site, *, everyone: bool) -> None:
    slow = site.guests["host-a"][0]
    site.hosts["host-a"].paces.remember_too_slow(slow.uuid, HOLD_S * 1000)
    answers = site.hold(hold=FREEZE, all_or_nothing=everyone)
    a, b = answers["host-a"], answers["host-b"]
    assert slow.log == []
    if everyone:
        assert not isinstance(a, HoldResult)
        assert slow.label in str(a)
        assert isinstance(b, step.MusterError)
        assert [fake.log for fake in site.fakes.values()] == [[], [], [], []]
    else:
        assert isinstance(a, HoldResult)
        assert [(one.guest_uuid, one.fault.code) for one in a.guest_faults] == [(slow.uuid, "slow-freeze")]
        assert isinstance(b, HoldResult)
        assert b.proof is not None
        assert b.proof.woken_ns is not None


@pytest.mark.case("G3")
@pytest.mark.parametrize("hold", [PAUSE, FREEZE])
def test_a_guest_that_was_too_slow_is_held_by_a_pause_or_in_a_longer_time(site: Site, hold: GuestHold) -> None:
    site.hosts["host-a"].paces.remember_too_slow(site.guests["host-a"][0].uuid, 2000)
    longer = HOLD_S if hold is FREEZE else 1.0
    assert consistency(proof_of(results(site.hold(hold=hold, hold_timeout_s=longer)))) is Consistency.GROUP


def test_a_redis_that_does_not_tell_its_time_costs_no_guest_a_hold(site: Site) -> None:
    away = BusSettings.model_validate({"redis_url": "redis://127.0.0.1:1/0"})
    object.__setattr__(site.hosts["host-a"], "bus", away)
    with pytest.raises(step.MusterError, match="Connection refused"):
        step.hold(site.hosts["host-a"], site.order("host-a", muster_timeout_s=0.01))
    assert site.held_ones() == []
    held, let_go = site.journalled("host-a")
    assert held == let_go


def test_a_redis_that_is_away_after_the_hold_costs_the_proof_nothing_else(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: redis.Redis) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(step, "read_clock", away)
    for held in results(site.hold()):
        assert held.fault is None
        assert held.proof is not None
        assert held.proof.clock_before is not None
        assert held.proof.clock_after is None
    assert site.held_ones() == []


@pytest.mark.case("S3")
@pytest.mark.parametrize(
    "raised",
    [
        lambda: redis.ReadOnlyError("You can't write against a read only replica."),
        lambda: GateUnreachableError(
            "the deadline passed", redis.OutOfMemoryError("command not allowed when used memory")
        ),
    ],
)
def test_a_redis_that_refuses_the_barrier_is_told_in_its_words_and_the_proof_is_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch, raised: Callable[[], Exception]
) -> None:
    meet = Gate.meet

    def refused(gate: Gate, deadline: float, visit: str = "") -> None:
        if gate._key.endswith("held"):
            raise raised()
        meet(gate, deadline, visit)

    monkeypatch.setattr(Gate, "meet", refused)
    for held in results(site.hold()):
        assert held.fault is not None
        assert held.fault.code == "barrier"
        assert "read only replica" in held.fault.message or "used memory" in held.fault.message
        assert held.proof is not None
        assert all(guest.thawed_ns for guest in held.proof.guests)
    assert site.held_ones() == []


@pytest.mark.case("G3")
def test_a_freeze_that_did_not_end_in_time_is_told_and_remembered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = site.guests["host-a"][0]

    def never(fake: HeldFake) -> str:
        if fake is slow:
            raise SlowFreezeError(NamedGuest(fake.label, fake.uuid), HOLD_S)
        fake.frozen = True
        return '{"return": 2}'

    monkeypatch.setattr(HeldFake, "_freeze", never)
    a, _ = results(site.hold(hold=FREEZE))
    assert [(one.guest_uuid, one.fault.code) for one in a.guest_faults] == [(slow.uuid, "slow-freeze")]
    remembered = site.hosts["host-a"].paces.too_slow(slow.uuid)
    assert remembered is not None
    assert remembered.ms == HOLD_S * 1000
    assert site.hosts["host-a"].paces.too_slow(site.guests["host-a"][1].uuid) is None


@pytest.mark.case("G3")
def test_a_freeze_that_libvirt_told_of_too_late_is_not_remembered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest would be refused for a week because its host stood still for a moment."""

    def late(fake: HeldFake) -> str:
        raise LateFreezeError(NamedGuest(fake.label, fake.uuid), HOLD_S + 5.0, HOLD_S)

    monkeypatch.setattr(HeldFake, "_freeze", late)
    a, _ = results(site.hold(hold=FREEZE))
    assert {one.fault.code for one in a.guest_faults} == {"late-freeze"}
    assert all(site.hosts["host-a"].paces.too_slow(fake.uuid) is None for fake in site.guests["host-a"])


def test_a_disk_that_is_full_after_the_hold_costs_no_proof(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    record = CaptureJournal.record

    def full(journal: CaptureJournal, change: Any) -> None:
        if isinstance(change, LetGoChange):
            raise OSError(28, "No space left on device")
        record(journal, change)

    monkeypatch.setattr(CaptureJournal, "record", full)
    assert consistency(proof_of(results(site.hold()))) is Consistency.GROUP


MANY = 200


def test_two_hundred_guests_cost_a_bounded_number_of_threads_and_connections(
    tmp_path: Path, bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two connections and two threads a guest while they are held; of the threads fewer stay for the next hold."""
    fakes = {fake.uuid: fake for fake in map(held_fake, range(MANY))}
    lent: list[str] = []

    def lend(_: Hypervisor, uuid: str) -> Domain:
        lent.append(uuid)
        return fakes[uuid].domain()

    guard = FakeGuard()
    give_each_guest_a_qemu(tmp_path, monkeypatch)
    monkeypatch.setattr(Hypervisor, "domain", lend)
    monkeypatch.setattr(step, "GuardLine", guard.line)
    host = host_of(tmp_path / "host-a", "host-a", bus_settings)
    prepare(host, list(fakes.values()))
    order = HoldOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(hours=1),
        repository_id=REPOSITORY,
        members=1,
        guests=tuple(GuestToHold(guest_uuid=uuid, hold=PAUSE) for uuid in fakes),
        muster_timeout_s=60,
        hold_timeout_s=60,
        all_or_nothing=True,
    )
    result = step.hold(host, order)
    assert result.guest_faults == ()
    assert sorted(guard.disarmed) == sorted(fakes)
    assert len(lent) == 2 * MANY
    assert host.calls.threads <= bounded.IDLE_THREADS < 2 * MANY
    host.redis.close()
