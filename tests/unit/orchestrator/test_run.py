"""Runs on a real Redis: made once, changed by one at a time, looked at by anybody any number of times."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
import redis
from ulid import ULID

from freezeframe import bus, presence
from freezeframe.contract import names
from freezeframe.contract.event import EndEvent, Event, StateEvent
from freezeframe.contract.fault import Fault
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import PreparedGuest, PrepareResult, ReleaseResult
from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy, RunState, Step
from freezeframe.repository import Instant, Manifest, Repository
from freezeframe.repository.layout import session_name
from freezeframe.repository.session import SessionState
from freezeframe.settings import BusSettings, OrchestratorSettings
from orchestrator import lease, planning
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Runs
from tests.unit.orchestrator.telling import tell

CAPTURE = str(ULID())  # asked for now: requests that are dated otherwise are refused
ALPHA, BETA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
HOSTS = {"host-a": ALPHA, "host-b": BETA}


@pytest.fixture
def orchestrator(bus_settings: BusSettings, tmp_path: Path) -> Orchestrator:
    client = bus.connect(bus_settings)
    app = bus.celery_app("orchestrator", bus_settings)
    for host_id, guest_uuid in HOSTS.items():
        publish(client, host_id, guest_uuid)
    return Orchestrator(
        app=app,
        redis=client,
        runs=Runs(client, 3600),
        settings=OrchestratorSettings(),
        repository=Repository.init(tmp_path / "repository"),
    )


def publish(client: redis.Redis, host_id: str, *running: str) -> None:
    entry = HostEntry(
        host_id=host_id,
        at=datetime.now(UTC),
        freezeframe_version="0",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=tuple(GuestEntry(guest_uuid=one, name=one[-1], state="running") for one in running),
    )
    presence.publish(client, entry)
    client.persist(names.alive_key(host_id))  # alive for as long as the test takes


def ask(orchestrator: Orchestrator, **request: object) -> None:
    take_in(orchestrator, CaptureRequest.model_validate({"capture_id": CAPTURE, "every_guest": True, **request}))


def waiting(orchestrator: Orchestrator, step: Step) -> list[int]:
    """Messages on each host's queue for this step."""
    return [orchestrator.redis.llen(names.step_queue(step, host_id)) for host_id in HOSTS]


def events(orchestrator: Orchestrator) -> list[StateEvent | EndEvent]:
    entries = cast("list[tuple[str, dict[str, str]]]", orchestrator.redis.xrange(names.events_key(CAPTURE)))
    found = [Event.model_validate_json(entry["event"]).root for _, entry in entries]
    return [event for event in found if isinstance(event, StateEvent | EndEvent)]


def answer_prepare(
    orchestrator: Orchestrator, host_id: str, fault: Fault | None = None, *, guest_uuid: str = "", number: int = 0
) -> None:
    wanted = guest_uuid or HOSTS[host_id]
    guest = PreparedGuest(guest_uuid=wanted, name=wanted[-1], fault=fault)
    result = PrepareResult(capture_id=CAPTURE, host_id=host_id, guests=(guest,), round=number)
    field = names.result_field(Step.PREPARE, host_id, f"round{number}" if number else "")
    tell(orchestrator.redis, CAPTURE, field, result)


def state_of(orchestrator: Orchestrator) -> RunState:
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    return loaded[0].state


def test_asking_twice_is_asking_once(orchestrator: Orchestrator) -> None:
    ask(orchestrator)
    ask(orchestrator)
    assert waiting(orchestrator, Step.PREPARE) == [1, 1]
    told = [event.state for event in events(orchestrator) if isinstance(event, StateEvent)]
    assert told == [RunState.ASKED, RunState.PREPARING]


def test_many_looks_at_once_go_on_once(orchestrator: Orchestrator) -> None:
    ask(orchestrator)
    for host_id in HOSTS:
        answer_prepare(orchestrator, host_id)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: orchestrator.look(CAPTURE), range(32)))
    assert state_of(orchestrator) is RunState.HOLDING
    assert waiting(orchestrator, Step.HOLD) == [1, 1]


