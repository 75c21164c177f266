"""Redis is away for a while: no host is late or silent for that (B7 of the orchestrator's review)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import redis
from ulid import ULID

from freezeframe import redis_fault, redis_pool
from freezeframe.contract import names
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState
from freezeframe.settings import BusSettings, OrchestratorSettings
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run, Runs, Search
from orchestrator.sight import MOST_RETURNS, REJOIN, RETURNS_IN, Sight
from orchestrator.stall import Stalls
from tests.unit.orchestrator.one_run import CAPTURE, hold, prepare, transfer
from tests.unit.orchestrator.set_clock import Clock
from tests.unit.orchestrator.set_clock import clock as clock  # noqa: PLC0414  a fixture
from tests.unit.orchestrator.test_trouble import OTHER, other_run

SETTINGS = OrchestratorSettings(transfer_stall_s=90, transfer_store_s=3600)
MOMENT = timedelta(seconds=1)


def run_of(orchestrator: Orchestrator) -> Run:
    return (orchestrator.runs.load(CAPTURE) or pytest.fail("no run"))[0]


def away(reconciler: Reconciler) -> None:
    """Have Redis be away at one look of the reconciler."""

    def refuse(_: Runs) -> list[str]:
        raise redis.ConnectionError("refused")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runs, "active", refuse)
        with pytest.raises(redis.ConnectionError):
            reconciler.reconcile()


STATES = {
    RunState.PREPARING: (),
    RunState.HOLDING: (prepare,),
    RunState.TRANSFERRING: (prepare, hold),
    RunState.RELEASING: (prepare, hold, transfer),
}


def reach(orchestrator: Orchestrator, state: RunState) -> None:
    for step in STATES[state]:
        step(orchestrator)
    orchestrator.look(CAPTURE)  # as the seal does not wait for a host
    assert run_of(orchestrator).state is state


@pytest.mark.parametrize("state", STATES)
def test_no_host_is_late_for_a_state_whose_time_was_over_while_redis_was_away(
    orchestrator: Orchestrator, clock: type[Clock], state: RunState
) -> None:
    reach(orchestrator, state)
    before, reconciler = run_of(orchestrator), Reconciler(orchestrator)
    away(reconciler)
    clock.ahead = before.due_at - datetime.now(UTC) + MOMENT
    reconciler.reconcile()
    assert run_of(orchestrator).state is state
    clock.ahead += REJOIN - 2 * MOMENT
    reconciler.reconcile()
    assert run_of(orchestrator).state is state
    clock.ahead += 3 * MOMENT
    reconciler.reconcile()
    assert run_of(orchestrator).state is not state  # nobody has answered


@pytest.mark.parametrize("state", STATES)
def test_without_an_outage_the_time_of_a_state_is_over_as_ever(
    orchestrator: Orchestrator, clock: type[Clock], state: RunState
) -> None:
    reach(orchestrator, state)
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    clock.ahead = run_of(orchestrator).due_at - datetime.now(UTC) + MOMENT
    reconciler.reconcile()
    assert run_of(orchestrator).state is not state


def test_an_answer_that_comes_after_the_outage_counts(orchestrator: Orchestrator, clock: type[Clock]) -> None:
    reconciler = Reconciler(orchestrator)
    away(reconciler)
    clock.ahead = timedelta(hours=1)
    reconciler.reconcile()
    prepare(orchestrator)
    assert run_of(orchestrator).state is RunState.HOLDING


def test_a_look_that_comes_before_the_reconciler_is_no_less_patient(
    orchestrator: Orchestrator, clock: type[Clock]
) -> None:
    """The body of a chord, say."""
    away(Reconciler(orchestrator))
    clock.ahead = timedelta(hours=1)
    orchestrator.look(CAPTURE)
    assert run_of(orchestrator).state is RunState.PREPARING


def test_an_orchestrator_that_begins_does_not_know_whether_redis_was_away(
    orchestrator: Orchestrator, clock: type[Clock]
) -> None:
    """It is the machine of both that was started again."""
    clock.ahead = timedelta(hours=1)
    other = Orchestrator(**{**vars(orchestrator), "sight": Sight()})
    other.sight.lose()  # as app.py does
    other.look(CAPTURE)
    assert run_of(orchestrator).state is RunState.PREPARING
    clock.ahead += REJOIN
    other.look(CAPTURE)
    assert run_of(orchestrator).state is RunState.RELEASING


def test_a_run_gets_more_time_once_and_never_less(orchestrator: Orchestrator, clock: type[Clock]) -> None:
    before = run_of(orchestrator)
    reconciler = Reconciler(orchestrator)
    away(reconciler)
    reconciler.reconcile()
    assert run_of(orchestrator).due_at == before.due_at  # two minutes are left
    away(reconciler)
    clock.ahead = timedelta(hours=1)
    reconciler.reconcile()
    loaded = orchestrator.runs.load(CAPTURE)
    for _ in range(3):
        clock.ahead += MOMENT
        reconciler.reconcile()
    assert orchestrator.runs.load(CAPTURE) == loaded


def stalled(stalls: Stalls, now: float) -> bool:
    return stalls.trouble("run", "a", "the store", SETTINGS, now, late=False) is not None


SENT, SAID = {"run": ["a"]}, {"run": {"a/disk": "5 1"}}


@pytest.mark.parametrize("outage_s", [95.0, 600.0, 7200.0])
def test_the_time_without_redis_is_no_silence(outage_s: float) -> None:
    """By default a transfer is given up after 90 s of silence, and after an hour without a byte."""
    stalls, now = Stalls(), 1000.0
    stalls.see(SENT, SAID, now)
    now += 30.0
    stalls.see(SENT, SAID, now)  # 30 s of silence
    stalls.lose_sight()
    now += outage_s
    stalls.see(SENT, SAID, now)
    assert not stalled(stalls, now)
    now += 60.0
    stalls.see(SENT, SAID, now)
    assert not stalled(stalls, now)
    assert stalled(stalls, now + 1)  # those 30 s count, and 61 since


def test_a_look_that_took_long_resets_no_silence() -> None:
    stalls = Stalls()
    stalls.see(SENT, SAID, 1000.0)
    stalls.see(SENT, SAID, 1091.0)
    assert stalled(stalls, 1091.0)


def test_a_reconciler_that_could_not_ask_redis_counts_no_silence(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Stalls] = []

    def lose(stalls: Stalls) -> None:
        lost.append(stalls)

    monkeypatch.setattr(Stalls, "lose_sight", lose)
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    assert lost == []
    away(reconciler)
    assert len(lost) == 1


def test_a_host_that_has_not_published_itself_since_is_not_taken_for_down(
    orchestrator: Orchestrator, clock: type[Clock]
) -> None:
    """Its sign of life lasts 10 s, so each outage takes it away; a request is planned once hosts had time to come back."""
    orchestrator.redis.delete(names.alive_key("host-a"))
    away(Reconciler(orchestrator))
    asked = str(ULID())
    take_in(orchestrator, CaptureRequest(capture_id=asked, guests=("web",)))
    run, _ = orchestrator.runs.load(asked) or pytest.fail("no run")
    assert (run.state, run.faults) == (RunState.ASKED, ())
    orchestrator.redis.set(names.alive_key("host-a"), "1")
    planned = orchestrator.look(asked)
    assert planned is not None
    assert planned.state is RunState.PREPARING


def test_a_host_that_stays_away_is_told_once_all_had_time(orchestrator: Orchestrator, clock: type[Clock]) -> None:
    orchestrator.redis.delete(names.alive_key("host-a"))
    away(Reconciler(orchestrator))
    asked = str(ULID())
    take_in(orchestrator, CaptureRequest(capture_id=asked, guests=("web",)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sight, "rejoining", lambda *_: False)
        run = orchestrator.look(asked)
    assert run is not None
    assert [fault.code for fault in run.faults] == ["host-down"]


def test_a_guest_that_is_looked_for_is_so_until_hosts_had_time(orchestrator: Orchestrator) -> None:
    """Its new host may have published it while Redis was away."""
    run, sight, now = run_of(orchestrator), Sight(), datetime.now(UTC)
    run = run.model_copy(update={"search": Search(until=now, seen={})})
    sight.lose()
    sight.find(now)
    excused = sight.excused(run, now)
    assert excused is not None
    assert excused.search is not None
    assert (excused.search.until, excused.due_at) == (now + REJOIN, run.due_at)
    assert sight.excused(excused, now) is None


def test_a_redis_that_comes_and_goes_puts_off_no_end_for_ever(orchestrator: Orchestrator, clock: type[Clock]) -> None:
    """Lost again and again, each time before the 20 s of the last return were over: the state never ended."""
    reconciler = Reconciler(orchestrator)
    clock.ahead = run_of(orchestrator).due_at - datetime.now(UTC) + MOMENT
    for _ in range(MOST_RETURNS):
        away(reconciler)
        reconciler.reconcile()
        assert run_of(orchestrator).state is RunState.PREPARING
        clock.ahead += REJOIN - MOMENT
    for _ in range(2):
        away(reconciler)
        reconciler.reconcile()
        clock.ahead += REJOIN - MOMENT
    assert run_of(orchestrator).state is RunState.RELEASING


def test_an_outage_counts_again_when_the_others_are_long_ago() -> None:
    sight, now = Sight(), datetime.now(UTC)
    for number in range(MOST_RETURNS + 1):
        sight.lose()
        sight.find(now + number * MOMENT)
    assert not sight.rejoining(now + MOST_RETURNS * MOMENT + REJOIN - MOMENT)
    sight.lose()
    sight.find(now + RETURNS_IN + MOMENT)
    assert sight.rejoining(now + RETURNS_IN + MOMENT)


def test_a_process_whose_connections_are_all_in_use_has_lost_no_redis(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts would get more time for it, and no other run would be looked at."""
    monkeypatch.setattr(redis_pool, "WAIT_S", 0.01)
    pool = redis_pool.make(BusSettings.model_validate({"redis_url": "redis://127.0.0.1:1/0"}), retries=0)
    monkeypatch.setattr(pool, "make_connection", SimpleNamespace)
    while not pool.pool.empty():
        pool.pool.get()
    with pytest.raises(redis_fault.BusyError, match="All 8 connections") as busy:
        pool.get_connection()
    assert "does not answer" not in redis_fault.words_of(busy.value)
    other_run(orchestrator)
    looked: list[str] = []
    real = Orchestrator.look

    def look(one: Orchestrator, capture_id: str) -> Run | None:
        looked.append(capture_id)
        if len(looked) == 1:
            raise busy.value
        return real(one, capture_id)

    monkeypatch.setattr(Orchestrator, "look", look)
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    assert sorted(looked) == sorted([CAPTURE, OTHER])
    assert not orchestrator.sight.rejoining(datetime.now(UTC))
    monkeypatch.setattr(Runs, "active", lambda _: (_ for _ in ()).throw(busy.value))
    with pytest.raises(redis_fault.BusyError):
        reconciler.reconcile()
    orchestrator.sight.find(datetime.now(UTC))
    assert not orchestrator.sight.rejoining(datetime.now(UTC))
