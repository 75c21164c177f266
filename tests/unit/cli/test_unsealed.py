"""Captures that are not in the repository: what failed, or goes on, is shown from Redis by the verbs that advice names."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from freezeframe import bus as bus_module
from freezeframe.cli.following import StoppedFollowingError, follow
from freezeframe.cli.output import bytes_text
from freezeframe.cli.progress import Lines
from freezeframe.client import AnyEvent
from freezeframe.contract import names
from freezeframe.contract.event import Queued, StateEvent
from freezeframe.contract.fault import Fault
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings
from orchestrator.receipt import receipt_of
from orchestrator.run import Run as RunRecord
from orchestrator.run import Runs

from .manifests import capture_id, manifest_of
from .run import Run

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FAULT = Fault(code="no-agent", message="The agent of guest web does not answer.", advice="Start it.", exit_code=3)


@pytest.fixture
def runs(repository: Repository, bus: BusSettings) -> Iterator[Runs]:
    with closing(bus_module.connect(bus)) as client:
        yield Runs(client, 1000)


def kept(
    runs: Runs,
    number: int,
    state: RunState,
    *faults: Fault,
    group: str | None = None,
    warned: tuple[str, ...] = (),
    queued: Queued | None = None,
) -> None:
    """A run's record, as the orchestrator leaves it."""
    request = CaptureRequest(capture_id=capture_id(number), guests=("web",), group=group)
    run = RunRecord(
        capture_id=capture_id(number),
        request=request,
        asked_at=NOW,
        state=state,
        entered_at=NOW,
        due_at=NOW,
        faults=faults,
        warnings=warned,
        queued=queued,
    )
    if state.ended:
        run = run.model_copy(update={"receipt": receipt_of(run, NOW, None, ())})
    assert runs.create(run)


def test_the_advice_after_ctrl_c_shows_what_came_of_the_capture(run: Run, runs: Runs) -> None:
    def interrupted() -> Iterator[AnyEvent]:
        yield from ()
        raise KeyboardInterrupt

    with pytest.raises(StoppedFollowingError) as stopped:
        follow(interrupted(), Lines(bytes_text), capture_id(1))
    _, advised, _ = stopped.value.hint.split("`")
    kept(runs, 1, RunState.FAILED, FAULT)
    ran = run(*shlex.split(advised)[1:])
    assert ran.exit_code == 3
    for told in ("failed; nothing was kept", FAULT.message, "Start it."):
        assert told in ran.stdout


def test_a_capture_that_failed_is_told_to_programs(run: Run, runs: Runs) -> None:
    kept(runs, 1, RunState.FAILED, FAULT)
    ran = run("captures", "show", capture_id(1)[:24].lower(), "--json")
    assert ran.exit_code == 3
    assert (ran.document["capture_id"], ran.document["state"]) == (capture_id(1), "failed")
    assert ran.document["receipt"]["faults"] == [FAULT.model_dump(mode="json")]


IN_LINE = Queued(place=2, why="on host hv-1 4 captures are at work and 1 waits before it, and 4 may be at once")


def test_a_capture_that_waits_says_at_which_place_and_for_what(run: Run, runs: Runs) -> None:
    kept(runs, 1, RunState.QUEUED, queued=IN_LINE)
    ran = run("captures", "show", capture_id(1))
    assert ran.exit_code == 0
    assert f"queued: place 2, as {IN_LINE.why}" in " ".join(ran.stdout.split())
    assert run("captures", "show", capture_id(1), "--json").document["queued"] == IN_LINE.model_dump(mode="json")
    assert "queued …" in run("captures").stdout


def test_who_follows_a_capture_is_told_each_place_in_line() -> None:
    said: list[str] = []

    class Said(Lines):
        def say(self, text: str) -> None:
            said.append(text)

    def events() -> Iterator[AnyEvent]:
        for place in (2, 1):
            queued = IN_LINE.model_copy(update={"place": place})
            yield StateEvent(capture_id=capture_id(1), at=NOW, state=RunState.QUEUED, queued=queued)
        raise KeyboardInterrupt

    with pytest.raises(StoppedFollowingError):
        follow(events(), Said(bytes_text), capture_id(1))
    assert said == [f"queued: place {place}, as {IN_LINE.why}" for place in (2, 1)]


