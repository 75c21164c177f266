"""Captures are copied while others capture, forget and collect garbage on both sides, interleaved at every operation.

Whatever is visible in the copy restores. And both sessions are needed: without one the same schedules lose something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from random import Random

import pytest

from freezeframe.repository import catalog, chain, inherited
from freezeframe.repository.copying import PROGRAM, documents, lease
from freezeframe.repository.copying.capture import CaptureCopier
from freezeframe.repository.garbage import collection
from freezeframe.repository.manifest import Manifest
from freezeframe.repository.session import Sessions

from .samples import one_at_a_time
from .world import LostError
from .world_copy import CopyWorld, drawn_copy_world

SCHEDULES, ACTORS, AT_ONCE = 60, 25, 6
MANY_SCHEDULES, MANY_ACTORS, MANY_AT_ONCE = 2000, 40, 8
#: The first schedule that shows a broken part is among so many.
ENOUGH = 600
#: A schedule that shows a broken part which few do: tried first, since a search takes minutes.
SHOWN_BY = {"without_sessions": 76}


@pytest.fixture(autouse=True)
def _the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, sessions = count(), count()
    monkeypatch.setattr(collection, "ULID", lambda: f"01JZ{next(runs):022d}")
    monkeypatch.setattr(lease, "ULID", lambda: f"01K0{next(sessions):022d}")
    for module in (catalog, chain, documents):  # an actor has one thread
        monkeypatch.setattr(module, "read_ahead", one_at_a_time)
    monkeypatch.setattr(inherited, "random", Random(1))  # noqa: S311


def play(seeds: range, actors: int, at_once: int) -> Counter[str]:
    done: Counter[str] = Counter()
    for seed in seeds:
        world = drawn_copy_world(seed)
        try:
            world.play(actors, at_once)
        except AssertionError as error:
            last = "\n".join(world.schedule.course[-80:])
            raise LostError(f"seed {seed}, grace {world.grace}: {error}\n{last}") from error
        done.update(world.counts, steps=world.schedule.steps)
    return done


def test_a_copy_restores_whoever_does_what_meanwhile() -> None:
    done = play(range(SCHEDULES), ACTORS, AT_ONCE)
    for what in ("sealed", "forgotten", "deleted", "copied", "forgotten there", "condemned there", "deleted there"):
        assert done[what] > 5, what


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_copy_restores_in_thousands_of_schedules(record_property: Callable[[str, object], None]) -> None:
    done = play(range(SCHEDULES, SCHEDULES + MANY_SCHEDULES), MANY_ACTORS, MANY_AT_ONCE)
    record_property("schedules", MANY_SCHEDULES)
    for what, number in sorted(done.items()):
        record_property(what.replace("_", " "), number)


def without_sessions(patch: pytest.MonkeyPatch) -> None:
    """Garbage collection does not see the sessions of copies."""
    all_of = Sessions.all
    patch.setattr(Sessions, "all", lambda self: [one for one in all_of(self) if one.program != PROGRAM])


def manifest_first(patch: pytest.MonkeyPatch) -> None:
    """A manifest is put before the chunks that it needs."""
    copy_all = CaptureCopier.copy

    def copied(
        self: CaptureCopier, manifest: Manifest, data: bytes, session_id: str, tell: Callable[[int], None]
    ) -> None:
        self._copy.store.put_if_absent(self._copy.objects.protection.manifest_name(manifest.capture_id), data)
        copy_all(self, manifest, data, session_id, tell)

    patch.setattr(CaptureCopier, "copy", copied)


@pytest.mark.parametrize("broken", [without_sessions, manifest_first])
def test_without_that_part_the_copy_lacks_something(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], None]
) -> None:
    broken(monkeypatch)
    assert any(loses(seed) for seed in (SHOWN_BY.get(broken.__name__, 0), *range(ENOUGH)))


def loses(seed: int) -> bool:
    world = CopyWorld(drawn_copy_world(seed).random, timedelta(0), copies=False)
    try:
        world.play(MANY_ACTORS, MANY_AT_ONCE)
    except LostError:
        return True
    except AssertionError:
        return False
    return False
