"""How a reader finds what garbage collection has condemned, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

import pytest

from freezeframe.repository import condemned
from freezeframe.repository.condemned import Condemned
from freezeframe.repository.errors import IndexDamaged, ObjectNotFound
from freezeframe.repository.layout import CONDEMNED, condemned_name, locate, run_name
from freezeframe.repository.store import MemoryStore

from .locked import locked
from .samples import capture_id, disk_of, store_disk

NAMES = [locate(bytes([number]) * 32) for number in range(10)]


class Listed(MemoryStore):
    """Counts how often runs were listed; may have something happen after a listing."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0
        self.moves: list[tuple[str, str]] = []

    def names(self, folder: str) -> Iterator[str]:
        found = list(super().names(folder))
        if folder == CONDEMNED:
            self.times += 1
            if self.moves:
                super().move(*self.moves.pop(0))
        return iter(found)


class Seconds:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    made = Seconds()
    monkeypatch.setattr(condemned, "time", made)
    return made


@pytest.fixture
def store() -> Listed:
    made = Listed()
    for number in (1, 2):
        made.put_many([(run_name(capture_id(number)), b"{}")])
    made.put_many([(f"{CONDEMNED}/README", b"somebody's")])
    made.put_many([(condemned_name(capture_id(2), name), name.encode()) for name in NAMES])
    return made


def test_runs_are_those_that_have_a_record_oldest_first(store: Listed) -> None:
    assert Condemned(store).runs() == [capture_id(1), capture_id(2)]


def test_the_runs_are_listed_once_for_all_that_is_looked_for_within_seconds(store: Listed, seconds: Seconds) -> None:
    """A reader of a condemned disk misses every chunk of it."""
    looking = Condemned(store)
    for name in NAMES:
        assert looking.find(name, store.get) == name.encode()
        seconds.now += 0.4
    assert store.times == 1
    seconds.now += 5.1
    looking.find(NAMES[0], store.get)
    assert store.times == 2


def test_what_is_under_its_own_name_costs_no_listing(store: Listed) -> None:
    store.put_many([(NAMES[0], b"own")])
    assert Condemned(store).find(NAMES[0], store.get) == b"own"
    assert store.times == 0


def test_what_is_nowhere_is_looked_for_in_new_lists_before_it_is_missing(store: Listed, seconds: Seconds) -> None:
    with pytest.raises(ObjectNotFound, match=locate(bytes(31) + b"x")):
        Condemned(store).find(locate(bytes(31) + b"x"), store.get)
    assert store.times == 3


def test_what_moves_while_it_is_looked_for_is_found(store: Listed, seconds: Seconds) -> None:
    """From a run into a new one that the first list does not have, and back to its own name after the second."""
    third, name = capture_id(3), NAMES[0]
    store.put_many([(run_name(third), b"{}")])
    looking = Condemned(store)
    looking.find(NAMES[1], store.get)
    store.delete(run_name(third))
    store.move(condemned_name(capture_id(2), name), condemned_name(third, name))
    store.put_many([(run_name(third), b"{}")])
    assert looking.find(name, store.get) == name.encode()
    store.moves = [(condemned_name(third, name), name)]
    assert Condemned(store).find(name, store.get) == name.encode()


def test_an_index_that_is_not_encrypted_is_damage_and_does_not_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    repository = locked(store)
    digest = bytes.fromhex(store_disk(repository, disk_of(b"a")))
    store.put(repository.objects.protection.index_name(digest), BytesIO(b"plain" * 20))
    opened: list[BinaryIO] = []
    inner = store.open

    def noted(name: str) -> BinaryIO:
        opened.append(inner(name))
        return opened[-1]

    monkeypatch.setattr(store, "open", noted)
    with pytest.raises(IndexDamaged, match="cannot be read"):
        repository.objects.open_index(digest)
    assert [source.closed for source in opened] == [True]
