"""A clock that only the test moves."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, tzinfo

from freezeframe.repository.store.patience import Patience


class Time:
    """Microseconds go by with every look, so that no two moments are the same; all else is the test's."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    def pass_(self, **amount: float) -> None:
        self.now += timedelta(**amount)


class SetForward:
    """The machine's clock, set forward by the test. It stands in for `datetime` where times of files are read."""

    #: Seconds: the time of a file is that of the kernel's last tick.
    _TICK_S = 0.02

    def __init__(self) -> None:
        self._jumps = [(0.0, timedelta(0))]

    def __call__(self) -> datetime:
        return self.fromtimestamp(time.time(), UTC)

    def pass_(self, **amount: float) -> None:
        self._jumps.append((time.time() - self._TICK_S, self._jumps[-1][1] + timedelta(**amount)))

    def fromtimestamp(self, stamp: float, zone: tzinfo) -> datetime:
        passed = next(passed for since, passed in reversed(self._jumps) if since <= stamp)
        return datetime.fromtimestamp(stamp, zone) + passed


class Waiting:
    """Seconds that only waiting moves, for those who have patience."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept = 0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1

    def patience(self, seconds: float) -> Patience:
        return Patience(seconds, sleep=self.sleep, clock=lambda: self.now)
