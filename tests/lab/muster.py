"""Captures that are kept between two of their steps, on real guests, so that something can be done to a guest meanwhile."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from freezeframe.contract import names
from freezeframe.contract.words import Step
from ops.lab.waiting import wait_for
from ops.system import System

#: Seconds for a step to be answered or begun.
STEP_S = 60.0

Begin = Callable[[], "subprocess.Popen[str]"]


@contextmanager
def prepared(system: System, begin: Begin) -> Iterator[subprocess.Popen[str]]:
    """Both hosts have prepared, and no hold is ordered yet. Leaving the block lets the capture go on."""
    with _stopped(system, "control@host-b"):
        capturing = begin()
        _wait(system, "host-a has prepared", lambda capture_id: _answered(system, capture_id, "host-a"))
        system.parts["orchestrator"].signal(signal.SIGSTOP)
    try:
        _wait(system, "host-b has prepared", lambda capture_id: _answered(system, capture_id, "host-b"))
        yield capturing
    finally:
        _go_on(system, "orchestrator")


@contextmanager
def mustering(system: System, begin: Begin, *, waits: str = "host-a") -> Iterator[subprocess.Popen[str]]:
    """One host waits at the muster for the other, and no guest is held. Leaving the block lets the other come."""
    (late,) = set(system.lab.hosts) - {waits}
    with prepared(system, begin) as capturing:
        system.parts[f"control@{late}"].signal(signal.SIGSTOP)
    try:
        _wait(system, f"{waits} musters", lambda capture_id: _musters(system, capture_id, waits))
        yield capturing
    finally:
        _go_on(system, f"control@{late}")


@contextmanager
def _stopped(system: System, part: str) -> Iterator[None]:
    system.parts[part].signal(signal.SIGSTOP)
    try:
        yield
    finally:
        _go_on(system, part)


def _go_on(system: System, name: str) -> None:
    part = system.parts[name]
    part.signal(signal.SIGCONT)
    part.process.send_signal(signal.SIGCONT)  # nsenter stops when its child is stopped


def _wait(system: System, what: str, reached: Callable[[str], bool]) -> None:
    """Wait until the one capture that is under way has come so far."""

    def has_come() -> bool:
        runs = cast("set[str]", system.redis.smembers(names.ACTIVE_RUNS_KEY))
        return any(reached(capture_id) for capture_id in runs)

    wait_for(what, has_come, STEP_S, 0.02)


def _answered(system: System, capture_id: str, host_id: str) -> bool:
    fields = cast("list[str]", system.redis.hkeys(names.results_key(capture_id)))
    return any(field.startswith(f"{Step.PREPARE}/{host_id}/") for field in fields)


def _musters(system: System, capture_id: str, host_id: str) -> bool:
    """Return True if the host has looked at its guests: their holds are in the journal, and no lease is there."""
    journals = (system.directory / host_id / "state" / "captures" / capture_id).glob("*/changes")
    return any('"change":"hold"' in journal.read_text() for journal in journals)
