"""Verification on several hosts at once, one of them with bad memory, beside captures, rot and garbage collection (A2b, R10).

What shows the way before to be broken stands in a straight line: by chance it is one of hundreds of schedules.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest

from freezeframe.repository import Repository, aside, verify
from freezeframe.repository.aside import Aside, Kind, Verdict
from freezeframe.repository.errors import ChunkDamaged
from freezeframe.repository.garbage import collection
from freezeframe.repository.layout import DAMAGED, damaged_name, locate
from freezeframe.repository.objects import Objects

from .samples import CHUNK, disk_of, read_disk, seal, store_disk
from .test_aside import Flaky, pass_
from .world import LostError
from .world_aside import drawn_quarantine, one_thread

pytestmark = pytest.mark.case("R10")

SCHEDULES, ACTORS, AT_ONCE = 30, 25, 6
MANY_SCHEDULES = 3000

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


def deleted_where_it_lies(objects: Objects, one: Aside, _: Callable[[str], bool]) -> bool:
    """Delete what was reviewed by its name, whatever has that name by now: as it was done before."""
    for place in one.objects:
        objects.store.delete(place)
    objects.store.settle([DAMAGED])
    objects.store.delete(one.document_name)
    return True


@pytest.mark.parametrize("as_before", [False, True])
def test_a_bad_host_sets_a_sound_chunk_aside_while_a_healthy_one_clears_it(
    monkeypatch: pytest.MonkeyPatch, *, as_before: bool
) -> None:
    """It was damaged, set aside two days ago, and written anew since. Both hosts have just read it."""
    repository = Repository.init_in(Flaky(), chunk_bytes=CHUNK)
    manifest = seal(repository, 1, disk_of(b"x"))
    (digest,) = {locate_digest(repository, manifest.guests[0].disks[0].index)}
    name, objects = locate(digest), repository.objects
    repository.store.put_many([(name, b"damaged")])
    assert aside.set_aside(objects, Kind.CHUNK, digest, "it is damaged")
    store_disk(repository, disk_of(b"x"))
    pass_(repository, days=2)
    clear = deleted_where_it_lies if as_before else aside.clear

    def meanwhile(found: Objects, one: Aside, may_go: Callable[[str], bool]) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(aside, "look_aside", lambda *_: Verdict.DAMAGED)
            if as_before:  # what was set aside took the place of what was there
                patch.setattr(aside, "_name_of_its_own", damaged_name)
            assert aside.set_aside(objects, Kind.CHUNK, digest, "a machine with bad memory said so")
        return clear(found, one, may_go)

    with monkeypatch.context() as patch:
        patch.setattr(review, "clear", meanwhile)
        verify(repository, [manifest], set_aside=True)
    if as_before:
        with pytest.raises(ChunkDamaged, match="is missing"):
            read_disk(repository, manifest.guests[0].disks[0].index)
        return
    assert read_disk(repository, manifest.guests[0].disks[0].index) == disk_of(b"x")
    for _ in range(2):
        verify(repository, [manifest], set_aside=True)
    assert repository.store.exists(name)
    assert list(repository.store.names(DAMAGED)) == []


def locate_digest(repository: Repository, index: str) -> bytes:
    with repository.index(index) as opened:
        return next(digest for _, digest in opened.used_slots())
