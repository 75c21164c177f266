"""A guest that leaves its host while it is held: told, and let go where its memory goes on, whoever has died meanwhile."""

from __future__ import annotations

import contextlib
import errno
import shlex
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Never, cast

import libvirt
import libvirt_qemu
import pytest
import redis

from freezeframe.contract import names
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.left_held import LOOKED_FOR, LeftHeld
from freezeframe.contract.words import HoldKind
from freezeframe.settings import BusSettings
from tests.unit.workers.guard_site import GuardInThread, until
from tests.unit.workers.hold_site import CAPTURE, Site, host_of, prepare, results
from tests.unit.workers.test_guest_in_hold import deadline, guest_of
from workers import left_held, recovery
from workers.changes import left_held as left_by
from workers.guard.lease import LeasedGuest, LeaseFiles, StoredLease
from workers.guard.table import SETTLE_S
from workers.host import Host
from workers.hypervisor import agent
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain, Presence
from workers.hypervisor.errors import GuestGoneError, HypervisorError
from workers.hypervisor.fake_guest import libvirt_error
from workers.hypervisor.fake_held_guest import HeldFake, agent_command, held_fake
from workers.journal import (
    CaptureJournal,
    ClaimChange,
    HoldChange,
    JournalUnreadableError,
    LeftChange,
    LetGoChange,
    ScratchChange,
    ThawPendingChange,
)
from workers.steps.guest_in_hold import Phase
from workers.steps.undo import undo_capture

pytestmark = pytest.mark.case("G6", "S4")

MIGRATED, SAVED = libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED, libvirt.VIR_DOMAIN_SHUTOFF_SAVED
HOLDS = [HoldKind.FREEZE, HoldKind.PAUSE, HoldKind.FREEZE_PAUSE]
OTHER_CAPTURE = "01KBBBBBBBBBBBBBBBBBBBBBBB"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> HeldFake:
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
    return held_fake(1)


@pytest.mark.parametrize("reason", [MIGRATED, SAVED])
@pytest.mark.parametrize("kind", HOLDS)
def test_a_guest_that_leaves_as_it_is_held_is_told_with_a_command_that_lets_it_go(
    fake: HeldFake, kind: HoldKind, reason: int
) -> None:
    fake.leaves = reason
    guest = guest_of(fake, kind)
    guest.take(deadline())
    guest.release()
    assert guest.phase is Phase.GOING
    assert not guest.is_settled()  # the guard keeps its lease, and the journal the hold
    fault = guest.faults[0]
    assert fault.code == "guest-left-held"
    assert "guest-1" in fault.message
    assert shlex.split(fault.hint.split("`")[1]) == ["freezeframe", "thaw", fake.uuid]
    assert [one.code for one in guest.faults].count("guest-left-held") == 1


@pytest.mark.parametrize("kind", HOLDS)
def test_a_guest_that_is_forced_off_as_it_is_held_has_not_left(fake: HeldFake, kind: HoldKind) -> None:
    fake.leaves = libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED
    guest = guest_of(fake, kind)
    guest.take(deadline())
    assert "guest-left-held" not in [one.code for one in guest.faults]
    assert guest.faults


@pytest.mark.parametrize("reason", [MIGRATED, SAVED])
@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
def test_the_capture_tells_that_a_guest_has_left_and_not_that_it_runs_in_another_qemu(
    site: Site, reason: int, *, everyone: bool
) -> None:
    fake = site.guests["host-a"][0]
    fake.leaves = reason
    tell = fake.XMLDesc

    def desc(flags: int = 0) -> str:  # libvirt's number of a guest's start goes when it is off
        return tell(flags) if fake.off is None else tell(flags).replace("<domain ", "<domain id='8' ")

    fake.XMLDesc = desc  # type: ignore[method-assign]
    held = results(site.hold(hold=GuestHold(kind=HoldKind.FREEZE), all_or_nothing=everyone))
    (fault,) = held[0].guest_faults
    assert (fault.guest_uuid, fault.fault.code) == (fake.uuid, "guest-left-held")
    assert fake.uuid not in site.journalled("host-a")[1]


