"""A store far away: how many round trips, one after another, does a reading take? Counted, and nothing waits for a clock."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from freezeframe.repository.layout import MANIFESTS
from freezeframe.repository.read_ahead import AT_ONCE
from freezeframe.repository.store import MemoryStore

if TYPE_CHECKING:
    from freezeframe.repository import Manifest

#: Seconds until a reader that asks for less at once than it should is found out.
_STUCK_S: Final = 20.0


class FarStore(MemoryStore):
    """Each manifest is given when as many are asked for at once as can be: that is one round trip.

    asked for   │ 1 … 32 │ 33 … 64 │ 65 … 70 │       3 rounds
    """

    def __init__(self) -> None:
        super().__init__()
        self.rounds = 0
        self.gets = 0
        self._left = 0
        self._waiting = 0
        self._ended = False
        self._changed = threading.Condition()

    def put_away(self, manifests: list[Manifest]) -> None:
        """Have these captures, and expect each of them to be read."""
        self.put_many([(f"{MANIFESTS}/{one.capture_id}.json", one.to_json()) for one in manifests])
        self._left = len(manifests)

    def expect(self, reads: int) -> None:
        self.rounds, self.gets, self._left, self._ended = 0, 0, reads, False

    def get(self, name: str) -> bytes:
        if name.startswith(f"{MANIFESTS}/"):
            self._travel()
        return super().get(name)

    def _travel(self) -> None:
        with self._changed:
            self.gets += 1
            self._waiting += 1
            mine = self.rounds
            if self._waiting >= min(AT_ONCE, self._left):
                self.rounds += 1
                self._left -= self._waiting
                self._waiting = 0
                self._changed.notify_all()
            elif not self._changed.wait_for(lambda: self._ended or self.rounds > mine, _STUCK_S):
                raise AssertionError(f"{self._waiting} manifests are read at once, with {self._left} left to read")

    def end(self) -> None:
        """Give what is still asked for: nobody wants it any more."""
        with self._changed:
            self._ended = True
            self._waiting = 0
            self._changed.notify_all()
