"""A seal that waits for the storage says so: to the caller and in the log once for each reason, and in the receipt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import NoReturn, cast

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from freezeframe.contract import names
from freezeframe.contract.event import Event, WarningEvent
from freezeframe.contract.words import RunState
from freezeframe.repository import Manifest, Repository
from freezeframe.repository.errors import (
    RepositoryFull,
    RepositoryNotFound,
    RepositoryNotReadable,
    RepositoryNotWritable,
)
from orchestrator import look, reconcile, seal_wait
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from tests.unit.orchestrator.one_run import CAPTURE, hold, prepare, release, transfer
from tests.unit.orchestrator.test_apart import Server, sealing, server
from tests.unit.orchestrator.test_seal_state import change, run_of

__all__ = ["server"]  # a fixture


def raising(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


def warned(orchestrator: Orchestrator) -> list[str]:
    entries = cast("list[tuple[str, dict[str, str]]]", orchestrator.redis.xrange(names.events_key(CAPTURE)))
    events = [Event.model_validate_json(entry["event"]).root for _, entry in entries]
    return [one.text for one in events if isinstance(one, WarningEvent)]


def troubles() -> float:
    return REGISTRY.get_sample_value("freezeframe_run_troubles_total") or 0.0


@pytest.mark.case("R7")
def test_a_seal_that_waits_tells_each_reason_once(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    before = troubles()
    with capture_logs() as logged, monkeypatch.context() as away:
        away.setattr(Repository, "seal", raising(RepositoryFull("No space is left.")))
        transfer(orchestrator)
        for _ in range(3):
            assert orchestrator.look(CAPTURE)
        away.setattr(Repository, "seal", raising(OSError(116, "Stale file handle")))
        for _ in range(3):
            assert orchestrator.look(CAPTURE)
    due_at = run_of(orchestrator).due_at
    for text, said in zip(warned(orchestrator), ("No space is left.", "Stale file handle"), strict=True):
        for word in (said, orchestrator.repository.address, f"until {due_at:%Y-%m-%d %H:%M} UTC"):
            assert word in text
    assert "Free space there" in warned(orchestrator)[0]
    assert [one["why"] for one in logged if one["log_level"] in {"warning", "error"}] == warned(orchestrator)
    assert run_of(orchestrator).warnings == tuple(warned(orchestrator))
    assert troubles() - before == 7
    assert orchestrator.look(CAPTURE)
    receipt = release(orchestrator).receipt
    assert receipt is not None
    assert (receipt.state, receipt.warnings) == (RunState.DONE, tuple(warned(orchestrator)))


def test_words_that_are_new_each_time_are_told_a_few_times(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    count = 0

    def seal(_: Repository, __: Manifest) -> NoReturn:
        nonlocal count
        count += 1
        raise RepositoryNotWritable(f"Request {count} was refused.")

    monkeypatch.setattr(Repository, "seal", seal)
    transfer(orchestrator)
    for _ in range(3 * seal_wait.MOST_REASONS):
        orchestrator.look(CAPTURE)
    assert len(warned(orchestrator)) == seal_wait.MOST_REASONS


def test_warnings_of_other_things_keep_no_reason_from_being_told(orchestrator: Orchestrator) -> None:
    others = tuple(f"Guest web{number} has no agent." for number in range(2 * seal_wait.MOST_REASONS))
    run = change(orchestrator, state=RunState.SEALING, warnings=others)
    text = seal_wait.trouble(RepositoryFull("It is full."), orchestrator.repository.address, run.due_at)
    seal_wait.tell(orchestrator.runs, run, text)
    assert run_of(orchestrator).warnings == (*others, text)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (RepositoryFull("It is full."), "Free space there, or extend it."),
        (RepositoryNotFound("It is gone."), "Check that its file system is mounted on the orchestrator's host."),
        (RepositoryNotReadable("No.", advice="Look at the server."), "Look at the server."),
        (OSError("Stale"), RepositoryNotWritable.advice),
    ],
)
def test_the_advice_is_for_who_may_still_save_the_capture(
    orchestrator: Orchestrator, error: Exception, advice: str
) -> None:
    """Not to capture again, and never to make a new repository in a mount point that is empty."""
    text = seal_wait.trouble(error, "/srv/captures", run_of(orchestrator).due_at)
    assert text.endswith(f". {advice}")
    assert text.startswith("The manifest had to wait for the repository at /srv/captures, until ")
    assert "repo init" not in text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RepositoryFull("It is full."), "It is full. "),
        (RepositoryFull("No space in /srv"), "No space in /srv. "),
        (OSError(116, "Stale file handle"), "OSError: [Errno 116] Stale file handle. "),
        (OSError("Look at /srv/.."), "OSError: Look at /srv/... "),  # its last word may be a name
    ],
)
def test_what_the_storage_said_is_one_sentence(orchestrator: Orchestrator, error: Exception, said: str) -> None:
    text = seal_wait.trouble(error, "/srv", run_of(orchestrator).due_at)
    assert text.partition(" at the longest: ")[2].startswith(said)


def test_a_seal_that_fails_for_long_is_not_told_as_one_that_does_not_answer(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    monkeypatch.setattr(Repository, "seal", raising(RepositoryFull("No space is left.")))
    told = transfer(orchestrator)
    assert told.state is RunState.SEALING
    change(orchestrator, entered_at=told.entered_at - timedelta(seconds=seal_wait.HANGS_S + 1))
    Reconciler(orchestrator).reconcile()
    [text] = warned(orchestrator)
    assert "No space is left." in text


def test_a_seal_that_does_not_come_back_is_told_while_it_hangs(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    """A network file system whose server is away raises nothing."""
    sealing(orchestrator, monkeypatch, server)
    told = warned(orchestrator)
    monkeypatch.setattr(look, "SEAL_S", 600.0)
    monkeypatch.setattr(reconcile, "LOOK_S", 0.05)
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    assert server.waiting
    assert warned(orchestrator) == told
    long_ago = run_of(orchestrator).entered_at - timedelta(seconds=seal_wait.HANGS_S)
    change(orchestrator, entered_at=long_ago)
    for _ in range(3):
        reconciler.reconcile()
    [text] = warned(orchestrator)[len(told) :]
    assert f"it has not answered for {seal_wait.HANGS_S:.0f} s" in text
    assert orchestrator.repository.address in text


def test_a_run_that_does_not_seal_any_more_is_not_warned(orchestrator: Orchestrator) -> None:
    """The look that hung ends it just then."""
    run = change(orchestrator, state=RunState.SEALING)
    change(orchestrator, state=RunState.RELEASING)
    seal_wait.tell(orchestrator.runs, run, "The manifest could not be written to it.")
    assert run_of(orchestrator).warnings == ()
    assert seal_wait.hanging(run_of(orchestrator), "/srv", run.entered_at + timedelta(days=1)) is None


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_what_a_shortage_was_is_kept_for_the_log(error: Exception) -> None:
    assert seal_wait.passing(error).__cause__ is error
