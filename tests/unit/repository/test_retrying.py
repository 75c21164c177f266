"""What a store with patience tries again, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest
from typing_extensions import Buffer

from freezeframe.repository.errors import (
    AlreadyExists,
    ObjectNotFound,
    RepositoryNotReadable,
    RepositoryNotWritable,
)
from freezeframe.repository.layout import CONFIG, condemned_name, locate
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import always
from freezeframe.repository.store.patience import LONGEST_PAUSE_S, Patience, pauses
from freezeframe.repository.store.retrying import Retrying

from .samples import capture_id

NAME = locate(bytes(32))
TO = condemned_name(capture_id(1), NAME)


class Away(MemoryStore):
    """Fails `failures` times with `error`: before it does what was asked or, where the answer is lost, after that."""

    def __init__(self, failures: int, error: Exception | None = None, *, after: bool = False) -> None:
        super().__init__()
        self.failures = failures
        self.error = error or RepositoryNotWritable("The server is away.", transient=True)
        self.after = after
        self.calls = 0

    def _do(self, action: Callable[[], object]) -> None:
        self.calls += 1
        fails = self.calls <= self.failures
        if self.after or not fails:
            action()
        if fails:
            raise self.error

    def get(self, name: str) -> bytes:
        found: list[bytes] = []
        self._do(lambda: found.append(super(Away, self).get(name)))
        return found[0]

    def put_if_absent(self, name: str, data: Buffer) -> None:
        self._do(lambda: super(Away, self).put_if_absent(name, data))

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        self._do(lambda: super(Away, self).move(name, to, allowed))


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def patient(store: MemoryStore, patience_s: float = 60) -> tuple[Retrying, Time]:
    time = Time()
    return Retrying(store, Patience(patience_s, sleep=time.sleep, clock=lambda: time.now)), time


def holding(store: Away) -> Away:
    store.put_many([(NAME, b"bytes")])
    return store


def test_what_is_transient_is_tried_again() -> None:
    store, time = patient(holding(Away(2)))
    assert store.get(NAME) == b"bytes"
    assert len(time.slept) == 2


def test_what_was_refused_is_not_tried_again() -> None:
    store, time = patient(inner := holding(Away(1, RepositoryNotReadable("No right."))))
    with pytest.raises(RepositoryNotReadable):
        store.get(NAME)
    assert (inner.calls, time.slept) == (1, [])


def test_patience_ends_with_the_last_error() -> None:
    store, time = patient(inner := holding(Away(1_000_000)), patience_s=30)
    with pytest.raises(RepositoryNotWritable, match="away"):
        store.get(NAME)
    assert inner.calls > 5
    assert time.now <= 30


@pytest.mark.case("R7")
@pytest.mark.parametrize("away_s", [31, 600])
def test_patience_that_is_long_enough_outlasts_an_outage(away_s: float) -> None:
    time = Time()

    class Back(MemoryStore):
        def get(self, name: str) -> bytes:
            if time.now < away_s:
                raise RepositoryNotReadable("The server is away.", transient=True)
            return super().get(name)

    inner = Back()
    inner.put_many([(NAME, b"bytes")])
    patience = Patience(30, sleep=time.sleep, clock=lambda: time.now)
    with pytest.raises(RepositoryNotReadable):
        Retrying(inner, patience).get(NAME)
    patience.seconds = 900
    time.now = 0
    assert Retrying(inner, patience).get(NAME) == b"bytes"
    assert max(time.slept) <= LONGEST_PAUSE_S  # it is back at once when the server is


def test_pauses_grow_and_are_bounded() -> None:
    longest = list(islice(pauses(lambda: 1.0), 20))
    assert longest == sorted(longest)
    assert (longest[0], longest[-1]) == (0.2, 5.0)
    assert list(islice(pauses(lambda: 0.0), 20)) == [one / 2 for one in longest]


def test_a_create_whose_answer_was_lost_is_ours() -> None:
    store, _ = patient(inner := Away(1, after=True))
    store.put_if_absent(CONFIG, b"ours")
    assert inner.get(CONFIG) == b"ours"


def test_a_create_that_never_arrived_is_done() -> None:
    store, _ = patient(inner := Away(1))
    store.put_if_absent(CONFIG, b"ours")
    assert inner.get(CONFIG) == b"ours"


def test_what_another_created_meanwhile_is_not_ours() -> None:
    store, _ = patient(inner := Away(1))
    MemoryStore.put_if_absent(inner, CONFIG, b"theirs")
    with pytest.raises(AlreadyExists):
        store.put_if_absent(CONFIG, b"ours")


def test_the_same_bytes_are_not_ours_without_a_doubt() -> None:
    """Two who create the same: one must lose, or it would be no exclusion."""
    store, _ = patient(inner := Away(0))
    MemoryStore.put_if_absent(inner, CONFIG, b"lock")
    with pytest.raises(AlreadyExists):
        store.put_if_absent(CONFIG, b"lock")


@pytest.mark.parametrize("after", [False, True])
def test_a_move_whose_answer_was_lost_is_made_once(*, after: bool) -> None:
    store, time = patient(inner := Away(1, after=after))
    inner.put_many([(NAME, b"chunk")])
    store.move(NAME, TO)
    assert (inner.exists(NAME), inner.get(TO)) == (False, b"chunk")
    assert len(time.slept) == 1


def test_what_another_has_moved_elsewhere_meanwhile_is_not_found() -> None:
    store, _ = patient(inner := Away(1))
    with pytest.raises(ObjectNotFound):
        store.move(NAME, TO)
    inner.put_many([(TO, b"chunk")])  # without a doubt it is not ours
    with pytest.raises(ObjectNotFound):
        store.move(NAME, TO)