def test_a_capture_that_goes_on_is_shown_as_it_stands(run: Run, runs: Runs) -> None:
    kept(runs, 1, RunState.TRANSFERRING, FAULT)
    ran = run("captures", "show", capture_id(1))
    assert ran.exit_code == 0
    for told in ("transferring", "web", FAULT.message):
        assert told in ran.stdout
    assert run("captures", "show", capture_id(1), "--json").document["receipt"] is None


def test_a_capture_that_waits_tells_what_for(run: Run, runs: Runs) -> None:
    kept(runs, 1, RunState.SEALING, warned=("The manifest could not be written to the repository at /srv.",))
    ran = run("captures", "show", capture_id(1))
    assert "warning: The manifest could not be written to the repository at /srv." in ran.stdout
    document = run("captures", "show", capture_id(1), "--json").document
    assert document["warnings"] == ["The manifest could not be written to the repository at /srv."]


def test_failed_captures_are_mentioned_and_listed_when_asked_for(run: Run, runs: Runs, repository: Repository) -> None:
    kept(runs, 1, RunState.FAILED, FAULT, group="g1")
    assert "No captures.\nA capture has failed lately: `freezeframe captures --failed`" in run("captures").stdout
    kept(runs, 2, RunState.FAILED, FAULT)
    repository.write_manifest(manifest_of(repository, capture_id(3)))
    plain = run("captures").stdout
    assert "2 captures have failed lately" in plain
    assert f"freezeframe captures show {capture_id(2)}" in plain
    listed = run("captures", "--failed").stdout
    assert [one in listed for one in (capture_id(1), capture_id(2), capture_id(3))] == [True] * 3
    assert "failed lately" not in listed
    document = run("captures", "--json").document
    assert [one["capture_id"] for one in document["failed"]] == [capture_id(2), capture_id(1)]
    assert [one["capture_id"] for one in document["captures"]] == [capture_id(3)]
    filtered = run("captures", "--group", "g1", "--json").document
    assert [one["capture_id"] for one in filtered["failed"]] == [capture_id(1)]


