"""Pressure: what a writer's threads wait for, and how idle the processors are; what `effort` decides by."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
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
    """The level at which a writer compresses. Any thread may call; a thread's chunks follow each other.

    source │ begin │ … waited for the store … │ end │ source │ begin │ …        of each thread
    """

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
        self._own = threading.local()
        self._level = begin(effort)
        self._waited_s = self._spent_s = 0.0
        self._looked_at = clock()
        self._seen = processors()

    @property
    def level(self) -> int:
        return self._level.value

    def begin(self) -> None:
        """The calling thread begins with a chunk: since its last one ended it has waited for the source."""
        own, now = self._own, self._clock()
        own.since = getattr(own, "ended", now)
        own.waited_s = now - own.since

    def waited(self, seconds: float) -> None:
        """For the store, between `begin` and `end`."""
        self._own.waited_s += seconds

    def end(self) -> None:
        """All is done about the chunk."""
        if self._effort.lowest == self._effort.highest:
            return
        own = self._own
        own.ended = now = self._clock()
        with self._lock:
            self._waited_s += own.waited_s
            self._spent_s += now - own.since
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
