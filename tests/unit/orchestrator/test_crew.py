"""Work that hangs keeps the threads that take in requests, and other kinds of work, from nothing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from celery.exceptions import WorkerShutdown
from ulid import ULID

from freezeframe import heartbeat
from freezeframe.contract.request import CaptureRequest
from freezeframe.repository import Repository
from orchestrator import app, metrics
from orchestrator.crew import Crew
from orchestrator.intake import cancel_patiently, take_in
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from tests.unit.orchestrator.one_run import CAPTURE

LONG_S = 30.0
THREADS = {"plan": 8, "look": 16, "cancel": 4}


def finish(crew: Crew) -> None:
    """Return when the crew has done all its work."""
    crew.end()
    for thread in crew._threads:
        thread.join(LONG_S)
        assert not thread.is_alive()


class Hanging:
    """A call that hangs until it is let go."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.begun = threading.Semaphore(0)

    def __call__(self, *_: object) -> tuple[str, ...]:
        self.begun.release()
        self.back.wait(LONG_S)
        return ()

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self.begun.acquire(timeout=LONG_S)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.back.set()


def states(orchestrator: Orchestrator, ids: list[str]) -> Counter[str]:
    loaded = [orchestrator.runs.load(one) for one in ids]
    return Counter(str(one[0].state) for one in loaded if one is not None)


def test_plans_that_hang_delay_other_plans_and_nothing_else(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, hanging: Hanging
) -> None:
    """Eight of them had all threads: requests after them were lost after 30 s, and a cancel waited for the repository."""
    with monkeypatch.context() as away:
        away.setattr(Repository, "capture_ids", hanging)
        crew = Crew("plan", 8)
        one = Orchestrator(**{**vars(orchestrator), "plans": crew})
        crew.start(one.look)
        ids = [str(ULID()) for _ in range(12)]
        for capture_id in ids:
            take_in(one, CaptureRequest(capture_id=capture_id, guests=("web",), wait_for_guests=True))
        hanging.wait_for(8)
        assert not hanging.begun.acquire(blocking=False)
        assert states(one, ids) == {"asked": 12}
        for capture_id in (ids[0], ids[-1]):  # one that is being planned, and one that waits for that
            cancel_patiently(one, capture_id, "ana")
        assert states(one, ids) == {"asked": 10, "failed": 2}
        Reconciler(one).reconcile()  # which begins no plan again
        assert not hanging.begun.acquire(blocking=False)
        hanging.back.set()
        finish(crew)
    assert states(one, ids) == {"preparing": 1, "queued": 9, "failed": 2}


def test_what_a_look_meets_ends_no_thread_and_no_other_look(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def look(capture_id: str) -> None:
        seen.append(capture_id)
        if len(seen) == 1:
            raise ZeroDivisionError

    before = metrics.RUN_TROUBLES._value.get()
    crew = Crew("look", 1)
    for capture_id in ("a", "b", "c", "b"):
        crew.soon(capture_id)
    assert not crew.is_whole()  # it has no thread yet
    crew.start(look)
    finish(crew)
    assert seen == ["a", "b", "c"]
    assert metrics.RUN_TROUBLES._value.get() == before + 1


def test_a_run_is_looked_at_again_if_that_is_asked_for_during_a_look() -> None:
    """The look may have read the answers before the one that is told of now."""
    seen: list[str] = []
    crew = Crew("look", 1)

    def look(capture_id: str) -> None:
        seen.append(capture_id)
        if len(seen) == 1:
            crew.soon(capture_id)

    crew.soon("a")
    crew.start(look)
    finish(crew)
    assert seen == ["a", "a"]


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch, hanging: Hanging) -> Iterator[SimpleNamespace]:
    """The orchestrator's process, of which each look hangs but those of `CAPTURE`."""
    seen: list[str] = []
    looked = threading.Event()

    def look(capture_id: str) -> None:
        if capture_id == CAPTURE:
            seen.append(threading.current_thread().name)
            looked.set()
        else:
            hanging()

    made = SimpleNamespace(seen=seen, looked=looked, stop=threading.Event())
    monkeypatch.setattr(app, "orchestrator", lambda: SimpleNamespace(look=look))
    monkeypatch.setattr(
        app, "Reconciler", lambda _: SimpleNamespace(run_forever=threading.Event.wait, at_work=lambda: True)
    )
    monkeypatch.setattr(app, "cancel_patiently", lambda _one, capture_id, _who, look: look(capture_id))
    monkeypatch.setattr(app, "_stop", made.stop)
    monkeypatch.setattr(heartbeat, "beat_while", lambda alive: setattr(made, "alive", alive))
    yield made
    hanging.back.set()
    app._end()
    for crew in app._crews:
        for thread in crew._threads:
            thread.join(LONG_S)


def test_looks_that_hang_keep_no_task_of_celery_and_no_cancel_waiting(
    process: SimpleNamespace, hanging: Hanging
) -> None:
    app._begin()
    for _ in range(THREADS["look"] + 3):
        app.look(str(ULID()))
    hanging.wait_for(THREADS["look"])
    app.cancel(CAPTURE, "ana")
    assert process.looked.wait(LONG_S)
    assert process.seen == ["cancel"]
    assert process.alive()


@pytest.mark.parametrize("name", [*THREADS])
def test_without_one_of_its_threads_the_process_ends(
    process: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(WorkerShutdown):
        app._begin()
    assert not process.looked.is_set()


@pytest.mark.parametrize("place", range(len(THREADS)))
def test_a_process_one_of_whose_threads_has_died_gives_no_sign_of_life(process: SimpleNamespace, place: int) -> None:
    """Its supervisor starts it again."""
    app._begin()
    assert process.alive()
    dead = threading.Thread(target=lambda: None)
    dead.start()
    dead.join()
    app._crews[place]._threads.append(dead)
    assert not process.alive()
