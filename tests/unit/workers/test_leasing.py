"""A guest that the guard cannot let go of, and captures of it and its neighbours after that: one guest's trouble is its own."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.proof import consistency
from freezeframe.contract.words import Consistency, HoldKind
from tests.unit.workers.guard_site import CAPTURE, NOBODY, OTHER, GuardInThread, until
from tests.unit.workers.hold_site import FREEZE, HOSTS, PAUSE, Site, proof_of, results
from workers.bounded import GuestCalls
from workers.guard import letting_go
from workers.guard.client import GuardError, GuardLine, GuardRefusedError
from workers.guard.lease import Answer, Arm, Disarm, Inquire, LeasedGuest, LeaseFiles, Ping, Refusal
from workers.guard.ledger import undoes
from workers.guard.reading import FoundGuest
from workers.guard.table import Look
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.refusal import StillLetGoError
from workers.steps import leasing

DEAF = "00000000-0000-4000-8000-00000000dead"
HOLDS = [HoldKind.FREEZE, HoldKind.PAUSE, HoldKind.FREEZE_PAUSE]


class Looks:
    """Looks at one guest that do not end until they may, and then answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.may, self.answer = threading.Semaphore(0), threading.Event(), Look.NO_ANSWER
        monkeypatch.setattr(letting_go, "look", self._look)

    def _look(self, _hypervisor: Hypervisor, _calls: GuestCalls, guest: FoundGuest) -> Look:
        if guest.guest_uuid != DEAF:
            return Look.RUNS
        self.begun.release()
        self.may.wait()
        return self.answer


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Looks]:
    made = Looks(monkeypatch)
    yield made
    made.may.set()


def leased(uuid: str, hold: HoldKind) -> LeasedGuest:
    return LeasedGuest(guest_uuid=uuid, hold=hold)


def stored(guard: GuardInThread) -> dict[str, list[str]]:
    return {found.capture_id: [one.guest_uuid for one in found.guests] for found in guard.files.all()}


@pytest.mark.parametrize("earlier", HOLDS)
@pytest.mark.parametrize("later", [*HOLDS, HoldKind.NONE])
def test_a_guest_under_a_look_is_refused_by_itself_and_only_where_the_look_could_undo_its_hold(
    guard: GuardInThread, looks: Looks, earlier: HoldKind, later: HoldKind
) -> None:
    guard.store([leased(DEAF, earlier)])
    guard.start()
    looks.begun.acquire()
    refused = {DEAF: CAPTURE} if undoes(earlier, later) else {}
    with guard.line() as line:
        assert line.arm(OTHER, [leased(DEAF, later), leased(NOBODY, later)], 60) == refused
        assert stored(guard)[OTHER] == ([NOBODY] if refused else [DEAF, NOBODY])
        assert guard.guard.ledger.kept[OTHER].life.guests == stored(guard)[OTHER]
        assert line.disarm(OTHER)
    assert stored(guard) == {CAPTURE: [DEAF]}  # it is still to be let go


def test_a_holder_that_dies_after_a_refusal_leaves_its_own_guests_to_the_guard_only(
    guard: GuardInThread, looks: Looks
) -> None:
    guard.store([leased(DEAF, HoldKind.FREEZE)])
    guard.start()
    looks.begun.acquire()
    with guard.line() as line:
        line.arm(OTHER, [leased(DEAF, HoldKind.FREEZE), leased(NOBODY, HoldKind.FREEZE)], 60)

    def is_retired() -> bool:
        guard.forward(5.0)
        return OTHER not in stored(guard)

    until(is_retired)  # its own guest was let go
    assert stored(guard) == {CAPTURE: [DEAF]}
    assert guard.guard.at_work()


