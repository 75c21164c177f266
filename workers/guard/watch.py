"""The watching thread of a guard: it begins each look when it is due, and reads again the leases that could not be read.

A look runs in a bounded pool (`GuestCalls`); one that hangs costs one thread of it, and no other guest waits.
"""

from __future__ import annotations

import contextlib
import threading

import structlog

from workers.bounded import GuestCalls, GuestHangsError
from workers.guard import letting_go
from workers.guard.ledger import DueLook, Ledger
from workers.guard.table import Look
from workers.hypervisor.connection import Hypervisor

log = structlog.get_logger("guard")

#: Seconds between two tries to read a lease that names no guest as far as it can be read.
READ_AGAIN_S = 5.0


class Watch:
    """Looks at the guests of leases that are let go."""

    def __init__(self, ledger: Ledger, hypervisor: Hypervisor) -> None:
        self.calls = GuestCalls()
        self.thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._ledger = ledger
        self._hypervisor = hypervisor

    def at_work(self) -> bool:
        """Return False if no thread watches the deadlines any more; blocks if none gets at the leases."""
        with self._ledger.changed:
            return self.thread.ident is None or self.thread.is_alive()

    def _watch(self) -> None:
        ledger = self._ledger
        read_again = ledger.clock() + READ_AGAIN_S
        while True:
            if ledger.unread and ledger.clock() >= read_again:
                with contextlib.suppress(OSError):  # the next time
                    ledger.find()
                read_again = ledger.clock() + READ_AGAIN_S
            with ledger.changed:
                now = ledger.clock()
                due = ledger.due(now)
                if not due:
                    ledger.changed.wait(self.pause_s(now))
            for look in due:
                self._begin(look)

    def pause_s(self, now: float) -> float | None:
        """Return how long to sleep; None if only another event can tell. With the ledger's lock."""
        nearest = self._ledger.next_time()
        if nearest is None:
            return READ_AGAIN_S if self._ledger.unread else None
        return max(nearest - now, 0.001)

    def _begin(self, due: DueLook) -> None:
        try:
            self.calls.start(due.guest.guest_uuid, lambda: self._look(due))
        except (GuestHangsError, RuntimeError) as error:  # no thread is left, or none can be started
            log.error("a look cannot begin", guest=due.guest.guest_uuid, why=str(error))  # noqa: TRY400
            self._ledger.looked(due, Look.NO_ANSWER, self._ledger.clock())

    def _look(self, due: DueLook) -> None:
        asked, answer = self._ledger.clock(), Look.NO_ANSWER
        try:
            answer = letting_go.look(self._hypervisor, self.calls, due.guest)
        finally:
            self._ledger.looked(due, answer, asked)
