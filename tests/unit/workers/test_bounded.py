"""A repository that hangs costs a capture, not the worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from freezeframe import bounded
from freezeframe.bounded import answered
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.words import Method
from freezeframe.repository import Repository
from freezeframe.repository.errors import RepositoryFull, RepositoryNotReadable
from workers.host import Host
from workers.steps import prepare

LONG_S = 60.0


class Hanging:
    """A call that waits until the test lets it go."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = threading.Event()
        self.server_is_back = threading.Event()

    def __call__(self, *_: object) -> str:
        self.calls += 1
        self.called.set()
        self.server_is_back.wait()
        return "answer"

    def end(self) -> None:
        self.server_is_back.set()
        for threads in bounded._hung.values():
            for thread in threads:
                thread.join()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    one = Hanging()
    yield one
    one.end()


def test_what_is_answered_is_given_and_what_is_raised_is_raised() -> None:
    assert answered("the store", LONG_S, lambda: 5) == 5
    for error in (RepositoryFull("full"), TimeoutError("its own")):
        with pytest.raises(type(error), match=str(error)):
            answered("the store", LONG_S, _raising(error))


def _raising(error: Exception) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


def test_what_is_not_answered_is_given_up_and_named(hanging: Hanging) -> None:
    with pytest.raises(RepositoryNotReadable, match="/mnt/store has not answered"):
        answered("/mnt/store", 0.01, hanging)


def test_while_it_hangs_nobody_waits_again_and_afterwards_all_is_well(hanging: Hanging) -> None:
    with pytest.raises(RepositoryNotReadable):
        answered("/mnt/store", 0.01, hanging)
    for _ in range(20):
        with pytest.raises(RepositoryNotReadable, match="an earlier capture"):
            answered("/mnt/store", LONG_S, hanging)
    assert hanging.called.wait(LONG_S)
    assert hanging.calls == 1
    assert answered("/mnt/other", LONG_S, lambda: "another store") == "another store"
    hanging.end()
    assert answered("/mnt/store", LONG_S, hanging) == "answer"


def test_a_repository_that_hangs_is_told_before_a_guest_is_touched(
    host: Host, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository.init(host.repository)
    monkeypatch.setattr(Repository, "check_writable", hanging)
    monkeypatch.setattr(prepare, "REPOSITORY_PATIENCE_S", 0.01)
    order = PrepareOrder(
        capture_id="01KAAAAAAAAAAAAAAAAAAAAAAA",
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(hours=1),
        repository_id=str(repository.config.id),
        method=Method.BACKUP_PULL,
        chunk_bytes=repository.config.chunk_bytes,
        guests=(),
    )
    with pytest.raises(RepositoryNotReadable, match=host.repository):
        prepare.prepare(host, order)
    with pytest.raises(RepositoryNotReadable, match="an earlier capture"):
        prepare.prepare(host, order.model_copy(update={"capture_id": "01KBBBBBBBBBBBBBBBBBBBBBBB"}))
