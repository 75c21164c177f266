"""Patience: for how long a request that did not go through is tried again.

    try ─ pause ─ try ─ pause ─ try …      pauses of about 0.2, 0.4, 0.8 … 5 s, until `seconds` are over

Only errors that say of themselves that they are transient are tried again; the last one is raised. What consists of many
requests is tried request by request, so the time counts from the last one that went through.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, TypeVar

from freezeframe.repository.errors import RepositoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ResultT = TypeVar("ResultT")

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0


def pauses(random_share: Callable[[], float] = random.random) -> Iterator[float]:
    """Yield seconds between tries, for ever: doubling, and half of each by chance, so that writers do not come together."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s * (0.5 + random_share() / 2)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


class Patience:
    """The time for which a request is tried again. Any thread may call; each call has its own time.

    `seconds` may be changed at any time: a program whose user waits for it at first may run for hours later.
    """

    def __init__(
        self,
        seconds: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self._sleep = sleep
        self._clock = clock

    def tried(self, attempt: Callable[[], ResultT]) -> ResultT:
        """Return what the attempt returns, once it goes through. Raises what it raises."""
        wait = self.begin()
        while True:
            try:
                return attempt()
            except RepositoryError as error:
                if not error.transient or not wait.again():
                    raise

    def begin(self) -> Wait:
        """Return the time for which something is tried from now on."""
        return Wait(self, self._sleep, self._clock)


class Wait:
    """The time of one request, or of several that count as one: it begins anew when one of them goes through."""

    def __init__(self, patience: Patience, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        self.went_through()

    def went_through(self) -> None:
        self._began = self._clock()
        self._pauses = pauses()

    def again(self) -> bool:
        """Pause, and return True; return False at once if the time is over."""
        pause_s = next(self._pauses)
        if self._clock() - self._began + pause_s > self._patience.seconds:
            return False
        self._sleep(pause_s)
        return True
