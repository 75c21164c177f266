"""A world of writers, sealers, forgetters, readers and collectors over one repository, and what must hold after every step.

*Every manifest that is visible restores byte for byte.* The exception is in docs/repository.md: a manifest that was put when
its session had expired already, as long as nobody was told that it is sealed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from freezeframe.repository import Repository, find_parents
from freezeframe.repository.age import drift_allowed
from freezeframe.repository.chunk import digest_of_chunk
from freezeframe.repository.config import Config
from freezeframe.repository.errors import (
    CaptureNotFound,
    ChunkDamaged,
    ClockDrift,
    CollectionOverdue,
    CollectionStopped,
    IndexDamaged,
    RepositoryDamaged,
    RepositoryNotWritable,
    SessionLost,
)
from freezeframe.repository.garbage import collect
from freezeframe.repository.layout import (
    CHUNKS,
    CONDEMNED,
    FORGOTTEN,
    INDEXES,
    MANIFESTS,
    SESSIONS,
    locate,
    session_name,
)
from freezeframe.repository.manifest import Manifest

from .samples import CHUNK, GUEST, capture_id, disk_capture, disk_of, manifest_of, read_disk
from .schedule import Actor, Clock, Schedule, SharedStore, View

SLOTS = 3
CONTENTS = (b"", b"a", b"b", b"c", b"d")
START = datetime(2026, 3, 1, tzinfo=UTC)


Body = Callable[[Repository, Random], None]


class LostError(AssertionError):
    """Something that a manifest refers to is nowhere, or is not what was written."""


@dataclass
class World:
    random: Random
    grace: timedelta
    copies: bool
    skewed: bool = False  # each actor is on a host with a clock of its own
    clock: Clock = field(default_factory=lambda: Clock(START))
    disks: dict[str, bytes] = field(default_factory=dict)  # what each capture must restore
    needs: dict[str, set[str]] = field(default_factory=dict)  # the objects of each capture
    told: set[str] = field(default_factory=set)  # captures that somebody was told are sealed
    late: set[str] = field(default_factory=set)  # whose manifests were put after their sessions
    forgotten: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    _numbers: int = 0

    def __post_init__(self) -> None:
        self.store = SharedStore(self.clock, copies=self.copies)
        self.config = Config(id=UUID(int=1), chunk_bytes=CHUNK)
        self.store.put("config", self.config.to_json())
        self.schedule = Schedule(self.random, self.clock, self.check)

    def play(self, actors: int, at_once: int) -> None:
        """Let so many actors come and go, then all be ended, and collect what is left."""
        try:
            for number in range(actors):
                self._spawn(number)
                room = self.random.randint(1, at_once)
                while self.schedule.busy >= room:
                    self.schedule.step()
            while self.schedule.busy:
                self.schedule.step()
        finally:
            self.schedule.end()
        self.check_end()

    def actors(self) -> dict[Body, int]:
        """What actors do, and how often."""
        return {self.write: 5, self.forget: 3, self.collect: 5, self.read: 1}

    def _spawn(self, number: int) -> None:
        drawn = Random(self.random.random())  # noqa: S311  an actor's own, so that its choices do not depend on the others'
        kinds = self.actors()
        body = drawn.choices(list(kinds), list(kinds.values()))[0]
        kill_at = drawn.randint(1, 40) if drawn.random() < 0.15 else None

        def run(actor: Actor) -> None:
            body(self._repository(actor, drawn), drawn)

        self.schedule.spawn(f"{body.__name__} {number}", run, kill_at=kill_at)

    def _repository(self, actor: Actor | None = None, drawn: Random | None = None) -> Repository:
        view = View(self.store, self.schedule, actor) if actor else View(self.store)
        ahead = self._ahead(drawn) if drawn else timedelta(0)
        return Repository(view, self.config, clock=lambda: self.clock() + ahead)

    def _ahead(self, drawn: Random) -> timedelta:
        """How far a host's clock is from the store's: mostly as far as is allowed, seldom so far that it is refused."""
        if not self.skewed:
            return timedelta(0)
        if drawn.random() < 0.1:
            return drawn.choice([timedelta(days=40), timedelta(days=3), timedelta(hours=-2)])
        return drawn.uniform(-0.99, 0.99) * drift_allowed(self.grace)

    # what actors do

    def write(self, repository: Repository, random: Random) -> None:
        """A capture, full or incremental, from its session's beginning to its end."""
        self._numbers += 1
        number = self._numbers
        try:
            repository.sessions.begin(capture_id(number), "test")
        except (ClockDrift, SessionLost):
            self._count("refused")
            return
        try:
            manifest = self._write_disk(repository, random, number)
            repository.sessions.check(capture_id(number))
        except (SessionLost, IndexDamaged):
            repository.sessions.end(capture_id(number), sealed=False)
            return
        if random.random() < 0.2:  # another who seals the same: a chord's body and the reconciler

            def twin(actor: Actor) -> None:
                self.seal(self._repository(actor, random), manifest)

            self._twins.append((f"twin of {number}", twin))
        self.seal(repository, manifest)

    _twins: list[tuple[str, Callable[[Actor], None]]] = field(default_factory=list)

    def _write_disk(self, repository: Repository, random: Random, number: int) -> Manifest:
        disk = disk_of(*random.choices(CONTENTS, k=SLOTS))
        parent = next(iter(find_parents(repository.manifests(), GUEST)), None) if random.random() < 0.6 else None
        writer = repository.disk_writer(SLOTS * CHUNK, CHUNK)
        dirty = set(range(SLOTS))
        if parent is not None:
            writer.abort()
            writer = repository.disk_writer(SLOTS * CHUNK, CHUNK, parent_index_digest=parent.disk.index)
            dirty = {slot for slot in dirty if random.random() < 0.4}
            before = self.disks[parent.capture_id]
            disk = b"".join(
                (disk if slot in dirty else before)[slot * CHUNK : (slot + 1) * CHUNK] for slot in range(SLOTS)
            )
        with writer:
            for slot in sorted(dirty):
                writer.write_chunk(slot, disk[slot * CHUNK : (slot + 1) * CHUNK])
            for slot in writer.slots_to_read_again():
                writer.write_chunk(slot, disk[slot * CHUNK : (slot + 1) * CHUNK])
            index = writer.finish().digest
        self.disks[capture_id(number)] = disk
        chunks = {disk[at : at + CHUNK] for at in range(0, len(disk), CHUNK)} - {bytes(CHUNK)}
        index_name = repository.objects.protection.index_name(bytes.fromhex(index))
        self.needs[capture_id(number)] = {index_name, *(locate(digest_of_chunk(one)) for one in chunks)}
        return manifest_of(number, disk_capture(index, len(disk), checkpoint="cp"))

    def seal(self, repository: Repository, manifest: Manifest) -> None:
        try:
            repository.seal(manifest)
        except (RepositoryNotWritable, ClockDrift):
            return  # it stood still while it took a late manifest back, or its clock is off
        except (SessionLost, IndexDamaged):
            if manifest.capture_id not in self.told:
                repository.sessions.end(manifest.capture_id, sealed=False)
            return
        self.told.add(manifest.capture_id)
        self._count("sealed")
        repository.sessions.end(manifest.capture_id, sealed=True)

    def forget(self, repository: Repository, random: Random) -> None:
        found = [one.capture_id for one in repository.manifests()]
        if found:
            capture = random.choice(found)
            self.forgotten.add(capture)
            try:
                repository.forget(capture)
            except (CaptureNotFound, RepositoryNotWritable):
                return
            self._count("forgotten")

    def collect(self, repository: Repository, random: Random) -> None:
        try:
            report = collect(repository, grace=self.grace, clock=repository.sessions.clock, threads=0)
        except (CollectionOverdue, RepositoryNotWritable, ClockDrift):
            return  # it stood still for days, or between a copy and a delete; or its clock is off
        except CollectionStopped as error:
            if not self.late:
                raise LostError(error.message) from error
            return
        for what in ("condemned", "taken_over", "restored", "deleted"):
            self._count(what, getattr(report, what).objects)

    def read(self, repository: Repository, random: Random) -> None:
        manifests = repository.manifests()
        if manifests:
            manifest = random.choice(manifests)
            try:
                disk = b"".join(
                    bytes(CHUNK) if (data := self._slot(repository, manifest, slot)) is None else data
                    for slot in range(SLOTS)
                )
            except (ChunkDamaged, IndexDamaged) as error:
                if manifest.capture_id not in self.forgotten | self.late:
                    raise LostError(error.message) from error
                return
            if disk != self.disks[manifest.capture_id]:
                raise LostError("other bytes")
            self._count("read")

    def _slot(self, repository: Repository, manifest: Manifest, slot: int) -> bytes | None:
        with repository.disk_reader(manifest.guests[0].disks[0].index) as reader:
            return reader.read_slot(slot)

    # what must hold

    def check(self) -> None:
        """After every step, of every visible manifest."""
        while self._twins:
            self.schedule.spawn(*self._twins.pop())
        folders = self.store.folders
        runs = [name[: -len(".json")] for name in folders[CONDEMNED]]
        for name in folders[MANIFESTS]:
            capture = _capture_of(name)
            self._note_late(capture)
            if self._is_nobodys(capture):
                continue
            for need in self.needs[capture]:
                folder = need.rpartition("/")[0]
                if need not in folders[folder] and not any(
                    f"{run}/{need}" in folders[f"{run}/{folder}"] for run in runs
                ):
                    raise LostError(f"{need} of {capture} is lost")

        self._seen &= {_capture_of(name) for name in folders[MANIFESTS]}

    def _is_nobodys(self, capture: str) -> bool:
        """Whether it was put too late, and nobody was told of it, or not since it was forgotten."""
        return capture in self.late and (capture not in self.told or capture in self.forgotten)

    _seen: set[str] = field(default_factory=set)

    def _note_late(self, capture: str) -> None:
        """When a manifest shows that did not before: for the first time, or again after it was forgotten."""
        if capture not in self._seen:
            self._seen.add(capture)
            if session_name(capture) not in self.store.folders[SESSIONS]:
                self.late.add(capture)
                return
            session = self._repository().sessions.load(capture)
            if session.ended_at is not None or self.clock.now >= session.expires_at:
                self.late.add(capture)

    def check_end(self) -> None:
        """All is read by the real reader, and what nobody refers to goes in the end."""
        repository = self._repository()
        visible = {_capture_of(name) for name in self.store.folders[MANIFESTS]}
        broken = set(filter(self._is_nobodys, visible))
        for capture in broken:
            repository.forget(capture)
        for _ in range(4):
            self.clock.now += timedelta(days=9) + 2 * self.grace
            try:
                collect(repository, grace=self.grace, clock=self.clock, threads=0)
            except RepositoryDamaged as error:
                raise LostError(error.message) from error
        for capture in visible - broken:
            disk = repository.manifest(capture).guests[0].disks[0]
            try:
                same = read_disk(repository, disk.index) == self.disks[capture]
            except RepositoryDamaged as error:
                raise LostError(error.message) from error
            if not same:
                raise LostError(f"{capture} has other bytes")
        left = {name for folder in self.store.folders.values() for name in folder if name.startswith((CHUNKS, INDEXES))}
        assert left == set().union(*(self.needs[one] for one in visible - broken))
        # who was killed between a copy and a delete has forgotten nothing
        half = {f"{FORGOTTEN}/{one}.json" for one in visible}
        assert not set(self.store.folders[FORGOTTEN]) - half
        assert not any(
            objects for folder, objects in self.store.folders.items() if folder.startswith((CONDEMNED, SESSIONS))
        )
        assert self.told <= visible | self.forgotten

    def _count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number


def _capture_of(name: str) -> str:
    """The capture whose manifest has that name."""
    return name.removeprefix(f"{MANIFESTS}/").removesuffix(".json")


def drawn_world(seed: int) -> World:
    """A world of its own for each seed: some in a directory, some in object storage, graces from none to an hour."""
    random = Random(seed)  # noqa: S311  the same schedule again for the same seed
    copies = random.random() < 0.25
    grace = timedelta(hours=1) if copies else random.choice([timedelta(0), timedelta(seconds=20), timedelta(hours=1)])
    return World(random, grace, copies, skewed=random.random() < 0.5)
