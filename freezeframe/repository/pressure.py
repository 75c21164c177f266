"""Pressure: what a writer's threads wait for, and how idle the processors are; what `effort` decides by."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from freezeframe.repository.effort import Effort, Look, begin, follow

#: Seconds between two looks: long enough to see some tens of chunks and of clock ticks.
_LOOK_S: Final = 0.5

#: Idle and total time of the processors so far, in any unit.
Processors = Callable[[], tuple[float, float]]


def processors() -> tuple[float, float]:
    """Of those that this process may use; none idle where nobody can say. [proc(5): idle and iowait are the 4th and 5th]"""
    with suppress(OSError, ValueError, IndexError):
        own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()]
        times = [[int(value) for value in words[1:9]] for words in lines if words and words[0] in own]
        return float(sum(one[3] + one[4] for one in times)), float(sum(map(sum, times)))
    return 0.0, 0.0


class Pressure:
    """The level at which a writer compresses. Any thread may call; a thread's chunks follow each other."""

    def __init__(
        self,
        effort: Effort,
        *,
        look_s: float = _LOOK_S,
        clock: Callable[[], float] = time.monotonic,
        processors: Processors = processors,
    ) -> None:
        self._effort = effort
        self._look_s = look_s
        self._clock = clock
        self._processors = processors
        self._lock = threading.Lock()
        self._last = threading.local()
        self._level = begin(effort)
        self._waited_s = self._spent_s = 0.0
        self._looked_at = clock()
        self._seen = processors()

    @property
    def level(self) -> int:
        return self._level.value

    @contextmanager
    def chunk(self) -> Iterator[None]:
        """Around all that is done about one chunk: what is between two of a thread is waiting for the source."""
        began = self._clock()
        since = getattr(self._last, "ended", began)
        try:
            yield
        finally:
            self._last.ended = ended = self._clock()
            self._add(waited_s=began - since, spent_s=ended - since)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around waiting for the store, inside `chunk`."""
        began = self._clock()
        try:
            yield
        finally:
            self._add(waited_s=self._clock() - began, spent_s=0.0)

    def _add(self, *, waited_s: float, spent_s: float) -> None:
        if self._effort.lowest == self._effort.highest:
            return
        with self._lock:
            self._waited_s += waited_s
            self._spent_s += spent_s
            now = self._clock()
            if now - self._looked_at >= self._look_s and self._spent_s > 0:
                self._level = follow(self._level, self._look(), self._effort)
                self._looked_at, self._waited_s, self._spent_s = now, 0.0, 0.0

    def _look(self) -> Look:
        idle, total = self._processors()
        elapsed = total - self._seen[1]
        look = Look(
            waiting=min(self._waited_s / self._spent_s, 1.0),
            idle=(idle - self._seen[0]) / elapsed if elapsed > 0 else 0.0,
        )
        self._seen = idle, total
        return look
