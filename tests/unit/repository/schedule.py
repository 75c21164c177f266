"""Schedules: actors, each in a thread, of whom one makes one step at a time, chosen by chance; the same seed, the same course.

 actor ── store operation ──▶ parks ─ ─ ─ chosen ─ ─▶ does it ──▶ runs on to its next one, parks …
 scheduler        one at a time: choose, wait until it has parked again or ended, look at the invariants

An actor may be killed at any of its operations, before it is done: it does no other after that. It may be left standing while
others go on, and days go by. A listing of an empty folder is no step: nothing could be seen in it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import BytesIO
from random import Random
from typing import BinaryIO

from typing_extensions import Buffer

from freezeframe.repository.errors import AlreadyExists, ObjectNotFound, RepositoryNotWritable
from freezeframe.repository.layout import folder_of
from freezeframe.repository.store.backend import MOVE_WINDOW_S, Entry, Traffic, always

#: Steps for which a stalled actor stands still, while the others go on.
_STALL_STEPS = 150


def _closed() -> threading.Lock:
    """A lock as a gate: whoever acquires it waits for one release, by any thread."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Killed(BaseException):
    """The process is no more; not an Exception, so that it cleans nothing up."""


class Clock:
    """A second a step, and whatever the schedule adds."""

    def __init__(self, start: datetime) -> None:
        self.now = start

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now


@dataclass
class Actor:
    name: str
    kill_at: int | None
    weight: float
    turn: threading.Lock = field(default_factory=_closed)
    steps: int = 0
    doing: str = ""
    ended: bool = False
    error: BaseException | None = None
    stands_until: int = 0


class Schedule:
    """Runs actors, one step at a time. `after_step` is called in between, when nobody runs."""

    def __init__(self, random: Random, clock: Clock, after_step: Callable[[], None]) -> None:
        self.random = random
        self.clock = clock
        self.after_step = after_step
        self.steps = 0
        self.course: list[str] = []  # what was done, for who looks for a defect
        self._actors: list[Actor] = []
        self._parked = _closed()
        self._over = False

    def spawn(self, name: str, body: Callable[[Actor], None], *, kill_at: int | None = None) -> None:
        """Start an actor; it runs to its first operation."""
        actor = Actor(name, kill_at, weight=self.random.choice([0.05, 0.3, 1.0]))

        def run() -> None:
            try:
                body(actor)
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001  told by `step`
                actor.error = error
            actor.ended = True
            self._parked.release()

        self._actors.append(actor)
        threading.Thread(target=run, name=name, daemon=True).start()
        self._parked.acquire()
        self._look(actor)

    @property
    def busy(self) -> int:
        return len(self._actors)

    def park(self, actor: Actor, doing: str) -> None:
        """Called by an actor before each operation: wait for its turn. Raises Killed."""
        if self._over:
            raise Killed
        actor.doing = doing
        self._parked.release()
        actor.turn.acquire()
        actor.steps += 1
        self._check_alive(actor)

    def _check_alive(self, actor: Actor) -> None:
        if self._over or (actor.kill_at is not None and actor.steps >= actor.kill_at):
            raise Killed

    def step(self) -> None:
        """Let one actor make one step. Raises what an actor or `after_step` raises."""
        self.steps += 1
        self._chance()
        ready = [one for one in self._actors if one.stands_until <= self.steps] or self._actors
        actor = self.random.choices(ready, [one.weight for one in ready])[0]
        self.course.append(f"{self.clock.now:%d %H:%M:%S}  {actor.name}: {actor.doing}")
        actor.turn.release()
        self._parked.acquire()
        self._look(actor)
        self.after_step()

    def end(self) -> None:
        """End whoever is left."""
        self._over = True
        for actor in self._actors:
            actor.turn.release()
            self._parked.acquire()

    def _chance(self) -> None:
        self.clock.now += timedelta(seconds=1)
        drawn = self.random.random()
        if drawn < 0.015:
            self.random.choice(self._actors).stands_until = self.steps + _STALL_STEPS
            self.clock.now += self.random.choice([timedelta(0), timedelta(hours=3), timedelta(days=8)])
        elif drawn < 0.05:
            self.clock.now += timedelta(hours=3)

    def _look(self, actor: Actor) -> None:
        if actor.ended:
            self._actors.remove(actor)
            if actor.error is not None:
                raise actor.error