class Moved:
    """A guest that was held on host-a when it left; `there` is where it goes on, if that is host-b."""

    def __init__(self, directory: Path, settings: BusSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.a, self.b = (host_of(directory / host, host, settings) for host in ("host-a", "host-b"))
        self.fakes: dict[int, HeldFake] = {}
        self.uuid = held_fake(1).uuid
        self.journal = self.a.journal.of(CAPTURE)

        def domain(hypervisor: Hypervisor, uuid: str) -> Domain:
            found = self.fakes.get(id(hypervisor))
            if found is None or found.uuid != uuid:
                raise GuestGoneError(f"There is no guest {uuid}.")
            return found.domain()

        monkeypatch.setattr(Hypervisor, "domain", domain)
        monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
        prepare(self.a, [held_fake(1)])
        self.journal.record(ClaimChange(guest_uuid=self.uuid))

    def held(self, kind: HoldKind) -> None:
        """The worker has held the guest and has not let it go; the guard's lease is there."""
        self.kind = kind
        self.journal.record(HoldChange(guest_uuid=self.uuid, hold=kind))
        LeaseFiles(self.a.settings.state_dir).add(
            StoredLease(
                capture_id=CAPTURE,
                guests=(LeasedGuest(guest_uuid=self.uuid, hold=kind),),
                deadline_s=0.0,
                boot_id=self.uuid,
            )
        )

    def noted(self) -> None:
        """The guard has noted that it has left, and has retired its lease."""
        left_held.note(self.a.hypervisor, self.journal, self.uuid)
        LeaseFiles(self.a.settings.state_dir).remove(CAPTURE)

    def on(self, host: Host, *, off: int | None = None) -> HeldFake:
        """It is known to this host, as it was held."""
        made = self.fakes[id(host.hypervisor)] = held_fake(1)
        made.frozen, made.off = self.kind.freezes, off
        if self.kind.pauses:
            made.state_code = libvirt.VIR_DOMAIN_PAUSED
        return made

    def is_open(self) -> bool:
        return left_by(self.journal.guest(self.uuid).read().changes) is not None

    def notes(self) -> dict[str, LeftHeld]:
        found = cast("dict[str, str]", self.a.redis.hgetall(names.LEFT_HELD_KEY))
        return {field: LeftHeld.model_validate_json(text) for field, text in found.items()}

    def look_twice(self) -> None:
        for host in (self.a, self.b, self.a):
            left_held.look(host)


@pytest.fixture
def moved(tmp_path: Path, bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moved]:
    made = Moved(tmp_path, bus_settings, monkeypatch)
    made.a.redis.delete(names.LEFT_HELD_KEY)
    yield made
    for host in (made.a, made.b):
        host.redis.close()


@pytest.mark.parametrize("kept", [True, False], ids=["left there shut off", "gone from its old host"])
@pytest.mark.parametrize("kind", HOLDS)
def test_a_guest_that_migrated_held_is_let_go_on_its_new_host_and_the_journal_ends(
    moved: Moved, kind: HoldKind, *, kept: bool
) -> None:
    moved.held(kind)
    if kept:
        moved.on(moved.a, off=MIGRATED)
    there = moved.on(moved.b)
    moved.noted()
    moved.look_twice()
    assert (there.frozen, there.paused) == (False, False)
    assert not moved.is_open()
    assert moved.notes() == {}
    assert undo_capture(moved.a, moved.journal, sealed=()) == []
    assert moved.journal.ended


@pytest.mark.parametrize("kind", HOLDS)
def test_each_recovery_looks_for_guests_that_have_come_to_its_host(moved: Moved, kind: HoldKind) -> None:
    moved.held(kind)
    there = moved.on(moved.b)
    moved.noted()
    for host in (moved.a, moved.b):  # which tells of it, and which has it
        recovery.recover(host)
    assert (there.frozen, there.paused) == (False, False)


@pytest.mark.parametrize("kind", HOLDS)
def test_an_undo_does_not_note_a_guest_as_left_held_that_the_guard_has_let_go(moved: Moved, kind: HoldKind) -> None:
    """Its lease is retired, and the worker died before it could write that down: a freeze of others would be ended."""
    moved.held(kind)
    LeaseFiles(moved.a.settings.state_dir).remove(CAPTURE)
    assert undo_capture(moved.a, moved.journal, sealed=()) == []
    assert not moved.is_open()


@pytest.mark.parametrize("kind", HOLDS)
def test_a_guest_that_left_held_is_let_go_as_it_was_held_by_the_undo_that_finds_it_back(
    moved: Moved, kind: HoldKind
) -> None:
    """All else is undone before: of a guest that has not left, a pause has ended by then."""
    moved.held(kind)
    moved.noted()
    assert undo_capture(moved.a, moved.journal, sealed=())
    assert ThawPendingChange in {type(one) for one in moved.journal.guest(moved.uuid).read().changes}
    here = moved.on(moved.a)
    assert undo_capture(moved.a, moved.journal, sealed=()) == []
    assert (here.frozen, here.paused) == (False, False)
    assert moved.journal.ended


@pytest.mark.parametrize("noted", [True, False], ids=["noted by the guard", "worker and guard are dead"])
@pytest.mark.parametrize("kind", HOLDS)
def test_the_journal_stays_open_until_the_guest_is_let_go_somewhere(
    moved: Moved, kind: HoldKind, *, noted: bool
) -> None:
    moved.held(kind)
    if noted:
        moved.noted()
    for _ in range(2):
        (told,) = undo_capture(moved.a, moved.journal, sealed=())
        assert moved.uuid in told
        assert f"`freezeframe thaw {moved.uuid}`" in told
        assert not moved.journal.ended
    there = moved.on(moved.b)
    moved.look_twice()
    assert (there.frozen, there.paused) == (False, False)
    assert undo_capture(moved.a, moved.journal, sealed=()) == []
    assert moved.journal.ended
    assert moved.a.claims.holder(moved.uuid) is None


@pytest.mark.parametrize("managed", [True, False], ids=["managed save", "save to a file"])
@pytest.mark.parametrize("kind", HOLDS)
def test_a_guest_that_was_saved_held_is_let_go_when_it_is_started_again(
    moved: Moved, kind: HoldKind, *, managed: bool
) -> None:
    moved.held(kind)
    here = moved.on(moved.a, off=SAVED)
    here.saved = managed
    moved.noted()
    left_held.look(moved.a)
    assert moved.is_open()
    here.off = libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN  # libvirtd was started again meanwhile
    left_held.look(moved.a)
    assert moved.is_open()
    here.off, here.saved = None, False
    left_held.look(moved.a)
    assert (here.frozen, here.paused) == (False, False)
    assert not moved.is_open()


def test_a_saved_state_is_known_after_libvirtd_was_started_again_and_stays_longer_than_a_week(moved: Moved) -> None:
    moved.held(HoldKind.FREEZE)
    here = moved.on(moved.a, off=libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN)
    here.saved = True
    moved.noted()
    assert moved.is_open()
    moved.journal.guest(moved.uuid)._changes.unlink()
    moved.journal.record(HoldChange(guest_uuid=moved.uuid, hold=HoldKind.FREEZE))
    moved.journal.record(LeftChange(guest_uuid=moved.uuid, at=datetime.now(UTC) - 2 * LOOKED_FOR))
    left_held.look(moved.a)
    assert moved.is_open()
    here.off, here.saved = None, False
    left_held.look(moved.a)
    assert here.log == ["thaw"]


def test_a_guest_that_comes_back_and_is_not_held_any_more_has_no_hook_called(moved: Moved) -> None:
    moved.held(HoldKind.FREEZE)
    moved.noted()
    here = moved.on(moved.a)
    here.frozen = False
    left_held.look(moved.a)
    assert here.log == []
    assert not moved.is_open()


def test_a_guest_that_was_saved_and_then_shut_down_is_held_by_nobody(moved: Moved) -> None:
    moved.held(HoldKind.FREEZE)
    moved.on(moved.a, off=SAVED)
    moved.noted()
    moved.on(moved.a, off=libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
    left_held.look(moved.a)
    assert not moved.is_open()


@pytest.mark.parametrize(
    "reason",
    [
        libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN,
        libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED,
        libvirt.VIR_DOMAIN_SHUTOFF_CRASHED,
        libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN,
    ],
)
def test_a_guest_that_ended_in_its_hold_leaves_nothing_open(moved: Moved, reason: int) -> None:
    moved.held(HoldKind.FREEZE)
    moved.on(moved.a, off=reason)
    moved.noted()
    assert not moved.is_open()
    assert undo_capture(moved.a, moved.journal, sealed=()) == []


def test_a_guest_that_is_still_arriving_is_not_touched(moved: Moved) -> None:
    moved.held(HoldKind.PAUSE)
    there = moved.on(moved.b)
    there.operation = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN
    moved.noted()
    moved.look_twice()
    assert there.log == []
    there.operation = None
    moved.look_twice()
    assert there.log == ["resume"]


def test_a_guest_that_another_capture_has_in_hand_on_its_new_host_is_left_to_that(moved: Moved) -> None:
    moved.held(HoldKind.FREEZE)
    there = moved.on(moved.b)
    moved.b.claims.take(moved.uuid, OTHER_CAPTURE)
    moved.noted()
    moved.look_twice()
    assert there.log == []
    moved.b.claims.drop(moved.uuid, OTHER_CAPTURE)
    moved.look_twice()
    assert there.log == ["thaw"]


def test_a_guest_that_says_it_is_still_frozen_is_not_told_as_let_go(
    moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved.held(HoldKind.FREEZE)
    there = moved.on(moved.b)
    moved.noted()
    with monkeypatch.context() as patch:
        patch.setattr("workers.hypervisor.agent.thaw", lambda *_: 0)
        moved.look_twice()
    assert moved.is_open()
    assert there.log == []
    moved.look_twice()
    assert there.log == ["thaw"]
    assert not moved.is_open()


def test_the_note_goes_when_an_undo_has_found_the_guest_here_again_so_that_no_freeze_of_others_ends(
    moved: Moved,
) -> None:
    moved.held(HoldKind.FREEZE)
    moved.noted()
    left_held.look(moved.a)
    assert len(moved.notes()) == 1
    moved.journal.record(LetGoChange(guest_uuid=moved.uuid))
    left_held.look(moved.a)
    assert moved.notes() == {}
    there = moved.on(moved.b)
    left_held.look(moved.b)
    assert there.log == []


def test_notes_that_are_newer_are_left_and_do_not_keep_others_from_being_read(moved: Moved) -> None:
    moved.held(HoldKind.FREEZE)
    there = moved.on(moved.b)
    moved.noted()
    moved.a.redis.hset(names.LEFT_HELD_KEY, "newer", '{"v": 2}')
    moved.look_twice()
    assert not there.frozen
    assert moved.a.redis.hgetall(names.LEFT_HELD_KEY) == {"newer": '{"v": 2}'}


def test_a_guest_that_is_found_nowhere_is_looked_for_a_week(moved: Moved) -> None:
    moved.held(HoldKind.FREEZE)
    at = datetime.now(UTC) - LOOKED_FOR - timedelta(minutes=1)
    LeaseFiles(moved.a.settings.state_dir).remove(CAPTURE)
    moved.journal.record(LeftChange(guest_uuid=moved.uuid, at=at))
    old = LeftHeld(capture_id=CAPTURE, guest_uuid=moved.uuid, host_id="host-a", hold=HoldKind.FREEZE, at=at)
    field = names.left_held_field(CAPTURE, moved.uuid)
    moved.a.redis.hset(names.LEFT_HELD_KEY, field, old.model_dump_json())
    there = moved.on(moved.b)
    left_held.look(moved.b)
    assert there.log == []  # who froze it since then?
    left_held.look(moved.a)
    assert not moved.is_open()
    assert moved.notes() == {}


@pytest.mark.parametrize("kind", HOLDS)
def test_a_guest_whose_journal_cannot_be_read_is_not_taken_for_one_that_was_never_held(
    moved: Moved, kind: HoldKind
) -> None:
    moved.held(kind)
    moved.journal.guest(moved.uuid)._changes.write_text("damaged\n")
    with pytest.raises(JournalUnreadableError):
        left_held.note(moved.a.hypervisor, moved.journal, moved.uuid)


@pytest.mark.parametrize("trouble", ["the disk is full", "the journal cannot be read", "libvirt fails", "no thread"])
def test_the_guard_keeps_the_lease_of_a_guest_that_has_left_until_that_is_noted(
    guard: GuardInThread, fake: HeldFake, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    fake.frozen, fake.off = True, MIGRATED
    monkeypatch.setattr(Hypervisor, "domain", lambda *_: fake.domain())
    journal = guard.journal.of(CAPTURE)
    journal.record(HoldChange(guest_uuid=fake.uuid, hold=HoldKind.FREEZE))
    guard.store((LeasedGuest(guest_uuid=fake.uuid, hold=HoldKind.FREEZE),), deadline_s=-60.0)
    tries = []

    def fails(*_: object, **__: object) -> Never:
        tries.append(1)
        raise {
            "the disk is full": OSError(errno.ENOSPC, "No space left on device"),
            "the journal cannot be read": JournalUnreadableError("changes: line 1 is damaged."),
            "libvirt fails": HypervisorError("asking for the state: internal error"),
            "no thread": RuntimeError("can't start new thread"),
        }[trouble]

    def looked_at_twice() -> bool:
        guard.forward(SETTLE_S + 60)
        return len(tries) > 2 or not any(guard.leases.glob("*.json"))

    with monkeypatch.context() as patch:
        if trouble == "the disk is full":
            patch.setattr(CaptureJournal, "record", fails)
        elif trouble == "libvirt fails":
            patch.setattr(Domain, "presence", fails)
        else:
            patch.setattr(guard.guard.watch, "_gone", fails)
        guard.start()
        until(looked_at_twice)
        assert any(guard.leases.glob("*.json"))
    until(guard.retired)
    assert [one.change for one in journal.guest(fake.uuid).read().changes] == ["hold", "left"]


def test_the_guard_notes_that_a_guest_has_left_before_it_retires_the_lease(
    guard: GuardInThread, fake: HeldFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.frozen, fake.off = True, MIGRATED
    monkeypatch.setattr(Hypervisor, "domain", lambda *_: fake.domain())
    journal = guard.journal.of(CAPTURE)
    journal.record(HoldChange(guest_uuid=fake.uuid, hold=HoldKind.FREEZE))
    guard.store((LeasedGuest(guest_uuid=fake.uuid, hold=HoldKind.FREEZE),), deadline_s=-60.0)
    guard.start()
    guard.forward(SETTLE_S + 60)
    until(guard.retired)
    changes = journal.guest(fake.uuid).read().changes
    assert [one.change for one in changes] == ["hold", "left"]


def test_a_guest_that_was_seen_running_has_not_left_held(moved: Moved) -> None:
    moved.held(HoldKind.FREEZE)
    moved.journal.record(LetGoChange(guest_uuid=moved.uuid))
    moved.noted()
    assert not moved.is_open()


def refused(*_: object) -> int:
    raise redis.exceptions.ReadOnlyError("You can't write against a read only replica.")


def is_held_by_others(fake: HeldFake, kind: HoldKind) -> None:
    """An administrator suspends the guest, or freezes it."""
    fake.log.clear()
    fake.frozen = kind.freezes
    if kind.pauses:
        fake.state_code = libvirt.VIR_DOMAIN_PAUSED


@pytest.mark.parametrize("kind", HOLDS)
def test_a_guest_that_came_back_is_let_go_once_also_while_redis_takes_no_writes(
    moved: Moved, monkeypatch: pytest.MonkeyPatch, kind: HoldKind
) -> None:
    moved.held(kind)
    moved.noted()
    left_held.look(moved.a)
    here = moved.on(moved.a)
    with monkeypatch.context() as patch:
        patch.setattr(redis.Redis, "hdel", refused)
        for _ in range(2):
            with contextlib.suppress(redis.RedisError):
                left_held.look(moved.a)
            is_held_by_others(here, kind)
        assert not moved.is_open()
        assert len(moved.notes()) == 1
    left_held.look(moved.a)
    assert moved.notes() == {}
    assert here.log == []


@pytest.mark.parametrize("kind", HOLDS)
def test_a_guest_that_came_back_is_let_go_once_also_while_the_disk_is_full(
    moved: Moved, monkeypatch: pytest.MonkeyPatch, kind: HoldKind
) -> None:
    moved.held(kind)
    moved.noted()
    here = moved.on(moved.a)

    def full(*_: object) -> Never:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(CaptureJournal, "record", full)
        left_held.look(moved.a)
    assert here.log
    assert moved.is_open()
    is_held_by_others(here, kind)
    left_held.look(moved.a)
    assert here.log == []
    assert not moved.is_open()


@pytest.mark.parametrize("kind", HOLDS)
def test_a_guest_that_came_to_another_host_is_let_go_once_also_while_redis_takes_no_writes(
    moved: Moved, monkeypatch: pytest.MonkeyPatch, kind: HoldKind
) -> None:
    moved.held(kind)
    moved.noted()
    left_held.look(moved.a)
    there = moved.on(moved.b)
    with monkeypatch.context() as patch:
        patch.setattr(redis.Redis, "hset", refused)
        left_held.look(moved.b)
        assert there.log
        is_held_by_others(there, kind)
        left_held.look(moved.b)
    assert there.log == []
    left_held.look(moved.b)
    left_held.look(moved.a)
    assert there.log == []
    assert not moved.is_open()
    assert moved.notes() == {}


def test_a_note_that_cannot_be_taken_away_keeps_no_other_guest_held(
    moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved.held(HoldKind.FREEZE)
    moved.noted()
    old = LeftHeld(
        capture_id=OTHER_CAPTURE,
        guest_uuid=held_fake(2).uuid,
        host_id="host-a",
        hold=HoldKind.FREEZE,
        at=datetime.now(UTC) - 2 * LOOKED_FOR,
    )
    field = names.left_held_field(OTHER_CAPTURE, old.guest_uuid)
    moved.a.redis.hset(names.LEFT_HELD_KEY, field, old.model_dump_json())
    left = LeftHeld(
        capture_id=CAPTURE, guest_uuid=moved.uuid, host_id="host-a", hold=HoldKind.FREEZE, at=datetime.now(UTC)
    )
    moved.a.redis.hset(names.LEFT_HELD_KEY, names.left_held_field(CAPTURE, moved.uuid), left.model_dump_json())
    there = moved.on(moved.b)
    with monkeypatch.context() as patch:
        patch.setattr(redis.Redis, "hdel", refused)
        with pytest.raises(redis.RedisError):
            left_held.look(moved.b)
    assert there.log == ["thaw"]


def test_the_rounds_of_recovery_do_not_wait_for_guests_that_hang() -> None:
    """This host's own and others' are looked at one after the other, before all else."""
    assert 2 * left_held.PATIENCE_S <= recovery.LOOK_S


@pytest.mark.parametrize("call", ["state", "freeze_status"])
def test_a_guest_that_another_capture_took_while_a_call_hung_is_not_let_go(
    moved: Moved, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    moved.held(HoldKind.FREEZE if call == "freeze_status" else HoldKind.PAUSE)
    there = moved.on(moved.b)
    moved.noted()
    left_held.look(moved.a)
    owner = agent if call == "freeze_status" else Domain
    asked = getattr(owner, call)

    def late(*args: Any) -> Any:
        answer = asked(*args)
        moved.b.claims.take(moved.uuid, OTHER_CAPTURE)
        return answer

    monkeypatch.setattr(owner, call, late)
    left_held.look(moved.b)
    assert there.log == []
    assert len(moved.notes()) == 1


STARTED = [
    (
        libvirt.VIR_DOMAIN_PAUSED,
        libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
    ),  # the number of a shut off guest that was destroyed
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED),  # that has crashed
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED),  # that was shut down
]


@pytest.mark.parametrize(("state", "reason"), STARTED)
def test_a_guest_that_is_started_as_it_is_asked_for_is_here(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch, state: int, reason: int
) -> None:
    fake.off = SAVED
    monkeypatch.setattr(fake, "state", lambda: [state, reason])
    assert fake.domain().presence() is Presence.HERE


@pytest.mark.parametrize("trouble", ["the disk is full", "libvirt fails"])
def test_the_scratch_files_of_a_guest_that_has_left_go_also_if_that_cannot_be_noted(
    moved: Moved, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    moved.held(HoldKind.FREEZE)
    scratch = moved.a.scratch_file(CAPTURE, moved.uuid, "vda")
    scratch.parent.mkdir(parents=True, exist_ok=True)
    scratch.touch()
    moved.journal.record(ScratchChange(guest_uuid=moved.uuid, path=scratch))

    def fails(*_: object) -> Never:
        if trouble == "the disk is full":
            raise OSError(errno.ENOSPC, "No space left on device")
        raise HypervisorError("asking for the state: internal error")

    with monkeypatch.context() as patch:
        patch.setattr(left_held, "note", fails)
        (told,) = undo_capture(moved.a, moved.journal, sealed=())
    assert moved.uuid in told
    assert not scratch.exists()
    assert undo_capture(moved.a, moved.journal, sealed=())
    assert moved.is_open()


def test_a_paused_guest_is_not_called_running_while_nobody_knows_whether_it_has_left(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that is shut off, saved as it was paused, is not paused; whether it was saved libvirt does not say."""
    guest = guest_of(fake, HoldKind.PAUSE)
    guest.take(deadline())
    fake.off, fake.saved = libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, True

    def fails() -> Never:
        raise libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "no")

    with monkeypatch.context() as patch:
        patch.setattr(fake, "hasManagedSaveImage", fails)
        guest.release()
    assert not guest.is_settled()
    assert guest.phase is Phase.GOING
    assert guest.faults
    guest.release()
    assert guest.faults[0].code == "guest-left-held"


@pytest.mark.parametrize("kind", [HoldKind.FREEZE, HoldKind.FREEZE_PAUSE])
def test_a_guest_whose_agent_says_that_it_is_thawed_runs_here_also_if_libvirt_fails_then(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch, kind: HoldKind
) -> None:
    guest = guest_of(fake, kind)
    guest.take(deadline())

    def fails(_: Domain) -> Never:
        raise HypervisorError("asking for the state: internal error")

    monkeypatch.setattr(Domain, "presence", fails)
    guest.release()
    assert guest.is_settled()
    assert guest.faults == []


def test_an_undo_that_cannot_read_that_a_guest_has_left_does_not_call_it_let_go(moved: Moved) -> None:
    moved.held(HoldKind.FREEZE)
    moved.on(moved.a, off=MIGRATED)
    moved.noted()
    path = moved.journal.guest(moved.uuid)._changes
    written = path.read_text()
    path.write_text(written.replace('"left"', '"damaged"'))
    assert path.read_text() != written
    assert undo_capture(moved.a, moved.journal, sealed=())
    assert LetGoChange not in {type(one) for one in moved.journal.guest(moved.uuid).read().changes}


def test_a_guest_that_hangs_is_let_go_by_the_look_that_began_it_and_asked_by_no_other(
    moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved.held(HoldKind.FREEZE)
    there = moved.on(moved.b)
    moved.noted()
    left_held.look(moved.a)
    goes_on, asked = threading.Event(), []
    ask = agent.freeze_status

    def hangs(domain: Domain, timeout_s: int) -> str:
        asked.append(domain.uuid)
        assert goes_on.wait(30)
        return ask(domain, timeout_s)

    monkeypatch.setattr(left_held, "PATIENCE_S", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(agent, "freeze_status", hangs)
        for _ in range(3):
            left_held.look(moved.b)
        assert asked == [moved.uuid]
        goes_on.set()
        until(lambda: any(note.let_go_by for note in moved.notes().values()))
    assert there.log == ["thaw"]
