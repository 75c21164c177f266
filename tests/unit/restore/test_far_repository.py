"""A restore from object storage: as many chunks on their way as hide the way there, whatever the destination's lanes are."""

from __future__ import annotations

import threading

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.lanes import LEAST
from freezeframe.repository.layout import CHUNKS
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import Traffic
from workers.restore.pour import Pouring

from .samples import CHUNK, noise, store
from .test_pour import Remembering

LONG_S = 60.0


class Far(MemoryStore):
    """Answers for chunks once so many are asked for at the same time."""

    def __init__(self, traffic: Traffic, wanted: int) -> None:
        super().__init__()
        self._traffic = traffic
        self.together = threading.Barrier(wanted)

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    def get(self, name: str) -> bytes:
        if name.startswith(CHUNKS):
            self.together.wait(LONG_S)
        return super().get(name)


@pytest.mark.parametrize(
    ("traffic", "at_once"), [(Traffic(at_once=32, remote=True), 32), (Traffic(at_once=32, remote=False), LEAST)]
)
def test_a_far_repository_is_asked_for_many_chunks_at_once(traffic: Traffic, at_once: int) -> None:
    repository = Repository.init_in(Far(traffic, at_once), chunk_bytes=CHUNK)
    disk = noise(2 * 32 * CHUNK)
    index = store(repository, disk)
    destination = Remembering(len(disk), LEAST)
    with repository.disk_reader(index) as reader:
        Pouring(reader, destination, lambda _: None).run()
    assert bytes(destination.content) == disk