@pytest.mark.parametrize(
    ("look", "hold", "undone"),
    [
        (HoldKind.FREEZE, HoldKind.PAUSE, False),
        (HoldKind.PAUSE, HoldKind.FREEZE, False),
        (HoldKind.NONE, HoldKind.FREEZE_PAUSE, False),
        (HoldKind.FREEZE_PAUSE, HoldKind.NONE, False),
        (HoldKind.FREEZE, HoldKind.FREEZE, True),
        (HoldKind.PAUSE, HoldKind.PAUSE, True),
        (HoldKind.FREEZE_PAUSE, HoldKind.PAUSE, True),
        (HoldKind.FREEZE_PAUSE, HoldKind.FREEZE, True),
        (HoldKind.FREEZE, HoldKind.FREEZE_PAUSE, True),
        (HoldKind.PAUSE, HoldKind.FREEZE_PAUSE, True),
    ],
)
def test_a_look_undoes_what_it_lets_go_of(look: HoldKind, hold: HoldKind, *, undone: bool) -> None:
    assert undoes(look, hold) is undone


def test_an_arm_waits_for_no_look_at_a_guest_that_has_not_been_seen_running(
    guard: GuardInThread, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.guard.ledger.CALM_LOOK_S", 600.0)
    guard.store([leased(DEAF, HoldKind.FREEZE)])
    guard.start()
    looks.begun.acquire()
    with guard.line() as line:
        assert line.arm(OTHER, [leased(DEAF, HoldKind.FREEZE), leased(NOBODY, HoldKind.FREEZE)], 60) == {DEAF: CAPTURE}
        assert line.disarm(OTHER)


def test_an_arm_waits_for_the_short_look_at_a_guest_that_runs(
    guard: GuardInThread, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest has run for a while, and is looked at until no call can be pending. A refusal would be by chance."""
    monkeypatch.setattr("workers.guard.ledger.CALM_LOOK_S", 600.0)
    looks.answer = Look.RUNS
    looks.may.set()
    guard.store([leased(DEAF, HoldKind.PAUSE)])
    guard.start()
    until(lambda: guard.guard.ledger.kept[CAPTURE].life.ran(DEAF))
    looks.may.clear()
    while looks.begun.acquire(blocking=False):
        pass
    guard.forward(5.0)
    looks.begun.acquire()
    told: list[dict[str, str]] = []
    with guard.line() as line:
        armed = threading.Thread(
            target=lambda: told.append(line.arm(OTHER, [leased(DEAF, HoldKind.PAUSE)], 60)), daemon=True
        )
        armed.start()
        armed.join(0.1)
        assert armed.is_alive()
        looks.may.set()
        armed.join()
        assert told == [{}]
        assert line.disarm(OTHER)


def test_a_lease_of_which_every_guest_is_refused_is_not_kept(guard: GuardInThread, looks: Looks) -> None:
    guard.store([leased(DEAF, HoldKind.FREEZE)])
    guard.start()
    looks.begun.acquire()
    with guard.line() as line:
        assert line.arm(OTHER, [leased(DEAF, HoldKind.FREEZE)], 60) == {DEAF: CAPTURE}
        assert OTHER not in guard.guard.ledger.kept
        assert not line.disarm(OTHER)
    assert stored(guard) == {CAPTURE: [DEAF]}


def test_a_guest_is_thawed_although_a_later_capture_pauses_it(guard: GuardInThread, looks: Looks) -> None:
    """Captures that come again and again must not keep off a let-go that is still needed."""
    guard.store([leased(DEAF, HoldKind.FREEZE)])
    guard.start()
    looks.begun.acquire()
    with guard.line() as line:
        assert line.arm(OTHER, [leased(DEAF, HoldKind.PAUSE)], 600) == {}
        looks.may.set()
        guard.forward(5.0)
        looks.begun.acquire()  # looked at again, while it is held
        assert line.disarm(OTHER)


def test_no_look_begins_that_would_undo_an_armed_hold(guard: GuardInThread, looks: Looks) -> None:
    looks.answer = Look.HELD
    looks.may.set()
    guard.store([leased(DEAF, HoldKind.FREEZE_PAUSE)])
    guard.start()
    looks.begun.acquire()
    until(lambda: not guard.guard.ledger.looking)
    with guard.line() as line:
        while line.arm(OTHER, [leased(DEAF, HoldKind.PAUSE)], 600):
            pass  # a look was under way
        while looks.begun.acquire(blocking=False):
            pass
        for _ in range(5):
            guard.forward(5.0)
            line.ping()
        assert not looks.begun.acquire(timeout=0.05)
        assert line.disarm(OTHER)
        looks.begun.acquire()


def test_an_inquiry_ends_when_the_guest_is_seen_running_and_names_it_otherwise(
    guard: GuardInThread, looks: Looks
) -> None:
    guard.store([leased(DEAF, HoldKind.FREEZE)])
    guard.start()
    looks.begun.acquire()
    with guard.line() as line:
        asked = [leased(DEAF, HoldKind.FREEZE), leased(NOBODY, HoldKind.FREEZE)]
        assert line.inquire(asked, 0) == {DEAF: CAPTURE}
        assert line.inquire([leased(DEAF, HoldKind.PAUSE)], 30) == {}
        told: list[dict[str, str]] = []
        waiting = threading.Thread(target=lambda: told.append(line.inquire(asked, 30)), daemon=True)
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        looks.answer = Look.RUNS
        looks.may.set()
        waiting.join()
        assert told == [{}]
    assert stored(guard) == {CAPTURE: [DEAF]}


@pytest.mark.parametrize("seconds", [-1, 31, float("inf"), float("nan")])
def test_an_inquiry_has_bounds(guard: GuardInThread, seconds: float) -> None:
    guard.start()
    with guard.line() as line, pytest.raises(ValueError, match="seconds"):
        line.inquire([leased(DEAF, HoldKind.FREEZE)], seconds)


def test_each_reason_of_the_guard_has_an_advice_of_its_own(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard that runs need not be started: that is said where nothing answers, and nowhere else."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    advice: dict[str, str] = {}
    with pytest.raises(GuardError) as away:
        GuardLine(guard.socket)
    guard.start()
    one = [leased(NOBODY, HoldKind.PAUSE)]
    with guard.line() as line, guard.line() as other:
        line.arm(CAPTURE, one, 60)
        with pytest.raises(GuardRefusedError, match="a lease of this capture already") as error:
            other.arm(CAPTURE, one, 60)
        advice["twice"] = error.value.hint
        line.disarm(CAPTURE)
        monkeypatch.setattr(LeaseFiles, "add", full)
        with pytest.raises(GuardRefusedError, match="cannot be stored") as error:
            line.arm(CAPTURE, one, 60)
        advice["disk"] = error.value.hint
        guard.drain().join()
        for refused in (lambda: line.arm(CAPTURE, one, 60), line.ping, lambda: line.inquire(one, 0)):
            with pytest.raises(GuardRefusedError, match="the guard is stopping") as error:
                refused()
            advice["stopping"] = error.value.hint
    assert len({away.value.hint, *advice.values()}) == 4
    assert away.value.hint.startswith("Start `freezeframe guard`")
    assert "FREEZEFRAME_STATE_DIR" in advice["disk"]


@pytest.mark.parametrize("reason", [None, *Refusal])
def test_a_refusal_never_says_to_start_a_guard_that_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: Refusal | None
) -> None:
    def answers(_line: GuardLine, call: Arm | Disarm | Ping | Inquire, _patience_s: float | None = None) -> Answer:
        assert isinstance(call, Ping)
        return Answer(ok=False, why="why", reason=reason)

    monkeypatch.setattr(GuardLine, "__init__", lambda _line, path: None if path == tmp_path else pytest.fail(path))
    monkeypatch.setattr(GuardLine, "_ask", answers)
    with pytest.raises(GuardRefusedError) as error:
        GuardLine(tmp_path).ping()
    assert error.value.hint
    assert not error.value.hint.startswith("Start `freezeframe guard`")


# In prepare and hold.


@pytest.mark.parametrize("hold", HOLDS)
def test_prepare_refuses_a_guest_that_is_not_let_go_of_by_name(
    host: Host, monkeypatch: pytest.MonkeyPatch, hold: HoldKind
) -> None:
    asked: list[tuple[str, HoldKind]] = []

    class Line(GuardLine):
        def __init__(self, path: Path) -> None:
            assert path == host.settings.guard_socket

        def __exit__(self, *_: object) -> None:
            asked.append(("closed", hold))

        def inquire(self, guests: list[LeasedGuest], seconds: float) -> dict[str, str]:  # type: ignore[override]
            assert seconds == leasing.INQUIRY_S
            asked.extend((one.guest_uuid, one.hold) for one in guests)
            return {DEAF: CAPTURE}

    monkeypatch.setattr(leasing, "GuardLine", Line)
    with pytest.raises(StillLetGoError) as error:
        leasing.check_let_go(host, GuestPlan(guest_uuid=DEAF, name="deaf guest", hold=GuestHold(kind=hold)))
    assert asked == [(DEAF, hold), ("closed", hold)]
    assert "deaf guest" in error.value.message
    assert CAPTURE in error.value.message
    assert (f"--guest-hold {DEAF}:pause" in error.value.hint) == (hold is HoldKind.FREEZE)
    asked.clear()
    leasing.check_let_go(host, GuestPlan(guest_uuid=DEAF, name="deaf", hold=GuestHold(kind=HoldKind.NONE)))
    leasing.check_let_go(host, GuestPlan(guest_uuid=NOBODY, name="other", hold=GuestHold(kind=hold)))
    assert asked == [(NOBODY, hold), ("closed", hold)]


@pytest.mark.parametrize("hold", [FREEZE, PAUSE])
def test_a_guest_that_the_guard_does_not_lease_costs_only_itself_under_degrade(site: Site, hold: GuestHold) -> None:
    deaf, other = site.guests["host-a"]
    site.guards["host-a"].lets_go = {deaf.uuid: CAPTURE}
    held = results(site.hold(hold=hold, all_or_nothing=False))
    (fault,) = [one for result in held for one in result.guest_faults]
    assert (fault.guest_uuid, fault.fault.code, fault.fault.guest) == (deaf.uuid, "still-let-go", deaf.label)
    proven = [guest.guest_uuid for result in held if result.proof for guest in result.proof.guests]
    assert sorted(proven) == sorted([other.uuid, *(one.uuid for one in site.guests["host-b"])])
    assert not deaf.has_backup
    assert not any(re.search("freeze-freeze|suspend|pause", call) for call in deaf.log)
    assert all(one.has_backup for one in (other, *site.guests["host-b"]))
    assert sorted(site.guards["host-a"].disarmed) == [other.uuid]
    held_ones, let_go = site.journalled("host-a")
    assert sorted(held_ones) == sorted(let_go) == sorted([deaf.uuid, other.uuid])


@pytest.mark.parametrize("refused", [1, 2])
def test_under_all_nothing_is_held_and_the_guest_is_named(site: Site, refused: int) -> None:
    deaf = site.guests["host-a"][:refused]
    site.guards["host-a"].lets_go = {one.uuid: CAPTURE for one in deaf}
    answers = site.hold()
    error = answers["host-a"]
    assert isinstance(error, StillLetGoError)
    assert error.guest == deaf[0].label
    assert site.held_ones() == []
    assert LeaseFiles(site.hosts["host-a"].settings.state_dir).all() == []  # the guard need not look at the other
    assert not any(one.has_backup for one in site.guests["host-a"])
    for host_id in HOSTS:
        held, let_go = site.journalled(host_id)
        assert sorted(held) == sorted(let_go)


def test_under_degrade_a_host_whose_every_guest_is_refused_costs_the_other_hosts_nothing(site: Site) -> None:
    site.guards["host-a"].lets_go = {one.uuid: CAPTURE for one in site.guests["host-a"]}
    held = results(site.hold(all_or_nothing=False))
    assert [one.fault.code for one in held[0].guest_faults] == ["still-let-go"] * 2
    assert consistency(proof_of(held)) is Consistency.GROUP
    assert [one.log for one in site.guests["host-a"]] == [[], []]
    assert site.held_ones() == []