class SharedStore:
    """What all actors share. `copies`: a move is a copy and a delete, as in object storage."""

    address = "shared:"

    def __init__(self, clock: Clock, *, copies: bool = False) -> None:
        self.clock = clock
        self.copies = copies
        self.folders: dict[str, dict[str, tuple[bytes, datetime]]] = defaultdict(dict)

    def put(self, name: str, data: bytes) -> None:
        self.folders[folder_of(name)][name] = (data, self.clock())

    def get(self, name: str) -> bytes:
        try:
            return self.folders[folder_of(name)][name][0]
        except KeyError:
            raise ObjectNotFound(f"{name} is not there.") from None

    def exists(self, name: str) -> bool:
        return name in self.folders.get(folder_of(name), ())

    def entries(self, folder: str) -> list[Entry]:
        return [Entry(name, len(data), at) for name, (data, at) in self.folders.get(folder, {}).items()]

    def delete(self, name: str) -> None:
        self.folders[folder_of(name)].pop(name, None)

    def copy(self, name: str, to: str) -> None:
        self.get(name)
        self.folders[folder_of(to)][to] = self.folders[folder_of(name)][name]


class View:
    """The shared store as one actor sees it: each operation is a step. Without a schedule: just the store."""

    def __init__(self, shared: SharedStore, schedule: Schedule | None = None, actor: Actor | None = None) -> None:
        self.shared = shared
        self._schedule = schedule
        self._actor = actor

    @property
    def address(self) -> str:
        return self.shared.address

    @property
    def traffic(self) -> Traffic:
        return Traffic(at_once=4, remote=False)

    def put(self, name: str, source: BinaryIO) -> None:
        data = source.read()
        self._step(f"put {name}")
        self.shared.put(name, data)

    def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
        for name, data in objects:
            self.put(name, BytesIO(data))

    def put_if_absent(self, name: str, data: Buffer) -> None:
        self._step(f"create {name}")
        if self.shared.exists(name):
            raise AlreadyExists(f"{name} exists.")
        self.shared.put(name, bytes(data))

    def settle(self, folders: Iterable[str]) -> None:
        pass

    def get(self, name: str) -> bytes:
        self._step(f"get {name}")
        return self.shared.get(name)

    def open(self, name: str) -> BinaryIO:
        return BytesIO(self.get(name))

    def exists(self, name: str) -> bool:
        self._step(f"exists {name}")
        return self.shared.exists(name)

    def size(self, name: str) -> int:
        return len(self.get(name))

    def modified(self, name: str) -> datetime:
        self._step(f"time of {name}")
        self.shared.get(name)
        return self.shared.folders[folder_of(name)][name][1]

    def names(self, folder: str) -> Iterator[str]:
        return (entry.name for entry in self.entries(folder))

    def entries(self, folder: str) -> Iterator[Entry]:
        if self.shared.folders.get(folder):
            self._step(f"list {folder}")
        return iter(self.shared.entries(folder))

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        self._step(f"move {name} to {to}")
        allowed()
        self.shared.copy(name, to)
        if self.shared.copies:
            copied = self.shared.clock()
            self._step(f"move {name} to {to}: the delete")
            if self.shared.clock() - copied > timedelta(seconds=MOVE_WINDOW_S):
                raise RepositoryNotWritable(f"Moving {name} took too long.")
        self.shared.delete(name)

    def delete(self, name: str) -> None:
        self._step(f"delete {name}")
        self.shared.delete(name)

    def drop_cached(self, name: str) -> None:
        pass

    def check_writable(self) -> None:
        pass

    def free_bytes(self) -> int | None:
        return None

    def _step(self, doing: str) -> None:
        if self._schedule is not None and self._actor is not None:
            self._schedule.park(self._actor, doing)
