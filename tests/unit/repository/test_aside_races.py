"""Verification on several hosts at once, one of them with bad memory, beside captures, rot and garbage collection (A2b, R10).

And the way out of `damaged/` is needed as it is: the one before loses or strands a sound copy in the same schedules.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest

from freezeframe.repository.aside import Aside
from freezeframe.repository.garbage import collection
from freezeframe.repository.layout import DAMAGED
from freezeframe.repository.objects import Objects

from .world import LostError
from .world_aside import drawn_quarantine, one_thread

pytestmark = pytest.mark.case("R10")

SCHEDULES, ACTORS, AT_ONCE = 60, 25, 6
MANY_SCHEDULES = 3000
#: The first schedule that shows the broken way is among so many.
ENOUGH = 600

review = importlib.import_module("freezeframe.repository.verify.review")


@pytest.fixture(autouse=True)
def _the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names by number, and none by chance: the same seed gives the same course."""
    runs, names = count(), count()
    monkeypatch.setattr(collection, "ULID", lambda: f"01JZ{next(runs):022d}")
    monkeypatch.setattr("secrets.token_hex", lambda size: f"{next(names):0{2 * size}x}")


def play(seeds: range) -> Counter[str]:
    """Return what was done in all of them. Raises LostError with the seed and the last steps."""
    done: Counter[str] = Counter()
    for seed in seeds:
        world = drawn_quarantine(seed)
        try:
            with one_thread(world):
                world.play(ACTORS, AT_ONCE)
        except LostError as error:
            last = "\n".join(world.schedule.course[-80:])
            raise LostError(f"seed {seed}: {error}\n{last}") from error
        done.update(world.counts, steps=world.schedule.steps)
    return done


def test_no_verification_takes_away_or_strands_a_sound_copy() -> None:
    done = play(range(SCHEDULES))
    for what in ("sealed", "rotten", "set aside", "repaired", "put back", "condemned", "forgotten"):
        assert done[what] > 5, what  # each part was played


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_no_verification_takes_away_a_sound_copy_in_thousands_of_schedules(
    record_property: Callable[[str, object], None],
) -> None:
    done = play(range(SCHEDULES, SCHEDULES + MANY_SCHEDULES))
    for what, number in sorted(done.items()):
        record_property(what.replace("_", " "), number)


def deleted_where_it_lies(objects: Objects, one: Aside, _: Callable[[], bool]) -> bool:
    """Delete what was reviewed by its name, whatever has that name by now."""
    for place in one.objects:
        objects.store.delete(place)
    objects.store.settle([DAMAGED])
    objects.store.delete(one.document_name)
    return True


def test_what_is_deleted_where_it_lies_may_be_the_last_sound_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "clear", deleted_where_it_lies)
    monkeypatch.setattr(review, "_review_nameless", lambda *_, **__: None)
    assert any(loses(seed) for seed in range(ENOUGH))


def loses(seed: int) -> bool:
    world = drawn_quarantine(seed)
    try:
        with one_thread(world):
            world.play(ACTORS, AT_ONCE)
    except LostError:
        return True
    return False
