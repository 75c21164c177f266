"""The commit queue: bounded, whole when it is flushed, and ended by the first error, whoever waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import pytest
from typing_extensions import Buffer

from freezeframe.repository import commit
from freezeframe.repository.commit import CommitQueue
from freezeframe.repository.errors import RepositoryNotWritable
from freezeframe.repository.store import MemoryStore

LONG_S = 60.0


class Gated(MemoryStore):
    """Stores when it is let, or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.let, self.asked = threading.Event(), threading.Event()
        self.batches = threading.Semaphore(0)  # that were begun
        self.error: Exception | None = None

    def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
        self.asked.set()
        self.batches.release()
        assert self.let.wait(LONG_S)
        if self.error is not None:
            raise self.error
        super().put_many(objects)


@pytest.fixture
def store() -> Iterator[Gated]:
    made = Gated()
    yield made
    made.let.set()


@pytest.fixture
def queue(store: Gated, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommitQueue]:
    """Full at four objects of ten bytes; one is a batch."""
    monkeypatch.setattr(commit, "QUEUE_BYTES", 40)
    monkeypatch.setattr(commit, "BATCH_BYTES", 10)
    made = CommitQueue(store)
    yield made
    store.let.set()
    made.abandon()


def test_a_full_queue_waits_and_any_other_does_not(
    queue: CommitQueue, store: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []

    def wait() -> float:
        waited.append(queue._queued_bytes)
        return 0.5

    monkeypatch.setattr(queue, "_wait_for_room", wait)
    assert [queue.add(str(number), b"x", 10) for number in range(4)] == [0.0] * 4
    assert waited == []
    assert queue.add("4", b"x", 10) == 0.5
    assert waited == [40]


def adding(queue: CommitQueue) -> tuple[threading.Thread, list[BaseException | float]]:
    """A thread that adds one more; what came of it."""
    came: list[BaseException | float] = []

    def add() -> None:
        try:
            came.append(queue.add("more", b"x", 10))
        except (RepositoryNotWritable, RuntimeError) as error:
            came.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    return thread, came


def ends(queue: CommitQueue, store: Gated, end: Callable[[], None]) -> list[BaseException | float]:
    for number in range(4):
        queue.add(str(number), b"x", 10)
    thread, came = adding(queue)
    assert not came
    end()
    thread.join(LONG_S)
    assert not thread.is_alive()
    return came


def test_who_waits_for_room_goes_on_when_there_is_some(queue: CommitQueue, store: Gated) -> None:
    (came,) = ends(queue, store, store.let.set)
    assert isinstance(came, float)
    assert 0 <= came < LONG_S  # it says how long
    queue.flush()
    assert len(store._objects) == 5


def test_who_waits_for_room_is_told_of_an_error_at_once(queue: CommitQueue, store: Gated) -> None:
    """Not when the store answers next: it may be away."""
    error = RepositoryNotWritable("another thread's")
    assert ends(queue, store, lambda: queue.fail(error)) == [error]


def test_who_waits_for_room_is_told_that_a_batch_of_another_thread_found_no_thread(
    queue: CommitQueue, store: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has the other batches in hand, and may be away."""
    for number in range(3):
        queue.add(str(number), b"x", 11)
    queue.add("gathered", b"x", 7)
    waiting, wait, error = threading.Event(), queue._wait_for_room, RuntimeError("can't start new thread")

    def noted() -> float:
        waiting.set()  # with the queue in hand, so that nobody else has it before the wait begins
        return wait()

    def no_thread(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(queue, "_wait_for_room", noted)
    thread, came = adding(queue)
    assert waiting.wait(LONG_S)
    monkeypatch.setattr(queue._pool, "submit", no_thread)
    with pytest.raises(RuntimeError, match="new thread"):
        queue.flush()
    thread.join(10.0)
    assert came == [error]


def test_the_first_error_is_every_later_calls(queue: CommitQueue, store: Gated) -> None:
    first = store.error = RepositoryNotWritable("no answer")
    queue.add("0", b"x", 10)
    assert store.asked.wait(LONG_S)
    store.let.set()
    queue._pool.shutdown()
    queue.fail(RepositoryNotWritable("later"))
    for call in (lambda: queue.add("1", b"x", 1), queue.flush):
        with pytest.raises(RepositoryNotWritable) as caught:
            call()
        assert caught.value is first
    assert store._objects == {}


def test_after_a_flush_all_is_there_and_its_memory_given_back(queue: CommitQueue, store: Gated) -> None:
    done: list[str] = []
    for name in ("a", "b", "c"):
        queue.add(name, b"data", 4, lambda name=name: done.append(name))  # type: ignore[misc]
    queue.add("gathered", b"data", 4, lambda: done.append("gathered"))
    store.let.set()
    queue.flush()
    assert sorted(store._objects) == sorted(done) == ["a", "b", "c", "gathered"]
    assert queue._queued_bytes == 0
    assert not [one for one in threading.enumerate() if one.name.startswith("commit")]


def test_what_is_gathered_when_it_is_abandoned_is_dropped_and_nobody_works_on(queue: CommitQueue, store: Gated) -> None:
    queue.add("batch", b"x", 10)
    queue.add("gathered", b"x", 1)
    assert store.asked.wait(LONG_S)  # a batch that no thread has begun is cancelled
    store.let.set()
    queue.abandon()
    assert list(store._objects) == ["batch"]
    assert not [one for one in threading.enumerate() if one.name.startswith("commit")]


def test_batches_that_are_cancelled_are_no_error_and_hold_nothing(
    queue: CommitQueue, store: Gated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue, "_limits", queue._limits._replace(queue_bytes=1000))
    for number in range(commit.BATCHES_AT_ONCE + 3):
        queue.add(str(number), b"x", 10)
    for _ in range(commit.BATCHES_AT_ONCE):
        assert store.batches.acquire(timeout=LONG_S)
    queue._pool.shutdown(wait=False, cancel_futures=True)
    assert queue._queued_bytes == 10 * commit.BATCHES_AT_ONCE
    store.let.set()
    queue.flush()
    assert caplog.records == []
    assert len(store._objects) == commit.BATCHES_AT_ONCE


def test_after_the_first_error_no_batch_is_begun(
    queue: CommitQueue, store: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would wait for a store that is away as long again. Nor is the store asked for, or anything compressed."""
    monkeypatch.setattr(queue, "_limits", queue._limits._replace(queue_bytes=1000))
    store.error = RepositoryNotWritable("no answer")
    made: list[int] = []

    def make(number: int) -> bytes:
        made.append(number)
        return b"x"

    for number in range(commit.BATCHES_AT_ONCE + 20):
        queue.add_later(str(number), lambda number=number: make(number), 10)  # type: ignore[misc]
    for _ in range(commit.BATCHES_AT_ONCE):
        assert store.batches.acquire(timeout=LONG_S)
    store.let.set()
    with pytest.raises(RepositoryNotWritable, match="no answer"):
        queue.flush()
    assert not store.batches.acquire(blocking=False)
    assert sorted(made) == list(range(commit.BATCHES_AT_ONCE))
    assert queue._queued_bytes == 0


def test_an_error_while_a_batch_is_made_keeps_it_from_the_store(queue: CommitQueue, store: Gated) -> None:
    error = RepositoryNotWritable("another thread's")
    store.let.set()

    def make() -> bytes:
        queue.fail(error)
        return b"x"

    queue.add_later("0", make, 10)
    with pytest.raises(RepositoryNotWritable):
        queue.flush()
    assert not store.asked.is_set()
