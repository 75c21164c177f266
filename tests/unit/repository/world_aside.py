"""A world in which objects rot, and hosts verify, one of them with bad memory: what must hold after every step.

*No actor takes away the last sound copy of what a visible manifest needs.* Only rot does; then a capture may write it anew. In
the end, after a healthy host has verified, every sound copy is where writers and garbage collection look, not in `damaged/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from random import Random
from typing import BinaryIO

import pytest

from freezeframe.repository import Repository, Tier, aside, catalog, inherited, verify
from freezeframe.repository.chunk import unseal
from freezeframe.repository.errors import (
    CaptureNotFound,
    ChunkDamaged,
    CollectionStopped,
    IndexDamaged,
    NewerFormat,
    RepositoryDamaged,
    RepositoryNotWritable,
)
from freezeframe.repository.index import read_index
from freezeframe.repository.layout import CHUNKS, DAMAGED, INDEXES, MANIFESTS, damaged_name
from freezeframe.repository.objects import Objects
from freezeframe.repository.verify import run as verification
from freezeframe.repository.verify.looking import Look, look

from .samples import CHUNK, one_at_a_time, read_disk
from .schedule import Actor, View
from .world import SLOTS, LostError, World, _capture_of

#: What a host with bad memory reads wrong, of its reads of chunks, of indexes and of what is set aside.
BAD_SHARE = 0.5


class BadMemory(View):
    """Reads wrong at random; never right what is wrong."""

    def __init__(self, world: QuarantineWorld, actor: Actor, drawn: Random) -> None:
        super().__init__(world.store, world.schedule, actor)
        self._drawn = drawn

    def get(self, name: str) -> bytes:
        data = super().get(name)
        of_bytes = name.startswith((CHUNKS, INDEXES, DAMAGED)) and not name.endswith(".json")
        return flipped(data, 2) if of_bytes and self._drawn.random() < BAD_SHARE else data

    def open(self, name: str) -> BinaryIO:
        return BytesIO(self.get(name))


def flipped(data: bytes, bit: int = 1) -> bytes:
    return data[:-1] + bytes([data[-1] ^ bit])


@dataclass
class QuarantineWorld(World):
    had: set[str] = field(default_factory=set)  # needs of which there was a sound copy a step ago
    rotten: set[str] = field(default_factory=set)  # that rot has taken the last sound copy of, since it was written

    def kinds(self) -> tuple[list[Callable[[Repository, Random], None]], list[int]]:
        return (
            [self.write, self.forget, self.collect, self.read, self.verify, self.verify_badly, self.rot],
            [6, 1, 2, 1, 4, 4, 3],
        )

    def _spawn(self, number: int) -> None:
        drawn = Random(self.random.random())  # noqa: S311  as in World
        kinds, weights = self.kinds()
        body = drawn.choices(kinds, weights)[0]
        kill_at = drawn.randint(1, 60) if drawn.random() < 0.15 else None

        def run(actor: Actor) -> None:
            repository = self._repository(actor, drawn)
            if body == self.verify_badly:
                repository = Repository(BadMemory(self, actor, drawn), self.config, clock=self.clock)
            body(repository, drawn)

        self.schedule.spawn(f"{body.__name__} {number}", run, kill_at=kill_at)

    # what actors do

    def verify(self, repository: Repository, _: Random) -> None:
        with suppress(RepositoryNotWritable):
            report = verify(repository, repository.manifests(), set_aside=True)
            self._count("repaired", len(report.repaired))
            self._count("put back", len(report.put_back))
            self._count("set aside", sum(one.set_aside for one in report.damage))

    def verify_badly(self, repository: Repository, drawn: Random) -> None:
        with suppress(RepositoryNotWritable, RepositoryDamaged):
            verify(repository, repository.manifests(), set_aside=True)

    def rot(self, _: Repository, drawn: Random) -> None:
        """Flip a bit of a chunk that somebody needs, under its own name."""
        names = sorted(name for name in self._needed() if name.startswith(CHUNKS) and self.store.exists(name))
        if names:
            name = drawn.choice(names)
            before = len(self._sound_copies(name))
            folder = self.store.folders[name.rpartition("/")[0]]
            data, at = folder[name]
            folder[name] = (flipped(data), at)
            if before and not self._counted(name):
                self.rotten.add(name)
            self._count("rotten")
            self.schedule.course.append(f"rot of {name}, sound {self._sound_copies(name)}")

    def collect(self, repository: Repository, random: Random) -> None:
        with suppress(CollectionStopped):  # an index is set aside
            super().collect(repository, random)

    def read(self, repository: Repository, random: Random) -> None:
        for capture in repository.capture_ids()[:2]:
            try:
                manifest = repository.manifest(capture)
                slots = [self._slot(repository, manifest, slot) or bytes(CHUNK) for slot in range(SLOTS)]
            except (RepositoryDamaged, CaptureNotFound) as error:
                if not self._excused(capture):
                    raise LostError(f"{capture}: {error.message}") from error
            else:
                if b"".join(slots) != self.disks[capture]:
                    raise LostError("other bytes")
                self._count("read")

    # what must hold

    def check(self) -> None:
        while self._twins:
            self.schedule.spawn(*self._twins.pop())
        folders = self.store.folders
        for name in folders[MANIFESTS]:
            self._note_late(_capture_of(name))
        self._seen &= {_capture_of(name) for name in folders[MANIFESTS]}
        there = {need for need in self._needed() if self._sound_copies(need)}
        for need in self.had & self._needed() - there - self.rotten:
            raise LostError(f"the last sound copy of {need} is gone")
        self.rotten -= {need for need in self.rotten if self._counted(need)}
        self.had = there

    def _needed(self) -> set[str]:
        captures = {_capture_of(name) for name in self.store.folders[MANIFESTS]}
        return set().union(*(self.needs[one] for one in captures if not self._is_nobodys(one)))

    def _counted(self, need: str) -> list[str]:
        """Return the sound copies but those that are on their way out because of the one at the first name, which may rot."""
        leaving = ("condemned/", f"{damaged_name(need)}G")
        return [name for name in self._sound_copies(need) if not name.startswith(leaving)]

    def _excused(self, capture: str) -> bool:
        gone = capture in self.late | self.forgotten
        return gone or any(need in self.rotten or not self._sound_copies(need) for need in self.needs[capture])

    def _sound_copies(self, need: str) -> list[str]:
        folder, _, last = need.rpartition("/")
        found = []
        for place, objects in self.store.folders.items():
            if place == DAMAGED:
                names = [
                    name for name in objects if name.rpartition("/")[2].startswith(last) and not name.endswith(".json")
                ]
            elif place == folder or place.endswith(f"/{folder}"):
                names = [f"{place}/{last}"] if f"{place}/{last}" in objects else []
            else:
                continue
            found += [name for name in names if is_sound(need, objects[name][0])]
        return found

    def check_end(self) -> None:
        """A healthy host verifies; then every sound copy is where it is found without a look into `damaged/`."""
        repository = self._repository()
        for capture in {_capture_of(name) for name in self.store.folders[MANIFESTS]}:
            if self._is_nobodys(capture):
                repository.forget(capture)
        for _ in range(2):
            self.clock.now += timedelta(hours=2)
            verify(repository, repository.manifests(), set_aside=True)
        for need in self._needed():
            copies = self._sound_copies(need)
            if copies and all(name.startswith(DAMAGED) for name in copies):
                raise LostError(f"{need} is stranded: {copies}")
        self.read_all(repository)

    def read_all(self, repository: Repository) -> None:
        for capture in repository.capture_ids():
            index = repository.manifest(capture).guests[0].disks[0].index
            try:
                same = read_disk(repository, index) == self.disks[capture]
            except (ChunkDamaged, IndexDamaged) as error:
                if not self._excused(capture):
                    raise LostError(f"{capture}: {error.message}") from error
            else:
                assert same


def is_sound(need: str, data: bytes) -> bool:
    digest = bytes.fromhex(need.rpartition("/")[2])
    try:
        if need.startswith(CHUNKS):
            unseal(data, digest)
        else:
            read_index(BytesIO(data), digest).close()
    except (ChunkDamaged, IndexDamaged, NewerFormat):
        return False
    return True


@contextmanager
def one_thread(world: QuarantineWorld) -> Iterator[None]:
    """Have an actor do everything in its own thread, and all of them look at the world's clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "look_at_all", looked_at)
        patch.setattr(catalog, "read_ahead", one_at_a_time)
        patch.setattr(inherited, "_asked", asked)
        patch.setattr(aside, "now", world.clock)
        yield


def looked_at(objects: Objects, tier: Tier, chunks: Iterable[bytes], *_: object) -> Iterator[Look]:
    return (look(objects, tier, one) for one in chunks)


def asked(objects: Objects, groups: list[dict[str, bytes]], _: object) -> set[bytes]:
    return {digest for names in groups for name, digest in names.items() if not objects.has_chunk(name)}


def drawn_quarantine(seed: int) -> QuarantineWorld:
    random = Random(seed)  # noqa: S311  the same schedule again for the same seed
    return QuarantineWorld(random, timedelta(hours=1), copies=random.random() < 0.25)
