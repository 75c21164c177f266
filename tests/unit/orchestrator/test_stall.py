"""A transfer that does not move ends its run after `transfer_stall_s`, long before its deadline; one that moves does not."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from ulid import ULID

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.plan import GuestPlan, HostPlan, Plan
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult, TransferResult
from freezeframe.contract.words import CaptureKind, HoldKind, Method, RunState, Step
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings, OrchestratorSettings
from orchestrator.errors import NotProvenError
from orchestrator.look import Orchestrator
from orchestrator.reconcile import SESSIONS_S, Reconciler
from orchestrator.run import Run, Runs
from tests.unit.orchestrator.telling import tell

CAPTURE = str(ULID())
GUESTS = {"host-a": "00000000-0000-4000-8000-00000000000a", "host-b": "00000000-0000-4000-8000-00000000000b"}
STALL_S = 90.0


class Clock:
    """The reconciler's own clock, in a test's hands."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("orchestrator.reconcile.time", SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.fixture
def orchestrator(bus_settings: BusSettings, tmp_path: Path) -> Iterator[Orchestrator]:
    with contextlib.closing(bus.connect(bus_settings)) as client:
        made = Orchestrator(
            app=bus.celery_app("orchestrator", bus_settings),
            redis=client,
            runs=Runs(client, 3600),
            settings=OrchestratorSettings(transfer_stall_s=STALL_S),
            repository=Repository.init(tmp_path / "repository"),
        )
        transferring(made)
        yield made


def transferring(orchestrator: Orchestrator, capture_id: str = CAPTURE, *, beats: bool = True) -> None:
    """A run of two hosts with a disk each, all orders sent and none answered."""
    now = datetime.now(UTC)
    hosts = tuple(
        HostPlan(
            host_id=host_id,
            guests=(GuestPlan(guest_uuid=guest, name=host_id, hold=GuestHold(kind=HoldKind.FREEZE)),),
        )
        for host_id, guest in GUESTS.items()
    )
    plan = Plan(
        capture_id=capture_id, epoch=1, method=Method.BACKUP_PULL, chunk_bytes=1 << 20, repository_id="r", hosts=hosts
    )
    run = Run(
        capture_id=capture_id,
        request=CaptureRequest(capture_id=capture_id, every_guest=True),
        asked_at=now,
        state=RunState.TRANSFERRING,
        plan=plan,
        entered_at=now,
        due_at=now + timedelta(hours=24),
        dispatched=True,
        members=tuple(GUESTS),
        kept=tuple(GUESTS.values()),
    )
    assert orchestrator.runs.create(run)
    disk = PreparedDisk(target="vda", source="/d", source_format="qcow2", size_bytes=1 << 30, kind=CaptureKind.FULL)
    for host_id, guest in GUESTS.items():
        prepared = PreparedGuest(guest_uuid=guest, name=host_id, disks=(disk,))
        result = PrepareResult(capture_id=capture_id, host_id=host_id, guests=(prepared,))
        field = names.result_field(Step.PREPARE, host_id)
        tell(orchestrator.redis, capture_id, field, result)
        if beats:
            beat(orchestrator, host_id, 0, capture_id)


def beat(orchestrator: Orchestrator, host_id: str, done_bytes: int, capture_id: str = CAPTURE, waits: int = 0) -> None:
    field = names.pulse_field(host_id, f"{GUESTS[host_id]}.vda")
    orchestrator.redis.hset(names.pulse_key(capture_id), field, f"{done_bytes} {waits}")


def run_of(orchestrator: Orchestrator) -> Run:
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    return loaded[0]


def test_a_host_that_moves_no_byte_ends_the_run(orchestrator: Orchestrator, clock: Clock) -> None:
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    for done_bytes in range(1, 4):  # host-b moves, host-a does not
        clock.now_s += STALL_S / 3
        beat(orchestrator, "host-b", done_bytes)
        reconciler.reconcile()
    assert run_of(orchestrator).state is RunState.TRANSFERRING  # for exactly as long as it may
    clock.now_s += 1
    reconciler.reconcile()
    run = run_of(orchestrator)
    assert run.state is RunState.RELEASING
    assert [(fault.code, fault.host) for fault in run.faults] == [("transfer-stalled", "host-a")]


@pytest.mark.case("R7")
@pytest.mark.parametrize("outage_s", [31, 600, 3600])
def test_transfers_that_wait_for_the_repository_are_waited_for(
    orchestrator: Orchestrator, clock: Clock, outage_s: int
) -> None:
    """By default for an hour: hours of work are worth more than that."""
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    for waits in range(1, 11):
        clock.now_s += outage_s / 10
        for host_id in GUESTS:
            beat(orchestrator, host_id, 0, waits=waits)
        reconciler.reconcile()
    assert run_of(orchestrator).state is RunState.TRANSFERRING
    for host_id in GUESTS:
        beat(orchestrator, host_id, 1, waits=10)
    reconciler.reconcile()
    clock.now_s += STALL_S
    reconciler.reconcile()
    assert run_of(orchestrator).state is RunState.TRANSFERRING


