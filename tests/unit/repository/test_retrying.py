"""What a store with patience tries again, and what it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from typing import BinaryIO

import pytest
from typing_extensions import Buffer

from freezeframe.repository.errors import (
    AlreadyExists,
    ObjectNotFound,
    RepositoryFull,
    RepositoryNotReadable,
    RepositoryNotWritable,
)
from freezeframe.repository.layout import CONFIG, MANIFESTS, condemned_name, locate, manifest_name
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import always
from freezeframe.repository.store.retrying import Retrying, pauses

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

    def put(self, name: str, source: BinaryIO) -> None:
        data = source.read()
        self._do(lambda: super(Away, self).put(name, BytesIO(data)))

    def put_if_absent(self, name: str, data: Buffer) -> None:
        self._do(lambda: super(Away, self).put_if_absent(name, data))

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        self._do(lambda: super(Away, self).move(name, to, allowed))

    def names(self, folder: str) -> Iterator[str]:
        """Breaks after the first name."""
        for name in list(super().names(folder)):
            yield name
            self._do(lambda: None)


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
    return Retrying(store, patience_s, sleep=time.sleep, clock=lambda: time.now), time


def test_what_is_transient_is_tried_again_from_the_start() -> None:
    store, time = patient(inner := Away(2))
    store.put(NAME, BytesIO(b"bytes"))
    assert inner.get(NAME) == b"bytes"
    assert len(time.slept) == 2


def test_what_was_refused_is_not_tried_again() -> None:
    store, time = patient(inner := Away(1, RepositoryFull("No room.")))
    with pytest.raises(RepositoryFull):
        store.put(NAME, BytesIO(b"bytes"))
    assert (inner.calls, time.slept) == (1, [])


def test_patience_ends_with_the_last_error() -> None:
    store, time = patient(inner := Away(1_000_000), patience_s=30)
    with pytest.raises(RepositoryNotWritable, match="away"):
        store.put(NAME, BytesIO(b"bytes"))
    assert inner.calls > 5
    assert time.now <= 30


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


def test_a_listing_that_broke_gives_no_name_twice() -> None:
    names = [manifest_name(capture_id(n)) for n in range(3)]
    store, time = patient(inner := Away(1, RepositoryNotReadable("The server is away.", transient=True)))
    inner.put_many([(name, b"{}") for name in names])
    assert sorted(store.names(MANIFESTS)) == names
    assert len(time.slept) == 1


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