def test_a_run_waits_until_every_host_has_answered(orchestrator: Orchestrator) -> None:
    ask(orchestrator)
    answer_prepare(orchestrator, "host-a")
    orchestrator.look(CAPTURE)
    assert state_of(orchestrator) is RunState.PREPARING


def test_a_guest_that_has_moved_is_ordered_once_on_its_new_host_by_many_looks(orchestrator: Orchestrator) -> None:
    ask(orchestrator)
    gone = Fault(code="guest-gone", message="It is not here.")
    answer_prepare(orchestrator, "host-a", gone)
    answer_prepare(orchestrator, "host-b")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: orchestrator.look(CAPTURE), range(16)))
    assert waiting(orchestrator, Step.PREPARE) == [1, 1]  # it is looked for, and nobody is asked anything
    publish(orchestrator.redis, "host-b", ALPHA, BETA)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: orchestrator.look(CAPTURE), range(16)))
    assert waiting(orchestrator, Step.PREPARE) == [1, 2]
    answer_prepare(orchestrator, "host-b", guest_uuid=ALPHA, number=1)
    orchestrator.look(CAPTURE)
    assert state_of(orchestrator) is RunState.HOLDING
    told = [event.state for event in events(orchestrator) if isinstance(event, StateEvent)]
    assert told == ["asked", "preparing", "holding"]


def test_a_request_that_cannot_be_planned_ends_with_its_reason(orchestrator: Orchestrator) -> None:
    ask(orchestrator, every_guest=False, guests=("nobody",))
    asked, event = events(orchestrator)
    assert isinstance(asked, StateEvent)
    assert isinstance(event, EndEvent)
    assert event.receipt.faults[0].code == "unknown-guest"
    assert orchestrator.runs.active() == []
    assert waiting(orchestrator, Step.PREPARE) == [0, 0]


