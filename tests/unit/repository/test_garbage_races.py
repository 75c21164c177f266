"""Writers, sealers, forgetters, readers and collectors, interleaved at every operation of the store: nothing is ever lost.

And each of the protocol's parts is needed: without it the same schedules lose something.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import count

import pytest

from freezeframe.repository import catalog, session
from freezeframe.repository.errors import ObjectNotFound
from freezeframe.repository.garbage import collection
from freezeframe.repository.garbage.decision import Situation
from freezeframe.repository.garbage.record import RunRecord
from freezeframe.repository.garbage.references import read_references
from freezeframe.repository.objects import Objects
from freezeframe.repository.session import Session, Sessions
from freezeframe.repository.store import Entry
from freezeframe.repository.store_clock import Measured

from .samples import one_at_a_time
from .world import LostError, World, drawn_world

SCHEDULES, ACTORS, AT_ONCE = 200, 20, 6
MANY_SCHEDULES, MANY_ACTORS, MANY_AT_ONCE = 5000, 40, 8
#: The first schedule that shows a broken part is among so many.
ENOUGH = 1000
#: Schedules that show a part broken which few do: tried first, since a search takes minutes.
SHOWN_BY = {"sessions_after_manifests": 108, "by_the_hosts_clocks": 255}


@pytest.fixture(autouse=True)
def _the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of runs by number: real ones are by time and chance, and would list in another order each time."""
    numbers = count()
    monkeypatch.setattr(collection, "ULID", lambda: f"01JZ{next(numbers):022d}")
    monkeypatch.setattr(catalog, "read_ahead", one_at_a_time)  # an actor has one thread


def play(seeds: range, actors: int, at_once: int) -> Counter[str]:
    """Play schedules, and return the number of steps by kind. Raises LostError with the seed and the last steps."""
    done: Counter[str] = Counter()
    for seed in seeds:
        world = drawn_world(seed)
        try:
            world.play(actors, at_once)
        except AssertionError as error:
            last = "\n".join(world.schedule.course[-80:])
            raise LostError(f"seed {seed}, grace {world.grace}: {error}\n{last}") from error
        done.update(world.counts, steps=world.schedule.steps)
    return done


def test_nothing_is_lost_whoever_does_what_when() -> None:
    done = play(range(SCHEDULES), ACTORS, AT_ONCE)
    for what in ("sealed", "forgotten", "read", "condemned", "taken_over", "restored", "deleted"):
        assert done[what] > 5, what  # each part of the protocol was played


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nothing_is_lost_in_thousands_of_schedules(record_property: Callable[[str, object], None]) -> None:
    done = play(range(SCHEDULES, SCHEDULES + MANY_SCHEDULES), MANY_ACTORS, MANY_AT_ONCE)
    record_property("schedules", MANY_SCHEDULES)
    for what, number in sorted(done.items()):
        record_property(what.replace("_", " "), number)


def ripe_without_sessions(patch: pytest.MonkeyPatch) -> None:
    """Delete condemned objects though a session is live."""
    patch.setattr(Situation, "hinders", lambda *_: False)


def condemned_by_deletion(patch: pytest.MonkeyPatch) -> None:
    moved = collection._Run._move

    def move(self: collection._Run, moves: list[tuple[Entry, str]]) -> list[Entry]:
        if all(to.startswith("condemned/") for _, to in moves):
            self._delete([entry for entry, _ in moves])
            return [entry for entry, _ in moves]
        return moved(self, moves)

    patch.setattr(collection._Run, "_move", move)


def sessions_after_manifests(patch: pytest.MonkeyPatch) -> None:
    ran, mine = collection._Run.run, threading.local()

    def run(self: collection._Run) -> object:
        mine.references = read_references(self.repository, lambda *_: None)
        return ran(self)

    patch.setattr(collection._Run, "run", run)
    patch.setattr(collection, "read_references", lambda *_: mine.references)


def no_second_look(patch: pytest.MonkeyPatch) -> None:
    """A seal that came too late is not taken back."""
    patch.setattr(Sessions, "check_sealed", lambda *_, **__: None)


def writers_look_into_what_is_condemned(patch: pytest.MonkeyPatch) -> None:
    def has_chunk(self: Objects, name: str) -> bool:
        try:
            self.condemned.find(name, self.store.size)
        except ObjectNotFound:
            return False
        return True

    patch.setattr(Objects, "has_chunk", has_chunk)


def by_the_hosts_clocks(patch: pytest.MonkeyPatch) -> None:
    """Sessions and runs have the times that their hosts gave them, and no host looks at the store's."""
    patch.setattr(Session, "by_store", lambda session, *_: session)
    patch.setattr(RunRecord, "by_store", lambda record, *_: record)
    patch.setattr(session, "check_drift", lambda *_: None)

    def own(_: object, clock: Callable[[], datetime], __: object = None) -> Measured:
        return Measured(now := clock(), now)

    patch.setattr(session, "measure", own)
    patch.setattr(collection, "measure", own)


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


#: What seldom shows in a schedule, one of some thousands, stands in a straight line in test_garbage.py.
@pytest.mark.parametrize(
    "broken",
    [
        ripe_without_sessions,
        condemned_by_deletion,
        sessions_after_manifests,
        no_second_look,
        writers_look_into_what_is_condemned,
    ],
)
def test_without_that_part_something_is_lost(
    patch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], None]
) -> None:
    broken(patch)
    assert any(loses(seed) for seed in seeds(broken))


@pytest.mark.case("R2")
def test_with_the_hosts_own_clocks_something_is_lost(patch: pytest.MonkeyPatch) -> None:
    by_the_hosts_clocks(patch)
    assert any(loses(seed, skewed=True) for seed in seeds(by_the_hosts_clocks))


def seeds(broken: Callable[[pytest.MonkeyPatch], None]) -> Iterator[int]:
    yield SHOWN_BY.get(broken.__name__, 0)
    yield from range(ENOUGH)


def loses(seed: int, *, skewed: bool = False) -> bool:
    world = World(drawn_world(seed).random, timedelta(0), copies=False, skewed=skewed)
    try:
        world.play(MANY_ACTORS, MANY_AT_ONCE)
    except LostError:
        return True
    except AssertionError:
        return False  # what is left over at the end is no loss
    return False
