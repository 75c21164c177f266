"""The version that landed last and this one take turns with a capture in each state: an upgrade, and the way back (B3).

    ask ─▶ … ─▶ a state         by one version, with hosts of that version
    from there to its end       by the other, with hosts that are still of the first, or already of the other one

Whatever becomes of a capture, it ends and is told; its hosts are told to let go; no session stays open; and it has a manifest
if and only if it is done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest
from ulid import ULID

from freezeframe.repository import Repository
from tests.unit.orchestrator.versions import program

pytestmark = [pytest.mark.case("B3"), pytest.mark.timeout(240)]

BEFORE = Path(program.__file__).with_name("de9f8dd.zip")
ROOT = Path(__file__).parents[3]
#: The steps of the path, and the state that a run is in once the step before has been answered.
STEPS = {"preparing": "prepare", "holding": "hold", "transferring": "transfer", "releasing": "release"}


class Process:
    """One version of the program."""

    def __init__(self, path: Path, *words: str) -> None:
        env = {**os.environ, "PYTHONPATH": str(path)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", program.__file__, *words],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        self.file: str = self._read()

    def __call__(self, words: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()
        return self._read()["gave"]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class Versions:
    """Both, on one Redis and one repository."""

    def __init__(self, old: Process, new: Process) -> None:
        self.of = {"old": old, "new": new}


@pytest.fixture
def versions(redis_url: str, tmp_path: Path) -> Iterator[Versions]:
    Repository.init(tmp_path / "repository", chunk_bytes=program.CHUNK)
    words = (redis_url, str(tmp_path / "repository"), str(ULID()))
    with ExitStack() as stack:
        old, new = (stack.enter_context(Process(path, *words)) for path in (BEFORE, ROOT))
        assert (old.file.startswith(f"{BEFORE}/"), new.file.startswith(f"{ROOT}/freezeframe")) == (True, True)
        yield Versions(old, new)


def reach(version: Process, state: str) -> None:
    """Have one version bring its capture to a state, with hosts of its own."""
    version("publish")
    version("ask")
    for one, step in STEPS.items():
        if version("state")["state"] == state:
            return
        assert version("state")["state"] == one
        version(f"answer {step}")
        version("look")
    assert version("state")["state"] == state


def finish(orchestrator: Process, host: Process) -> list[str]:
    """Have an orchestrator bring the capture to its end with a host that answers what it is asked; the tasks that it sent."""
    sent: list[str] = []
    for _ in range(8):
        orchestrator("reconcile")
        found = orchestrator("state")
        if not found["active"]:
            break
        orders = orchestrator("orders")
        sent += orders
        if found["state"] in STEPS:
            host(f"answer {STEPS[found['state']]}")
    return sent


def check_end(orchestrator: Process) -> dict[str, Any]:
    found: dict[str, Any] = orchestrator("state")
    assert (found["active"], found["told"], found["session"]) == (False, True, False)
    assert found["sealed"] == (found["state"] == "done")
    assert "unexpected" not in found["faults"]
    return found


#: What becomes of a capture: with hosts that are still of the version before, and with hosts that were replaced too. Between
#: these two versions the answer to a hold has changed, so one that only the other can read ends a capture.
BECOMES = {
    ("old", "new", "preparing"): ("unreadable-answer", "done"),
    ("old", "new", "holding"): ("unreadable-answer", "answers-lost"),  # no definition: hosts did not tell it apart
    ("old", "new", "transferring"): ("unreadable-answer", "unreadable-answer"),
    ("old", "new", "releasing"): ("done", "done"),
    ("new", "old", "preparing"): ("unreadable-answer", "done"),
    ("new", "old", "holding"): ("unreadable-answer", "answers-lost"),
    ("new", "old", "transferring"): ("answers-lost", "answers-lost"),
    ("new", "old", "releasing"): ("done", "done"),
}


@pytest.mark.parametrize("hosts", ["of before", "replaced too"])
@pytest.mark.parametrize(("first", "then", "state"), BECOMES)
def test_a_capture_in_each_state_ends_properly_with_the_other_version(
    versions: Versions, first: str, then: str, state: str, hosts: str
) -> None:
    before, after = versions.of[first], versions.of[then]
    reach(before, state)
    sent = before("orders")
    sent += finish(after, before if hosts == "of before" else after)
    found = check_end(after)
    assert [found["state"], *found["faults"]] in (
        ["done"],
        ["failed", BECOMES[first, then, state][hosts != "of before"]],
    )
    assert (found["state"] == "done") == (BECOMES[first, then, state][hosts != "of before"] == "done")
    assert "host.release" in sent


@pytest.mark.parametrize("state", ["preparing", "holding", "transferring", "releasing"])
@pytest.mark.parametrize(("first", "then"), [("old", "new"), ("new", "old")])
def test_a_capture_whose_hosts_do_not_answer_the_other_version_ends_when_its_time_is_over(
    versions: Versions, first: str, then: str, state: str
) -> None:
    before, after = versions.of[first], versions.of[then]
    reach(before, state)
    before("orders")
    sent: list[str] = []
    for _ in range(4):
        after("late")
        after("reconcile")
        sent += after("orders")
    found = check_end(after)
    if state == "releasing":
        assert found["state"] == "done"
    else:
        assert found["state"] == "failed"
        assert "host.release" in sent


@pytest.mark.parametrize("state", ["asked", "queued"])
def test_a_capture_that_the_version_before_cannot_know_is_left_alone_and_goes_on_later(
    versions: Versions, state: str
) -> None:
    """A downgrade, and the way back. No host has heard of it."""
    old, new = versions.of["old"], versions.of["new"]
    new("publish")
    new(f"record {state}")
    for _ in range(2):
        old("reconcile")
    found = old("state")
    assert (found["state"], found["active"], found["told"], old("orders")) == (None, True, False, [])
    assert new("state")["state"] == state
    new("publish")
    finish(new, new)
    assert check_end(new)["state"] == "done"
