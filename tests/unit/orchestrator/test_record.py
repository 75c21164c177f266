"""A run's record, its events and the set of active runs are changed together, and end when they should."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState
from freezeframe.settings import BusSettings
from orchestrator import admission
from orchestrator.board import Boards
from orchestrator.run import LONGEST_RUN_S, Run, Runs

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RETENTION_S = 3600
#: All keys that end with a run, apart from its record.
OTHERS = (names.events_key(CAPTURE), names.results_key(CAPTURE), names.pulse_key(CAPTURE))


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with contextlib.closing(bus.connect(bus_settings)) as found:
        yield found


@pytest.fixture
def runs(client: redis.Redis) -> Runs:
    return Runs(client, RETENTION_S)


def run(state: RunState = RunState.PREPARING) -> Run:
    request = CaptureRequest(capture_id=CAPTURE, every_guest=True)
    return Run(capture_id=CAPTURE, request=request, asked_at=NOW, state=state, entered_at=NOW, due_at=NOW)


def version_of(runs: Runs) -> str:
    loaded = runs.load(CAPTURE)
    assert loaded is not None
    return loaded[1]


def test_a_run_that_is_there_is_not_made_again_and_what_was_tried_leaves_no_trace(
    runs: Runs, client: redis.Redis
) -> None:
    assert runs.create(run())
    assert not runs.create(run(RunState.FAILED))
    assert runs.load(CAPTURE) == (run(), "1")
    assert runs.active() == [CAPTURE]
    assert client.xlen(names.events_key(CAPTURE)) == 1


def test_a_change_that_came_too_late_leaves_no_trace(runs: Runs, client: redis.Redis) -> None:
    assert runs.create(run())
    old = version_of(runs)
    assert runs.change(run(RunState.HOLDING), old)
    assert not runs.change(run(RunState.FAILED), old)
    assert runs.load(CAPTURE) == (run(RunState.HOLDING), "2")
    assert runs.active() == [CAPTURE]
    assert client.xlen(names.events_key(CAPTURE)) == 2


def test_a_run_is_active_until_it_ends(runs: Runs) -> None:
    assert runs.create(run())
    assert runs.change(run(RunState.RELEASING), version_of(runs))
    assert runs.active() == [CAPTURE]
    assert runs.change(run(RunState.FAILED), version_of(runs))
    assert runs.active() == []


def test_a_change_that_is_not_told_adds_no_event(runs: Runs, client: redis.Redis) -> None:
    assert runs.create(run())
    assert runs.change(run(), version_of(runs), tell=False)
    assert client.xlen(names.events_key(CAPTURE)) == 1
    assert version_of(runs) == "2"


@pytest.mark.parametrize("state", [RunState.HOLDING, RunState.FAILED])
def test_all_keys_of_a_run_expire_together_and_the_set_of_active_runs_never(
    runs: Runs, client: redis.Redis, state: RunState
) -> None:
    """Each change keeps all of them for as long again, whoever made them; a run that goes on for as long as it may."""
    other = "01J" + CAPTURE[3:]
    assert runs.create(run().model_copy(update={"capture_id": other}))
    assert runs.create(run())
    for key in OTHERS[1:]:
        client.hset(key, "a", "b")
    for key in (names.run_key(CAPTURE), OTHERS[0]):
        client.expire(key, 5)
    assert runs.change(run(state), version_of(runs))
    left = [client.ttl(key) for key in (names.run_key(CAPTURE), *OTHERS)]
    most = RETENTION_S if state.ended else LONGEST_RUN_S
    assert [seconds for seconds in left if not most - 60 < seconds <= most] == []
    assert client.ttl(names.ACTIVE_RUNS_KEY) == -1


@pytest.mark.case("S7")
def test_an_epoch_follows_the_last_one_whatever_redis_s_clock_says(runs: Runs, client: redis.Redis) -> None:
    """The clock was years ahead, and was set back."""
    last = runs.next_epoch() + 10**14
    client.set(names.EPOCH_KEY, last)
    assert [runs.next_epoch() for _ in range(3)] == [last + 1, last + 2, last + 3]


@pytest.mark.parametrize("kept", [{"record": "{}"}, {"version": "1"}, {"record": "{}", "version": "1"}])
def test_half_a_record_is_no_run_and_is_not_absent(runs: Runs, client: redis.Redis, kept: dict[Any, Any]) -> None:
    assert not runs.is_there(CAPTURE)
    client.hset(names.run_key(CAPTURE), mapping=kept)
    assert runs.load(CAPTURE) is None
    assert runs.is_there(CAPTURE)


def test_a_record_without_a_version_cannot_be_changed_and_is_no_run(runs: Runs, client: redis.Redis) -> None:
    assert runs.create(run())
    client.hdel(names.run_key(CAPTURE), "version")
    assert runs.load(CAPTURE) is None


def test_nothing_is_known_any_more_of_a_run_that_another_orchestrator_has_ended(
    runs: Runs, client: redis.Redis
) -> None:
    """Nobody looks at it here: of a thousand hosts it would take tens of MB for as long as this process lives."""
    other, boards = Runs(client, RETENTION_S), Boards()
    assert runs.create(run())
    assert runs.load_with_answers(CAPTURE) is not None
    boards.followed[CAPTURE] = version_of(runs)
    assert other.change(run(RunState.FAILED), version_of(other))
    admission.sweep(client, boards, boards.read(client), runs.active())
    assert (runs._parsed, runs._told._records, runs._told._known, boards.followed) == ({}, {}, {}, {})


def test_what_is_known_of_a_run_that_goes_on_is_kept(runs: Runs) -> None:
    assert runs.create(run())
    assert runs.load_with_answers(CAPTURE) is not None
    assert runs.active() == [CAPTURE]
    assert runs._parsed.keys() == runs._told._records.keys() == runs._told._known.keys() == {CAPTURE}