def test_what_was_sealed_or_done_is_not_among_the_failed(run: Run, runs: Runs, repository: Repository) -> None:
    """A capture that is done and not in the repository was forgotten: it is not found, as before."""
    kept(runs, 1, RunState.FAILED, FAULT)
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    kept(runs, 2, RunState.DONE)
    document = run("captures", "--json").document
    assert (document["failed"], document["active"]) == ([], [])
    assert run("captures", "show", capture_id(1), "--json").document["guests"]
    ran = run("captures", "show", capture_id(2), "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (4, "capture-not-found")


def test_the_proof_of_what_was_not_sealed(run: Run, runs: Runs) -> None:
    kept(runs, 1, RunState.FAILED, FAULT)
    ran = run("captures", "show", capture_id(1), "--proof", "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (4, "no-proof")
    assert ran.document["error"]["advice"] == f"freezeframe captures show {capture_id(1)}"


@pytest.mark.parametrize("word", ["01ZZ", "*", "latest", "01HZ?", capture_id(9), ""])
def test_what_nobody_knows_is_not_found(run: Run, runs: Runs, word: str) -> None:
    kept(runs, 1, RunState.FAILED, FAULT)
    ran = run("captures", "show", word, "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (4, "capture-not-found")


def test_the_beginning_of_two(run: Run, runs: Runs) -> None:
    kept(runs, 1, RunState.FAILED, FAULT)
    kept(runs, 2, RunState.FAILED, FAULT)
    ran = run("captures", "show", capture_id(1)[:24], "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (4, "ambiguous-run")


def test_a_record_of_a_newer_version_is_not_absent(run: Run, runs: Runs, bus: BusSettings) -> None:
    with closing(bus_module.connect(bus)) as client:
        client.hset(names.run_key(capture_id(1)), "record", '{"v": 2}')
    ran = run("captures", "show", capture_id(1), "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (1, "newer-run")


UNREAD = [
    (json.dumps({"v": 2, "state": "holding-more", "request": {}}), "was written by a newer version (format 2)"),
    (json.dumps({"state": "holding-more", "request": {}}), "its record cannot be read here"),
    ("[", "its record cannot be read here"),
    ("[" * 100_000, "its record cannot be read here"),
    ("[]", "its record cannot be read here"),
    (json.dumps({"v": "2"}), "its record cannot be read here"),
    (None, "Redis has lost its record"),
]


@pytest.mark.parametrize(("record", "why"), UNREAD)
@pytest.mark.parametrize("options", [("--group", "other"), ("--failed", "--json")])
def test_a_run_that_cannot_be_read_is_listed_as_such(  # advice relies upon it: "see that no capture of the guest runs"
    run: Run, runs: Runs, bus: BusSettings, options: tuple[str, ...], record: str | None, why: str
) -> None:
    kept(runs, 2, RunState.FAILED, FAULT)
    with closing(bus_module.connect(bus)) as client:
        client.sadd(names.ACTIVE_RUNS_KEY, capture_id(1))
        if record is not None:
            client.hset(names.run_key(capture_id(1)), mapping={"record": record, "version": "1"})
    ran = run("captures", *options)
    assert ran.exit_code == 0
    [line] = ran.stderr.splitlines()
    assert line.startswith(f"warning: Capture {capture_id(1)} is under way, and ")
    assert why in line
    assert "Install the orchestrator's version of freezeframe here (`freezeframe version`)." in line
    if "--json" in options:
        [told] = ran.document["unread"]
        assert (told["capture_id"], told["active"]) == (capture_id(1), True)
        assert why in told["why"]
        assert [one["capture_id"] for one in ran.document["failed"]] == [capture_id(2)]
    else:
        assert "No captures." not in ran.stdout


def test_a_run_that_has_ended_and_cannot_be_read_is_listed_as_such(run: Run, runs: Runs, bus: BusSettings) -> None:
    with closing(bus_module.connect(bus)) as client:
        client.hset(names.run_key(capture_id(1)), "record", '{"v": 2}')
    assert f"Capture {capture_id(1)} has ended, and its record was written by a newer version" in run("captures").stderr
    assert [one["active"] for one in run("captures", "--json").document["unread"]] == [False]


def test_a_run_that_cannot_be_read_and_whose_capture_is_there_is_no_matter(
    run: Run, runs: Runs, bus: BusSettings, repository: Repository
) -> None:
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    with closing(bus_module.connect(bus)) as client:
        client.hset(names.run_key(capture_id(1)), "record", '{"v": 2}')
    ran = run("captures", "--json")
    assert (ran.document["unread"], ran.stderr) == ([], "")


def test_without_redis_it_is_not_known(run: Run, repository: Repository, no_bus: None) -> None:
    """And not absent: a script must not take a capture that goes on for one that never was."""
    ran = run("captures", "show", capture_id(1), "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (6, "unreachable")
    message = ran.document["error"]["message"]
    assert f"There is no capture '{capture_id(1)}' in {repository.address}." in message
    assert "has failed is not known: Redis does not answer" in message
    assert run("captures").stdout == "The repository has no captures.\n"


@pytest.mark.parametrize("word", ["latest", "web", "*"])
def test_without_redis_what_is_no_id_is_not_found(run: Run, repository: Repository, no_bus: None, word: str) -> None:
    ran = run("captures", "show", word, "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (4, "capture-not-found")


@pytest.mark.parametrize("word", [capture_id(1), capture_id(1)[:20].lower(), "latest"])
@pytest.mark.parametrize("options", [(), ("--json",), ("--proof",), ("--proof", "--json")])
def test_without_redis_what_the_repository_has_is_shown(
    run: Run, repository: Repository, no_bus: None, word: str, options: tuple[str, ...]
) -> None:
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    ran = run("captures", "show", word, *options)
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert capture_id(1) in ran.stdout


@pytest.mark.parametrize("asked", [(), ("--failed",)])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_runs_that_are_not_known_are_not_none(
    run: Run, repository: Repository, no_bus: None, asked: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """Advice says: see that no capture of the guest runs (`freezeframe captures`), then move the file away."""
    ran = run("captures", *asked, *options)
    assert ran.exit_code == 0
    assert "Captures that have failed, or are on their way, are not known: Redis does not answer" in ran.stderr
    if options:
        assert [ran.document[one] for one in ("active", "failed", "unread", "captures")] == [None, None, None, []]
    else:
        assert ran.stdout == "The repository has no captures.\n"


WAITS = "The manifest could not be written to the repository at /srv: it has not answered for 120 s."


@pytest.mark.parametrize("state", [RunState.SEALING, RunState.FAILED])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_while_the_repository_is_away_a_run_is_shown_as_it_stands(
    run: Run, runs: Runs, repository: Repository, state: RunState, options: tuple[str, ...]
) -> None:
    """It waits for its seal because of that, and the advice after Ctrl-C names this verb."""
    kept(runs, 1, state, *((FAULT,) if state.ended else ()), warned=(WAITS,))
    Path(repository.address).rename(Path(repository.address).with_name("elsewhere"))
    ran = run("captures", "show", capture_id(1)[:24], *options)
    assert ran.exit_code == (FAULT.exit_code if state.ended else 0)
    assert "warning: This is what Redis has; the repository does not answer here: " in ran.stderr
    assert WAITS in (str(ran.document) if options else ran.stdout)


@pytest.mark.parametrize("state", [RunState.DONE, None])
@pytest.mark.parametrize("options", [(), ("--proof",)])
def test_while_the_repository_is_away_what_only_it_can_show_is_its_error(
    run: Run, runs: Runs, repository: Repository, state: RunState | None, options: tuple[str, ...]
) -> None:
    if state:
        kept(runs, 1, state)
    Path(repository.address).rename(Path(repository.address).with_name("elsewhere"))
    ran = run("captures", "show", capture_id(1), "--json", *options)
    assert (ran.exit_code, ran.document["error"]["code"]) == (5, "repository-not-found")


def test_without_both_the_repository_s_error_is_told(run: Run, repository: Repository, no_bus: None) -> None:
    Path(repository.address).rename(Path(repository.address).with_name("elsewhere"))
    ran = run("captures", "show", capture_id(1), "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (5, "repository-not-found")


def test_damage_is_told_whatever_redis_has(run: Run, runs: Runs, repository: Repository) -> None:
    kept(runs, 1, RunState.FAILED, FAULT)
    place = Path(repository.address, repository.objects.protection.manifest_name(capture_id(1)))
    place.write_bytes(b"{}")
    ran = run("captures", "show", capture_id(1), "--json")
    assert ran.document["error"]["code"] == "manifest-damaged"


def test_a_run_that_ends_while_runs_are_listed_is_listed_as_what_it_has_ended_as(
    run: Run, runs: Runs, repository: Repository
) -> None:
    """The ids of active runs are read first, the records last: one that was sealed in between was listed as failed."""
    for number, state in enumerate((RunState.DONE, RunState.FAILED, RunState.SEALING), 1):
        kept(runs, number, state)
        runs._redis.sadd(names.ACTIVE_RUNS_KEY, capture_id(number))
    document = run("captures", "--json").document
    assert [one["capture_id"] for one in document["active"]] == [capture_id(3)]
    assert [one["capture_id"] for one in run("captures", "--failed", "--json").document["failed"]] == [capture_id(2)]
