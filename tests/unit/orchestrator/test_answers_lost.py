"""A Redis that loses what hosts answered while a run is about to be sealed: all guests are sealed that it keeps, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import redis
from redis.client import Pipeline

from freezeframe.contract import names
from freezeframe.contract.result import PrepareResult
from freezeframe.contract.words import Policy, RunState, Step
from freezeframe.repository import Repository
from orchestrator.answers import Answers
from orchestrator.errors import AnswersLostError
from orchestrator.look import Orchestrator
from orchestrator.run import Run
from orchestrator.seal import manifest_of
from tests.unit.orchestrator.one_run import CAPTURE, Sent, hold, prepare, transfer
from tests.unit.orchestrator.telling import definitions_of
from tests.unit.repository.samples import GUEST, OTHER_GUEST


@pytest.fixture
def transferred(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> Orchestrator:
    """All answers are there, and no look has seen the last of them."""
    prepare(orchestrator)
    hold(orchestrator)
    with monkeypatch.context() as unseen:
        unseen.setattr(Orchestrator, "look", lambda one, capture_id: one.runs.load(capture_id)[0])
        transfer(orchestrator)
    return orchestrator


def guests_of(repository: Repository) -> list[list[str]]:
    return [[guest.guest_uuid for guest in manifest.guests] for manifest in repository.manifests()]


class Emptied:
    """A Redis that is emptied when it has answered so many calls of a look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, client: redis.Redis, after: int) -> None:
        self.calls = 0
        self._after = after
        self._command: Callable[..., Any] = redis.Redis.execute_command
        self._execute: Callable[..., Any] = Pipeline.execute
        self._empty: Callable[[], object] = lambda: self._command(client, "FLUSHALL")
        monkeypatch.setattr(
            redis.Redis, "execute_command", lambda *words, **more: self._call(self._command, *words, **more)
        )
        monkeypatch.setattr(Pipeline, "execute", lambda *words, **more: self._call(self._execute, *words, **more))

    def _call(self, call: Callable[..., Any], *words: Any, **more: Any) -> Any:
        answer = call(*words, **more)
        self.calls += 1
        if self.calls == self._after:
            self._empty()
        return answer


def calls_of_a_look(orchestrator: Orchestrator) -> int:
    with pytest.MonkeyPatch.context() as counting:
        counter = Emptied(counting, orchestrator.redis, after=-1)
        orchestrator.look(CAPTURE)
    return counter.calls


def test_a_look_seals_when_nothing_is_lost(transferred: Orchestrator) -> None:
    assert calls_of_a_look(transferred) >= 4
    assert guests_of(transferred.repository) == [[GUEST]]


@pytest.mark.parametrize("after", range(1, 16))
def test_a_redis_that_is_emptied_at_any_moment_of_the_look_leaves_no_capture_of_fewer_guests(
    transferred: Orchestrator, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The run was read, Redis was emptied, and no answers were read: a capture of no guest was sealed, without a word."""
    emptied = Emptied(monkeypatch, transferred.redis, after)
    transferred.look(CAPTURE)
    assert guests_of(transferred.repository) in ([], [[GUEST]])
    assert emptied.calls > 0


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("lost", [Step.PREPARE, Step.HOLD, Step.TRANSFER, "definitions", None])
def test_where_answers_alone_are_gone_nothing_is_sealed_and_it_is_told(
    transferred: Orchestrator, sent: Sent, lost: Step | str | None, policy: Policy
) -> None:
    """Evicted, or deleted by hand, once the run has come to its seal; hosts put theirs back one by one."""
    run, version = transferred.runs.load(CAPTURE) or pytest.fail("no run")
    request = run.request.model_copy(update={"policy": policy})
    sealing = run.model_copy(update={"state": RunState.SEALING, "request": request})
    transferred.runs.change(sealing, version, tell=False)
    key = names.results_key(CAPTURE)
    gone = [
        field
        for field in cast("list[str]", transferred.redis.hkeys(key))
        if lost is None or field.startswith(f"{lost}/")
    ]
    if gone:
        transferred.redis.hdel(key, *gone)
    if lost in {"definitions", None}:
        transferred.redis.delete(names.definitions_key(CAPTURE))
    ended = transferred.look(CAPTURE)
    assert ended is not None
    assert [fault.code for fault in ended.faults] == ["answers-lost"]
    assert "noeviction" in ended.faults[0].advice
    assert guests_of(transferred.repository) == []


def kept(run: Run, *guests: str) -> Run:
    return run.model_copy(update={"kept": guests})


def made_of(orchestrator: Orchestrator, run: Run, answers: Answers) -> list[str]:
    definitions = definitions_of(*answers.prepared)
    made = manifest_of(run, answers.prepared, answers.held, answers.transferred, answers.seen, definitions)
    return [guest.guest_uuid for guest in made.guests]


def test_a_manifest_has_each_guest_that_is_kept_once_and_no_other(transferred: Orchestrator) -> None:
    run, _, answers = transferred.runs.load_with_answers(CAPTURE) or pytest.fail("no run")
    assert made_of(transferred, kept(run, GUEST), answers) == [GUEST]
    assert made_of(transferred, kept(run), answers) == []
    with pytest.raises(AnswersLostError, match=OTHER_GUEST):
        made_of(transferred, kept(run, GUEST, OTHER_GUEST), answers)
    with pytest.raises(AnswersLostError, match=GUEST):
        made_of(transferred, kept(run, GUEST), Answers())
    elsewhere = PrepareResult(capture_id=CAPTURE, host_id="host-b", guests=answers.prepared[0].guests)
    twice = Answers((*answers.prepared, elsewhere), answers.held, answers.transferred)
    with pytest.raises(AnswersLostError, match="twice"):
        made_of(transferred, kept(run, GUEST), twice)


def test_a_run_and_its_results_are_read_as_of_one_moment(transferred: Orchestrator) -> None:
    loaded = transferred.runs.load_with_answers(CAPTURE)
    assert loaded is not None
    assert loaded[:2] == transferred.runs.load(CAPTURE)
    assert {field.partition("/")[0] for field in loaded[2].fields} == {Step.PREPARE, Step.HOLD, Step.TRANSFER}
    transferred.redis.delete(names.run_key(CAPTURE))
    assert transferred.runs.load_with_answers(CAPTURE) is None