def test_a_repository_that_stays_away_ends_the_transfers_and_their_backups(
    orchestrator: Orchestrator, clock: Clock
) -> None:
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    for waits in range(62):
        clock.now_s += 60
        beat(orchestrator, "host-a", 0, waits=waits)
        beat(orchestrator, "host-b", waits)
        reconciler.reconcile()
    run = run_of(orchestrator)
    assert run.state is RunState.RELEASING
    assert [(fault.code, fault.host) for fault in run.faults] == [("transfer-stalled", "host-a")]
    assert "have waited for the repository at" in run.faults[0].message


def test_hosts_that_move_are_waited_for_as_long_as_they_do(orchestrator: Orchestrator, clock: Clock) -> None:
    reconciler = Reconciler(orchestrator)
    for done_bytes in range(10):
        for host_id in GUESTS:
            beat(orchestrator, host_id, done_bytes)
        reconciler.reconcile()
        clock.now_s += STALL_S
    assert run_of(orchestrator).state is RunState.TRANSFERRING


def test_another_runs_transfer_on_the_host_is_a_sign_of_life(orchestrator: Orchestrator, clock: Clock) -> None:
    """A transfer may wait behind another's on its host."""
    other = str(ULID())
    transferring(orchestrator, other)
    reconciler = Reconciler(orchestrator)
    for done_bytes in range(5):
        for host_id in GUESTS:
            beat(orchestrator, host_id, done_bytes, other)
        reconciler.reconcile()
        clock.now_s += STALL_S
    assert run_of(orchestrator).state is RunState.TRANSFERRING


def answer(orchestrator: Orchestrator, host_id: str, capture_id: str = CAPTURE) -> None:
    result = TransferResult(
        capture_id=capture_id, host_id=host_id, guest_uuid=GUESTS[host_id], target="vda", index="0" * 64
    )
    field = names.result_field(Step.TRANSFER, host_id, f"{GUESTS[host_id]}.vda")
    tell(orchestrator.redis, capture_id, field, result)


def test_a_host_whose_transfers_are_all_answered_has_nothing_to_move(orchestrator: Orchestrator, clock: Clock) -> None:
    answer(orchestrator, "host-a")
    reconciler = Reconciler(orchestrator)
    for done_bytes in range(5):
        beat(orchestrator, "host-b", done_bytes)
        reconciler.reconcile()
        clock.now_s += STALL_S
    assert run_of(orchestrator).state is RunState.TRANSFERRING


def change(orchestrator: Orchestrator, **changes: object) -> None:
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    assert orchestrator.runs.change(loaded[0].model_copy(update=changes), loaded[1])


def test_past_the_deadline_of_all_transfers_those_that_move_are_ended_too(
    orchestrator: Orchestrator, clock: Clock
) -> None:
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    change(orchestrator, due_at=datetime.now(UTC) - timedelta(seconds=1))
    answer(orchestrator, "host-b")
    beat(orchestrator, "host-a", 1)
    clock.now_s += 1
    reconciler.reconcile()
    run = run_of(orchestrator)
    assert run.state is RunState.RELEASING
    assert [(fault.code, fault.host) for fault in run.faults] == [("transfer-stalled", "host-a")]


def test_a_host_s_next_run_is_not_judged_by_the_silence_of_its_last(orchestrator: Orchestrator, clock: Clock) -> None:
    """Neither has said a word of its progress yet."""
    orchestrator.redis.delete(names.pulse_key(CAPTURE))
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    change(orchestrator, state=RunState.RELEASING, due_at=datetime.now(UTC) + timedelta(hours=1))
    reconciler.reconcile()
    clock.now_s += 10 * STALL_S
    following = str(ULID())
    transferring(orchestrator, following, beats=False)
    reconciler.reconcile()
    loaded = orchestrator.runs.load(following)
    assert loaded is not None
    assert loaded[0].state is RunState.TRANSFERRING


def test_sessions_that_were_left_are_looked_for_now_and_then(
    orchestrator: Orchestrator, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lists all sessions of the repository: not with every look."""
    looked: list[float] = []

    def end_left(repository: Repository, runs: Runs, seen: object) -> None:
        assert (repository, runs) == (orchestrator.repository, orchestrator.runs)
        assert seen is reconciler._sessions  # which were read is remembered
        looked.append(clock.now_s)

    monkeypatch.setattr("orchestrator.reconcile.sessions.end_left", end_left)
    reconciler = Reconciler(orchestrator)
    begun_s = clock.now_s
    for after_s in (0, 1, SESSIONS_S - 1, SESSIONS_S, SESSIONS_S + 1):
        clock.now_s = begun_s + after_s
        reconciler.reconcile()
    assert looked == [begun_s, begun_s + SESSIONS_S]


class Stop(threading.Event):
    """Tells to stop after a few rounds."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.left = rounds

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout
        self.left -= 1
        return self.left < 0


def test_no_trouble_ends_the_reconciler(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what finds lost orders: without it a run whose chord was lost waits for ever, with its backups open."""
    troubles = iter(
        [redis.ConnectionError("away"), NotProvenError("a refusal"), OSError("the repository is away"), KeyError("x")]
    )
    looks: list[str] = []

    def reconcile(_: Reconciler) -> None:
        looks.append("look")
        if (trouble := next(troubles, None)) is not None:
            raise trouble

    monkeypatch.setattr(Reconciler, "reconcile", reconcile)
    Reconciler(orchestrator).run_forever(Stop(5))
    assert looks == ["look"] * 5
