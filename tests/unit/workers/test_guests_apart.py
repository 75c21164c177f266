"""One guest that hangs, fails or cannot be read keeps no other guest of its capture from being undone or prepared."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import PrepareOrder, ReleaseOrder
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.result import PreparedGuest
from freezeframe.contract.words import HoldKind, Method, Step
from workers import journal as journals
from workers.bounded import GuestHangsError
from workers.host import Host
from workers.hypervisor import backup
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError
from workers.journal import BackupChange, CaptureJournal, ClaimChange, HoldChange, Journal, LetGoChange
from workers.steps import prepare, prepare_guests, release, undo
from workers.steps.prepare_guests import prepare_each
from workers.steps.release import release as release_step

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
A, B, C = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "abc")


class Guests:
    """Three guests of the test driver, each with a backup of this capture, which one of them does not end."""

    def __init__(self, host: Host) -> None:
        self.ended: list[str] = []
        self.hang = threading.Event()  # what a guest in `hanging` waits for
        self.hanging: set[str] = set()
        self.failing: set[str] = set()
        self.journal = host.journal.of(CAPTURE)
        self._host = host
        for uuid in (A, B, C):
            host.hypervisor.define(
                f"<domain type='test'><name>{uuid[-1]}</name><uuid>{uuid}</uuid><memory>1</memory>"
                "<os><type>hvm</type></os></domain>"
            ).start()
            host.claims.take(uuid, CAPTURE)
            self.journal.record(ClaimChange(guest_uuid=uuid))
            socket = Path(f"/run/{uuid}")
            self.journal.record(BackupChange(guest_uuid=uuid, socket=socket, checkpoint=None, repository_id="r"))

    def end(self, domain: Domain, socket: Path) -> bool:
        assert socket == Path(f"/run/{domain.uuid}")
        if domain.uuid in self.hanging:
            self.hang.wait()
        if domain.uuid in self.failing:
            raise HypervisorError("QEMU says no.")
        self.ended.append(domain.uuid)
        return True

    def claimed(self) -> set[str]:
        return {uuid for uuid in (A, B, C) if self._host.claims.holder(uuid) == CAPTURE}


@pytest.fixture
def guests(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guests]:
    made = Guests(host)
    monkeypatch.setattr(backup, "end", made.end)
    monkeypatch.setattr(undo, "PATIENCE_S", 0.5)
    monkeypatch.setattr(release, "STEP_PATIENCE_S", 0.1)
    yield made
    made.hang.set()
    for uuid in (A, B, C):
        host.hypervisor.domain(uuid).handle.destroy()
        host.hypervisor.domain(uuid).handle.undefine()


def order(sealed: tuple[str, ...] = ()) -> ReleaseOrder:
    later = datetime.now(UTC) + timedelta(minutes=1)
    return ReleaseOrder(capture_id=CAPTURE, epoch=1, host_id="host-a", not_after=later, sealed_guests=sealed)


@pytest.mark.case("G4")
def test_a_release_ends_the_backups_of_all_guests_but_the_one_that_hangs(host: Host, guests: Guests) -> None:
    guests.hanging = {A}
    result = release_step(host, order())
    assert set(guests.ended) == {B, C}
    assert guests.claimed() == {A}
    assert [A in warning for warning in result.warnings] == [True]
    assert not guests.journal.ended


@pytest.mark.case("G4")
def test_what_hung_does_the_rest_when_its_call_returns_and_recovery_ends_the_journal(
    host: Host, guests: Guests
) -> None:
    guests.hanging = {A}
    release_step(host, order())
    [warning] = release_step(host, order()).warnings  # while it still hangs: at once, without a second thread
    assert A in warning
    guests.hang.set()
    with guests.journal.guest(A).lock(30.0):
        pass
    assert (set(guests.ended), guests.claimed()) == ({A, B, C}, set())
    assert release_step(host, order()).warnings == ()
    assert guests.journal.ended


@pytest.mark.case("S5")
@pytest.mark.parametrize("trouble", ["fails", "unreadable", "newer"])
def test_a_guest_in_trouble_stays_open_and_the_others_are_undone(host: Host, guests: Guests, trouble: str) -> None:
    changes = host.settings.state_dir / "captures" / CAPTURE / A / "changes"
    if trouble == "fails":
        guests.failing = {A}
    elif trouble == "unreadable":
        changes.unlink()
        changes.mkdir()
    else:
        changes.write_text(changes.read_text() + f'{{"v":99,"change":"melt","guest_uuid":"{A}"}}\n')
    [warning] = release_step(host, order()).warnings
    assert A in warning
    if trouble != "fails":
        assert str(changes) in warning
    assert {B, C} <= set(guests.ended)
    assert guests.claimed() == {A}
    assert not guests.journal.ended


def test_a_guest_that_cannot_be_undone_is_tried_once_in_a_release(
    host: Host, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The orchestrator waits for the answer; recovery tries again every few seconds."""
    tried: list[str] = []

    def fails(domain: Domain, _socket: Path) -> bool:
        tried.append(domain.uuid)
        raise HypervisorError("QEMU says no.")

    monkeypatch.setattr(backup, "end", fails)
    assert len(release_step(host, order()).warnings) == 3
    assert sorted(tried) == [A, B, C]


