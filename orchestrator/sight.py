"""Whether Redis was away lately: what hosts have answered meanwhile may be on its way, and no silence of theirs is known.

orchestrator ──╳── Redis ──╳── hosts         a host's result waits in its journal, and is published again every 5 s
a state's time may be over by then, and no host is late for it

A Redis that comes and goes for a moment each would put off the end of each state for ever. Hosts get their answers through
between two losses: so a few returns count, and the next one when the first of these is long ago.
"""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime, timedelta

import structlog

from freezeframe.contract.words import RunState
from orchestrator.run import Run

log = structlog.get_logger("sight")

#: Time that hosts have after that to tell what they have answered: their connections come back within seconds, and recovery
#: publishes again every 5 s.
REJOIN = timedelta(seconds=20)

#: Returns of Redis that count, in that time: states end late by two minutes in ten.
MOST_RETURNS, RETURNS_IN = 6, timedelta(minutes=10)

#: States that end when their time is over without an answer of hosts.
_WAITING = frozenset({RunState.PREPARING, RunState.HOLDING, RunState.TRANSFERRING, RunState.RELEASING})


class Sight:
    """What a process knows of Redis's absence. Any thread may call."""

    def __init__(self) -> None:
        self._lost = False
        self._back_at: datetime | None = None
        self._returns = deque[datetime](maxlen=MOST_RETURNS)
        self._lock = threading.Lock()

    def lose(self) -> None:
        """Note that Redis does not answer, or that nobody knows whether it did: a process that begins."""
        with self._lock:
            self._lost = True

    def find(self, now: datetime) -> None:
        """Note that Redis answers."""
        with self._lock:
            if not self._lost:
                return
            self._lost = False
            many = len(self._returns) == MOST_RETURNS
            if many and timedelta() <= now - self._returns[0] < RETURNS_IN:
                log.warning("Redis comes and goes: hosts get no more time for that", returns=MOST_RETURNS)
                return
            self._returns.append(now)
            self._back_at = now

    def rejoining(self, now: datetime) -> bool:
        """Return True if hosts may not have published themselves since Redis is back."""
        with self._lock:
            return self._back_at is not None and timedelta() <= now - self._back_at < REJOIN

    def excused(self, run: Run, now: datetime) -> Run | None:
        """Return a run whose hosts have time to answer now that Redis is back; None if they need no more than they have."""
        with self._lock:
            back_at = self._back_at
        if back_at is None or run.state not in _WAITING or not timedelta() <= now - back_at < REJOIN:
            return None
        until = back_at + REJOIN
        changes: dict[str, object] = {"due_at": until} if run.due_at < until else {}
        if run.search is not None and run.search.until < until:
            changes["search"] = run.search.model_copy(update={"until": until})
        return run.model_copy(update=changes) if changes else None
