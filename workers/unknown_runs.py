"""Unknown runs: since when Redis has known nothing of the runs of captures that are open on this host.

This host may be the only one that sees it: on the wrong side of a split, or for the moments in which the Redis to which a
master's name leads is another. To end the session of such a run would fail the seal of all its hosts. So a run is lost only
once it was unknown for a while, without an answer in between that says otherwise, or none; until then this host gives up its
own guests alone. Not for long: its claims stay, and a later capture of those guests is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import structlog

log = structlog.get_logger("unknown-runs")

#: Seconds that a run must be unknown to count as lost: several looks of recovery, and as long as a failover takes as a rule.
LOST_S = 15.0


class UnknownRuns:
    """The observations of one process, from look to look; no clock but its own is asked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def is_lost(self, capture_id: str) -> bool:
        """Note that Redis does not know a run just now. Return True if it has not for long enough."""
        now = self._clock()
        if capture_id not in self._since:
            log.warning("Redis does not know the run of an open capture", capture=capture_id)
        return now - self._since.setdefault(capture_id, now) >= LOST_S

    def forget(self, capture_id: str) -> None:
        """Note that Redis knows a run, or does not say."""
        self._since.pop(capture_id, None)

    def keep(self, capture_ids: Collection[str]) -> None:
        """Forget all runs but these."""
        self._since = {one: since for one, since in self._since.items() if one in capture_ids}
