"""A world with a copy: others capture, forget and collect garbage on both sides while captures are copied.

*Every manifest that is visible in the copy restores byte for byte*, at every step, with the exception of `world.py`: one that
was put when the session of its copier had expired, as long as nobody was told of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from freezeframe.repository import Repository
from freezeframe.repository.chain import read_chain
from freezeframe.repository.copying import PROGRAM, copy, open_copy
from freezeframe.repository.errors import (
    CaptureNotFound,
    ClockDrift,
    CollectionOverdue,
    CollectionStopped,
    IndexDamaged,
    RepositoryDamaged,
    RepositoryNotWritable,
    SessionLost,
)
from freezeframe.repository.freshness import holes
from freezeframe.repository.garbage import collect
from freezeframe.repository.layout import CONDEMNED, MANIFESTS, SESSIONS

from .samples import read_disk
from .schedule import SharedStore, View
from .world import Body, LostError, World, _capture_of


@dataclass
class CopyWorld(World):
    told_there: set[str] = field(default_factory=set)  # captures that somebody was told are in the copy
    late_there: set[str] = field(default_factory=set)
    forgotten_there: set[str] = field(default_factory=set)
    _seen_there: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.copy = SharedStore(self.clock, copies=self.copies)
        self.copy.put("config", self.config.to_json())

    def actors(self) -> dict[Body, int]:
        return {**super().actors(), self.copy_captures: 4, self.forget_there: 1, self.collect_there: 4}

    def _copy(self, repository: Repository) -> Repository:
        """Return the copy as the actor sees it that has opened `repository`."""
        view = repository.store
        assert isinstance(view, View)
        there = View(self.copy, view._schedule, view._actor)
        return open_copy(there, repository, repository.sessions.clock)

    def copy_captures(self, repository: Repository, random: Random) -> None:
        try:
            there = self._copy(repository)
            report = copy(repository, there, lambda: there, threads=0)
        except (ClockDrift, SessionLost, IndexDamaged):
            return  # its clock is off, or it stood still for days
        for one in report.left:
            if one.capture_id not in self.forgotten | self.late:
                raise LostError(f"{one.capture_id} could not be copied: {one.reason}")
        self.told_there.update(report.copied)
        self._count("copied", len(report.copied))

    def forget_there(self, repository: Repository, random: Random) -> None:
        there = self._copy(repository)
        found = there.capture_ids()
        if found:
            capture = random.choice(found)
            self.forgotten_there.add(capture)
            try:
                there.forget(capture)
            except (CaptureNotFound, RepositoryNotWritable):
                return
            self._count("forgotten there")

    def collect_there(self, repository: Repository, random: Random) -> None:
        there = self._copy(repository)
        try:
            report = collect(there, grace=self.grace, clock=there.sessions.clock, threads=0)
        except (CollectionOverdue, RepositoryNotWritable, ClockDrift):
            return
        except CollectionStopped as error:
            if not self.late_there:
                raise LostError(error.message) from error
            return
        self._count("condemned there", report.condemned.objects)
        self._count("deleted there", report.deleted.objects)

    def check(self) -> None:
        super().check()
        folders = self.copy.folders
        runs = [name[: -len(".json")] for name in folders[CONDEMNED]]
        for name in folders[MANIFESTS]:
            capture = _capture_of(name)
            if capture not in self._seen_there:
                self._seen_there.add(capture)
                if not self._has_session_there():
                    self.late_there.add(capture)
            if capture in self.late_there and (capture not in self.told_there or capture in self.forgotten_there):
                continue
            for need in self.needs[capture]:
                folder = need.rpartition("/")[0]
                if need not in folders[folder] and not any(
                    f"{run}/{need}" in folders[f"{run}/{folder}"] for run in runs
                ):
                    raise LostError(f"{need} of {capture} is lost in the copy")
        self._seen_there &= {_capture_of(name) for name in folders[MANIFESTS]}

    def _has_session_there(self) -> bool:
        """Return True if somebody who copies has a session there that is open and has not expired."""
        there = Repository(View(self.copy), self.config, clock=self.clock)
        names = [name.removeprefix(f"{SESSIONS}/").removesuffix(".json") for name in self.copy.folders[SESSIONS]]
        sessions = [there.sessions.load(one) for one in names]
        return any(
            one.program == PROGRAM and one.ended_at is None and self.clock.now < one.expires_at for one in sessions
        )

    def check_end(self) -> None:
        """Copy once more, with nobody at work; then all that is in the copy is read by the real reader."""
        super().check_end()
        repository = self._repository()
        there = Repository(View(self.copy), self.config, clock=self.clock)
        for capture in self.late_there & {_capture_of(name) for name in self.copy.folders[MANIFESTS]}:
            there.forget(capture)
        report = copy(repository, there, lambda: there, threads=0)
        assert report.whole
        for _ in range(4):
            self.clock.now += timedelta(days=9) + 2 * self.grace
            collect(there, grace=self.grace, clock=self.clock, threads=0)
        assert holes(read_chain(there)) == []
        assert {*report.copied, *report.there, *report.forgotten_there} == set(repository.capture_ids())
        for manifest in there.manifests():
            try:
                same = read_disk(there, manifest.guests[0].disks[0].index) == self.disks[manifest.capture_id]
            except RepositoryDamaged as error:
                raise LostError(error.message) from error
            if not same:
                raise LostError(f"{manifest.capture_id} has other bytes in the copy")


def drawn_copy_world(seed: int) -> CopyWorld:
    """Return a world of its own for each seed, as `drawn_world` does."""
    random = Random(seed)  # noqa: S311  the same schedule again for the same seed
    copies = random.random() < 0.25
    grace = timedelta(hours=1) if copies else random.choice([timedelta(0), timedelta(seconds=20), timedelta(hours=1)])
    return CopyWorld(random, grace, copies, skewed=random.random() < 0.5)