def test_orders_that_were_never_sent_are_sent_by_the_reconciler(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The orchestrator dies after the run's record is made and before its chord is sent."""
    monkeypatch.setattr("orchestrator.dispatch.send", lambda *_: (_ for _ in ()).throw(redis.ConnectionError("died")))
    with pytest.raises(redis.ConnectionError):
        ask(orchestrator)
    monkeypatch.undo()
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    assert waiting(orchestrator, Step.PREPARE) == [0, 0]  # it may be about to be sent
    age(orchestrator, lease.GRACE + timedelta(seconds=1))
    reconciler.reconcile()
    assert waiting(orchestrator, Step.PREPARE) == [1, 1]
    reconciler.reconcile()
    assert waiting(orchestrator, Step.PREPARE) == [1, 1]


def age(orchestrator: Orchestrator, by: timedelta) -> None:
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    run, version = loaded
    assert orchestrator.runs.change(run.model_copy(update={"entered_at": run.entered_at - by}), version, tell=False)


def test_a_change_upon_an_old_version_is_refused(orchestrator: Orchestrator) -> None:
    ask(orchestrator)
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    run, version = loaded
    first = run.model_copy(update={"state": RunState.HOLDING})
    second = run.model_copy(update={"state": RunState.RELEASING})
    assert orchestrator.runs.change(first, version)
    assert not orchestrator.runs.change(second, version)
    assert state_of(orchestrator) is RunState.HOLDING


def test_a_run_whose_record_is_gone_is_forgotten(orchestrator: Orchestrator) -> None:
    ask(orchestrator)
    orchestrator.redis.delete(names.run_key(CAPTURE))
    Reconciler(orchestrator).reconcile()
    assert orchestrator.runs.active() == []


def test_epochs_only_ever_rise_also_when_redis_comes_back_empty(orchestrator: Orchestrator) -> None:
    runs = orchestrator.runs
    before = [runs.next_epoch() for _ in range(50)]
    orchestrator.redis.flushall()
    after = [runs.next_epoch() for _ in range(50)]
    assert before + after == sorted(set(before + after))


def test_a_record_that_cannot_be_read_is_no_run(orchestrator: Orchestrator) -> None:
    orchestrator.redis.hset(names.run_key(CAPTURE), mapping={"record": "{}", "version": "1"})
    assert orchestrator.runs.load(CAPTURE) is None


def session_state(orchestrator: Orchestrator) -> SessionState:
    return orchestrator.repository.sessions.load(CAPTURE).state


def test_a_session_is_there_before_anything_is_looked_for(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garbage collection must know of the run before it chooses a parent."""
    seen = []

    def manifests(self: Repository, *_: object) -> Iterator[Manifest]:
        seen.append(self.sessions.load(CAPTURE).state)
        yield from ()

    monkeypatch.setattr(Repository, "each_manifest", manifests)
    ask(orchestrator)
    assert seen == [SessionState.OPEN]


def test_the_session_of_a_run_ends_with_it(orchestrator: Orchestrator) -> None:
    ask(orchestrator)
    for host_id in HOSTS:
        answer_prepare(orchestrator, host_id, Fault(code="no-agent", message="No agent answers."))
    orchestrator.look(CAPTURE)
    assert state_of(orchestrator) is RunState.RELEASING
    assert session_state(orchestrator) is SessionState.FAILED  # as soon as hosts are told that nothing is sealed
    for host_id in HOSTS:
        result = ReleaseResult(capture_id=CAPTURE, host_id=host_id)
        field = names.result_field(Step.RELEASE, host_id, "")
        tell(orchestrator.redis, CAPTURE, field, result)
    orchestrator.look(CAPTURE)
    assert state_of(orchestrator) is RunState.FAILED
    assert session_state(orchestrator) is SessionState.FAILED


def test_the_session_of_a_request_that_cannot_be_planned_is_ended(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "with_parents", lambda *_: 1 // 0)
    ask(orchestrator)
    assert session_state(orchestrator) is SessionState.FAILED


def test_asking_again_does_not_end_the_session(orchestrator: Orchestrator) -> None:
    ask(orchestrator)
    ask(orchestrator, every_guest=False, guests=("nobody",))
    assert session_state(orchestrator) is SessionState.OPEN


def test_without_its_session_nothing_is_sealed(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(orchestrator)
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    run, version = loaded
    manifest = Manifest(
        capture_id=CAPTURE,
        created_at=run.asked_at,
        instant=Instant(at=run.asked_at),
        hold=HoldKind.NONE,
        policy=Policy.ALL,
        consistency=Consistency.CRASH,
        kind=CaptureKind.FULL,
        guests=(),
        proof=None,
    )
    monkeypatch.setattr("orchestrator.look.manifest_of", lambda *_: manifest)
    orchestrator.repository.sessions.delete(CAPTURE)
    assert orchestrator.runs.change(run.model_copy(update={"state": RunState.SEALING}), version)
    followed = orchestrator.look(CAPTURE)
    assert followed is not None
    assert [fault.code for fault in followed.faults] == ["session-lost"]
    assert not followed.sealed
    assert orchestrator.repository.manifests() == []


@pytest.mark.parametrize(("age_", "ended"), [(timedelta(minutes=5), False), (timedelta(hours=2), True)])
def test_the_reconciler_ends_the_session_of_a_run_that_is_lost(
    orchestrator: Orchestrator, age_: timedelta, *, ended: bool
) -> None:
    """Redis came back empty. One that was begun a moment ago may be of a run that is just being planned."""
    ask(orchestrator)
    orchestrator.redis.delete(names.run_key(CAPTURE))
    other = orchestrator.repository.sessions
    other.begin("01KBBBBBBBBBBBBBBBBBBBBBBB", "another program")
    for session_id, age in ((CAPTURE, age_), ("01KBBBBBBBBBBBBBBBBBBBBBBB", timedelta(days=1))):
        begun = (datetime.now(UTC) - age).timestamp()  # by the store's clock
        os.utime(Path(orchestrator.repository.address) / session_name(session_id), (begun, begun))
    Reconciler(orchestrator).reconcile()
    assert session_state(orchestrator) is (SessionState.FAILED if ended else SessionState.OPEN)
    assert other.load("01KBBBBBBBBBBBBBBBBBBBBBBB").state is SessionState.OPEN


def refusal(orchestrator: Orchestrator, capture_id: str) -> Fault:
    loaded = orchestrator.runs.load(capture_id)
    assert loaded is not None
    assert loaded[0].state is RunState.FAILED
    assert loaded[0].receipt is not None
    assert waiting(orchestrator, Step.PREPARE) == [0, 0]  # nobody was asked for anything
    return loaded[0].receipt.faults[0]


@pytest.mark.case("S7")
@pytest.mark.parametrize("days", [400, -400])
def test_a_request_from_another_time_ends_with_the_reason(
    orchestrator: Orchestrator, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = str(ULID.from_datetime(datetime.now(UTC) + timedelta(days=days)))
    monkeypatch.setattr(Repository, "capture_ids", lambda _self: [str(ULID())])
    ask(orchestrator, capture_id=dated)
    assert refusal(orchestrator, dated).code == "request-date"


def test_a_request_that_waited_for_too_long_is_answered(orchestrator: Orchestrator) -> None:
    take_in(orchestrator, CaptureRequest(capture_id=CAPTURE, every_guest=True), not_after_us=1)
    assert refusal(orchestrator, CAPTURE).code == "late-request"


@pytest.mark.case("S7")
def test_a_redis_whose_clock_went_back_gives_no_epoch(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = orchestrator.runs.next_epoch()
    monkeypatch.setattr(orchestrator.redis, "time", lambda: (int(datetime.now(UTC).timestamp()) - 86400, 0))
    ask(orchestrator)
    assert refusal(orchestrator, CAPTURE).code == "clock"
    monkeypatch.undo()
    assert before < orchestrator.runs.next_epoch() < before + 60_000_000


@pytest.mark.case("S1")
def test_degrade_without_a_dead_host_is_done_with_less(orchestrator: Orchestrator) -> None:
    orchestrator.redis.delete(names.alive_key("host-b"))
    ask(orchestrator, policy="degrade")
    assert waiting(orchestrator, Step.PREPARE) == [1, 0]
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    assert [(fault.guest, fault.host) for fault in loaded[0].faults] == [("b", "host-b")]
    answer_prepare(orchestrator, "host-a")
    orchestrator.look(CAPTURE)
    assert state_of(orchestrator) is RunState.HOLDING


@pytest.mark.case("S2")
def test_orders_never_expire_in_the_queue(orchestrator: Orchestrator) -> None:
    """Celery drops an expired task by the host's clock, before any code of ours; a wrong clock would be silence."""
    ask(orchestrator)
    [message] = cast("list[str]", orchestrator.redis.lrange(names.step_queue(Step.PREPARE, "host-a"), 0, -1))
    assert json.loads(message)["headers"]["expires"] is None


def test_a_run_that_went_on_while_its_orders_were_sent_stays_where_it_is(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_slowly(*_: object) -> None:
        loaded = orchestrator.runs.load(CAPTURE)
        assert loaded is not None
        newer = loaded[0].model_copy(update={"state": RunState.HOLDING, "dispatched": False})
        assert orchestrator.runs.change(newer, loaded[1])

    ask(orchestrator)
    run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    run = run.model_copy(update={"dispatched": False})
    assert orchestrator.runs.change(run, version)
    monkeypatch.setattr("orchestrator.dispatch.send", send_slowly)
    orchestrator.dispatch(run)
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    assert (loaded[0].state, loaded[0].dispatched) == (RunState.HOLDING, False)


def test_each_change_of_a_run_has_a_word_of_its_own(orchestrator: Orchestrator) -> None:
    ask(orchestrator)
    words = set()
    for number in range(5):
        run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
        changed = run.model_copy(update={"warnings": (str(number),)})
        assert orchestrator.runs.change(changed, version, tell=False)
        words.add(orchestrator.redis.hget(names.run_key(CAPTURE), "written"))
    assert len(words) == 5


def test_a_run_that_has_ended_is_not_kept_in_memory(orchestrator: Orchestrator) -> None:
    ask(orchestrator, every_guest=False, guests=("nobody",))
    for _ in range(2):
        assert orchestrator.runs.load(CAPTURE)
        assert orchestrator.runs.load_with_answers(CAPTURE)
    assert (orchestrator.runs._parsed, orchestrator.runs._told._records) == ({}, {})
