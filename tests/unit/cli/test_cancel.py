"""`freezeframe captures cancel`, against a fake orchestrator on a real Redis."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from freezeframe import bus as bus_module
from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState
from freezeframe.settings import BusSettings
from orchestrator.run import Run as RunRecord
from orchestrator.run import Runs

from .orchestra import NOW, end, state
from .run import Run

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
REQUEST = CaptureRequest(capture_id=CAPTURE, guests=("db1",))
CANCELLED = Fault(code="cancelled", message="It was cancelled by ana@desk.")


def begin(bus: BusSettings, at: RunState = RunState.TRANSFERRING) -> None:
    """Put a run into Redis as the orchestrator has it."""
    record = RunRecord(capture_id=CAPTURE, request=REQUEST, asked_at=NOW, state=at, entered_at=NOW, due_at=NOW)
    if at.ended:
        record = record.model_copy(update={"receipt": end(REQUEST, at).receipt})
    with contextlib.closing(bus_module.connect(bus)) as client:
        assert Runs(client, 3600).create(record)


@contextlib.contextmanager
def ending(bus: BusSettings, how: RunState, *faults: Fault, losing: int = 0) -> Iterator[queue.Queue[Any]]:
    """Take a request to cancel, after those that are lost, and tell that the run has ended so: `done` if there is none."""
    taken: queue.Queue[Any] = queue.Queue()
    stop = threading.Event()

    def play() -> None:
        with (
            bus_module.celery_app("orchestrator", bus).connection_for_read() as connection,
            connection.SimpleQueue(names.ORCHESTRATOR_QUEUE) as waiting,
            contextlib.closing(bus_module.connect(bus)) as client,
        ):
            left, last = losing, end(REQUEST, how, *faults)
            while not stop.is_set() and left >= 0:
                try:
                    message = waiting.get(timeout=10.0 if left < losing else 0.2)
                except queue.Empty:
                    if left == losing:
                        continue
                    left, last = -1, end(REQUEST, RunState.DONE)
                else:
                    left -= 1
                    message.ack()
                    taken.put((message.headers["task"], message.payload[0]))
            for told in (state(REQUEST, RunState.RELEASING), last):
                client.xadd(names.events_key(CAPTURE), {"event": told.model_dump_json()})

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield taken
    finally:
        stop.set()
        thread.join()


def test_it_is_asked_for_with_a_name_and_waited_for(run: Run, bus: BusSettings) -> None:
    begin(bus)
    with ending(bus, RunState.FAILED, CANCELLED) as taken:
        ran = run("captures", "cancel", CAPTURE[:12].lower())
    assert (ran.exit_code, ran.stdout) == (0, f"Capture {CAPTURE} was cancelled; nothing of it is kept.\n")
    task, (capture_id, who) = taken.get_nowait()
    assert (task, capture_id) == (names.CANCEL_TASK, CAPTURE)
    assert "@" in who


def test_a_request_to_cancel_that_an_orchestrator_has_taken_with_it_is_asked_again(
    run: Run, bus: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks are acknowledged before they are done: it is on no queue any more."""
    monkeypatch.setattr("freezeframe.cli.cancel.AGAIN_S", 0.0)
    begin(bus)
    with ending(bus, RunState.FAILED, CANCELLED, losing=1) as taken:
        ran = run("captures", "cancel", CAPTURE)
    assert (ran.exit_code, ran.stdout) == (0, f"Capture {CAPTURE} was cancelled; nothing of it is kept.\n")
    assert taken.get_nowait() == taken.get_nowait()


def test_a_program_gets_the_receipt(run: Run, bus: BusSettings) -> None:
    begin(bus)
    with ending(bus, RunState.FAILED, CANCELLED):
        ran = run("captures", "cancel", CAPTURE, "--json")
    assert ran.exit_code == 0
    assert (ran.document["state"], ran.document["faults"][0]["code"]) == ("failed", "cancelled")


def test_one_that_was_sealed_meanwhile_stays(run: Run, bus: BusSettings) -> None:
    begin(bus)
    with ending(bus, RunState.DONE):
        ran = run("captures", "cancel", CAPTURE)
    assert ran.exit_code == 3
    assert "was sealed before it could be cancelled" in ran.stderr
    assert f"freezeframe forget {CAPTURE}" in ran.stderr


def test_one_that_fails_of_another_cause_says_so(run: Run, bus: BusSettings) -> None:
    begin(bus)
    with ending(bus, RunState.FAILED, Fault(code="agent", message="No answer.")):
        ran = run("captures", "cancel", CAPTURE)
    assert ran.exit_code == 0
    assert "had failed before it could be cancelled" in ran.stdout


def test_who_does_not_wait_is_told_where_to_look(run: Run, bus: BusSettings) -> None:
    begin(bus)
    ran = run("captures", "cancel", CAPTURE, "--no-wait")
    assert ran.exit_code == 0
    assert f"freezeframe captures show {CAPTURE}" in ran.stdout


@pytest.mark.parametrize("at", [RunState.DONE, RunState.FAILED])
def test_one_that_has_ended_is_refused(run: Run, bus: BusSettings, at: RunState) -> None:
    begin(bus, at)
    ran = run("captures", "cancel", CAPTURE)
    assert ran.exit_code == 3
    assert f"has ended already: it is {at}" in ran.stderr


def test_one_that_nobody_knows_is_not_found_and_nothing_is_asked(run: Run, bus: BusSettings) -> None:
    ran = run("captures", "cancel", "01JZZ")
    assert ran.exit_code == 4
    assert "01JZZ" in ran.stderr
    with contextlib.closing(bus_module.connect(bus)) as client:
        assert client.llen(names.ORCHESTRATOR_QUEUE) == 0
