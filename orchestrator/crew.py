"""Threads for one kind of work on runs that may hang, as the repository may: it keeps no other kind of work waiting.

| crew    | its work                                                 | if all of its threads hang                        |
|---------|----------------------------------------------------------|---------------------------------------------------|
| plans   | planning: the repository's sessions and manifests        | other plans wait; each ends at `plan_timeout_s`   |
| looks   | the looks that chords ask for: one of them may seal      | the reconciler looks, in 2 s (`apart`)            |
| cancels | the looks that a cancel asks for, which never seal       | the reconciler looks, in 2 s                      |

Celery's own threads take in requests and hand runs over to crews. They wait for Redis and for nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import redis
import structlog

from freezeframe import bus, redis_fault
from orchestrator import metrics

log = structlog.get_logger("crew")


class Crew:
    """A fixed number of threads, which take runs in the order in which they were asked for. Any thread may call."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self._size = threads
        self._threads: list[threading.Thread] = []
        self._own = threading.local()
        self._news = threading.Condition()
        self._waiting: dict[str, None] = {}  # in their order
        self._at_work: set[str] = set()
        self._ends = False

    def start(self, work: Callable[[str], object]) -> None:
        """Start the threads, each of which does `work` with one run after the other. Raises WorkerShutdown if there is none."""
        self._ends = False
        self._threads = [bus.start_beside(self.name, partial(self._go, work)) for _ in range(self._size)]

    def end(self) -> None:
        """Let threads end that have nothing to do."""
        with self._news:
            self._ends = True
            self._news.notify_all()

    def is_whole(self) -> bool:
        """Return True if each thread lives: one that has died takes no work, and nobody would see it."""
        return self._ends or (bool(self._threads) and all(thread.is_alive() for thread in self._threads))

    def soon(self, capture_id: str) -> None:
        """Have a thread work on a run, once more also if one is at work on it: it may have looked too early."""
        with self._news:
            self._waiting[capture_id] = None
            self._news.notify()

    def elsewhere(self, capture_id: str) -> bool:
        """Return True if a thread of the crew works on the run, now or in its turn; False to such a thread."""
        if getattr(self._own, "is_one", False):
            return False
        with self._news:
            if capture_id not in self._at_work and capture_id not in self._waiting:
                self._waiting[capture_id] = None
                self._news.notify()
        return True

    def _go(self, work: Callable[[str], object]) -> None:
        self._own.is_one = True
        while (capture_id := self._next()) is not None:
            try:
                work(capture_id)
            except redis.RedisError as error:
                log.warning("a look was interrupted", crew=self.name, run=capture_id, why=redis_fault.words_of(error))
            except Exception:  # the reconciler meets it too, and ends the run when its time is over
                metrics.RUN_TROUBLES.inc()
                log.exception("a look failed", crew=self.name, run=capture_id)
            finally:
                with self._news:
                    self._at_work.discard(capture_id)

    def _next(self) -> str | None:
        """Return the next run, as soon as there is one; None at the end."""
        with self._news:
            while not self._waiting:
                if self._ends:
                    return None
                self._news.wait()
            capture_id = next(iter(self._waiting))
            del self._waiting[capture_id]
            self._at_work.add(capture_id)
            return capture_id