@pytest.mark.parametrize("full", [False, True])
def test_a_release_forgets_old_captures_and_is_none_the_worse_if_it_cannot(
    host: Host, guests: Guests, monkeypatch: pytest.MonkeyPatch, *, full: bool
) -> None:
    def trouble(_: Journal) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(journals, "KEPT", 1)
    older = host.journal.of("01J" + CAPTURE[3:])
    older.end()
    with monkeypatch.context() as patch:
        if full:
            patch.setattr(Journal, "prune", trouble)
        assert release_step(host, order()).warnings == ()
    assert [journal.capture_id for journal in host.journal.all()] == [*([older.capture_id] if full else []), CAPTURE]


def test_what_is_understood_of_a_guest_is_undone_although_a_line_is_not(host: Host, guests: Guests) -> None:
    """A backup that nobody ends fills the scratch files; that cannot wait for another version."""
    changes = host.settings.state_dir / "captures" / CAPTURE / A / "changes"
    changes.write_text(changes.read_text() + f'{{"change":"melt","guest_uuid":"{A}"}}\n')
    release_step(host, order())
    assert A in guests.ended


def test_a_release_does_not_wait_for_ever_for_a_step_and_undoes_the_guests_that_no_step_has(
    host: Host, guests: Guests
) -> None:
    with guests.journal.lock(Step.HOLD, ""), guests.journal.guest(A).lock():
        result = release_step(host, order())
        assert set(guests.ended) == {B, C}
        assert "still at work" in " ".join(result.warnings)
        assert not guests.journal.ended  # what the step did after us is undone when it has ended
    assert release_step(host, order()).warnings == ()
    assert (set(guests.ended), guests.claimed()) == ({A, B, C}, set())


