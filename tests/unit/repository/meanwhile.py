"""A store in which something happens meanwhile, and runs of garbage collection over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from freezeframe.repository import Repository
from freezeframe.repository.garbage import CollectReport, Progress, collect
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import Entry

from .times import Time


class Meanwhile(MemoryStore):
    """Lets something happen once, just before an object is read or a folder is listed; knows what was settled."""

    def __init__(self, clock: Time) -> None:
        super().__init__(clock)
        self.before: dict[str, Callable[[], None]] = {}
        self.settled: list[str] = []

    def get(self, name: str) -> bytes:
        self._now(name)
        return super().get(name)

    def entries(self, folder: str) -> Iterator[Entry]:
        self._now(folder)
        return super().entries(folder)

    def settle(self, folders: Iterable[str]) -> None:
        self.settled += folders

    def _now(self, name: str) -> None:
        self.before.pop(name, lambda: None)()


def run(repository: Repository, time: Time, on_progress: Callable[[Progress], None] = lambda _: None) -> CollectReport:
    return collect(repository, grace=timedelta(hours=1), clock=time, on_progress=on_progress, threads=0)