def test_a_guest_that_was_let_go_by_an_undo_is_not_let_go_again(
    host: Host, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else may have paused it since."""
    guests.failing = {A}
    guests.journal.record(HoldChange(guest_uuid=A, hold=HoldKind.PAUSE))
    host.hypervisor.domain(A).pause()
    release_step(host, order())
    assert host.hypervisor.domain(A).state() == "running"
    host.hypervisor.domain(A).pause()
    guests.failing = set()
    assert release_step(host, order()).warnings == ()
    assert host.hypervisor.domain(A).state() == "paused"


def test_only_the_hold_of_a_guest_that_was_not_let_go_is_undone(host: Host, guests: Guests) -> None:
    guests.journal.record(HoldChange(guest_uuid=A, hold=HoldKind.PAUSE))
    guests.journal.record(LetGoChange(guest_uuid=A))
    host.hypervisor.domain(A).pause()
    assert release_step(host, order()).warnings == ()
    assert host.hypervisor.domain(A).state() == "paused"


def to_prepare(*uuids: str) -> PrepareOrder:
    return PrepareOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(minutes=2),
        method=Method.BACKUP_PULL,
        repository_id="r",
        chunk_bytes=4096,
        guests=tuple(GuestPlan(guest_uuid=uuid, name=uuid[-1], hold=GuestHold(kind=HoldKind.FREEZE)) for uuid in uuids),
    )


def prepare_all(host: Host, journal: CaptureJournal, attempts: Mapping[str, object]) -> dict[str, str | None]:
    """The fault of each guest, by its code."""

    def attempt(
        _host: Host, _order: PrepareOrder, _journal: CaptureJournal, plan: GuestPlan, **_: bool
    ) -> PreparedGuest:
        host.claims.take(plan.guest_uuid, CAPTURE)
        journal.record(ClaimChange(guest_uuid=plan.guest_uuid))
        outcome = attempts[plan.guest_uuid]
        if isinstance(outcome, threading.Event):
            outcome.wait()
        elif isinstance(outcome, Exception):
            raise outcome
        return PreparedGuest(guest_uuid=plan.guest_uuid, name=plan.name)

    order = to_prepare(*attempts)
    prepare_guest = prepare._prepare_guest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "_attempt", attempt)
        each = partial(prepare_guest, host, order, journal, stored_encrypted=False)
        found = prepare_each(host, order, journal, each)
    assert [guest.guest_uuid for guest in found] == list(attempts)
    return {guest.guest_uuid: guest.fault.code if guest.fault else None for guest in found}


@pytest.mark.case("G4")
def test_a_guest_that_hangs_in_prepare_is_refused_alone_and_undone_when_its_call_returns(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_guests, "PATIENCE_S", 0.5)
    monkeypatch.setattr(prepare_guests, "LEAST_PATIENCE_S", 0.5)
    journal = host.journal.of(CAPTURE)
    hang = threading.Event()
    assert prepare_all(host, journal, {A: hang, B: None}) == {A: "guest-hangs", B: None}
    assert host.claims.holder(A) == CAPTURE
    assert prepare_all(host, journal, {A: None, B: None}) == {A: "guest-hangs", B: None}
    hang.set()
    with journal.guest(A).lock(30.0):
        assert host.claims.holder(A) is None
    assert host.claims.holder(B) == CAPTURE


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), FileNotFoundError("qemu-img"), KeyError("x")]
)
def test_a_guest_that_fails_in_a_new_way_fails_alone(host: Host, error: Exception) -> None:
    journal = host.journal.of(CAPTURE)
    assert prepare_all(host, journal, {A: error, B: None}) == {A: "guest-trouble", B: None}
    assert host.claims.holder(B) == CAPTURE


def test_a_guest_that_is_refused_is_undone_at_once(host: Host) -> None:
    journal = host.journal.of(CAPTURE)
    assert prepare_all(host, journal, {A: HypervisorError("no"), B: None}) == {A: "hypervisor", B: None}
    assert host.claims.holder(A) is None


def test_a_guest_on_which_an_undo_is_at_work_is_refused(host: Host) -> None:
    journal = host.journal.of(CAPTURE)
    with journal.guest(A).lock():
        assert prepare_all(host, journal, {A: None, B: None}) == {A: "guest-at-work", B: None}


@pytest.mark.parametrize(("left_s", "patience_s"), [(200.0, prepare_guests.PATIENCE_S), (40.0, 30.0), (12.0, 5.0)])
def test_guests_are_prepared_until_shortly_before_their_order_ends(
    host: Host, monkeypatch: pytest.MonkeyPatch, left_s: float, patience_s: float
) -> None:
    """A host that answers after the order's end is taken for one that is silent, with all its guests."""
    given: list[float] = []

    def noted(_calls: object, guests: list[str], _purpose: str, patience_s: float, _work: object) -> dict[str, object]:
        given.append(patience_s)
        return {guest: GuestHangsError("It hangs.") for guest in guests}

    monkeypatch.setattr(prepare_guests, "each_guest", noted)
    order = to_prepare(A).model_copy(update={"not_after": datetime.now(UTC) + timedelta(seconds=left_s)})
    prepare_each(host, order, host.journal.of(CAPTURE), lambda _: PreparedGuest(guest_uuid=A, name="a"))
    [found] = given
    assert patience_s - 15.0 < found <= patience_s
