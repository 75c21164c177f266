"""The watching thread of a guard: it begins each look when it is due, and reads again the leases that could not be read.

A look runs in a bounded pool (`GuestCalls`), what it asks of libvirt in another. One that hangs costs one thread of each, and
no other guest waits. Some threads of each are kept ready: on a host that gives no more, guests are let go in turn.
A look that cannot begin is tried again.

why it cannot, or not ask            the guard
no thread, or no memory for one      is at work, and says so in its log: a new guard would have no more threads
every thread of either pool hangs    for STUCK_S: is not at work. Its supervisor starts another, which has all threads again
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import structlog

from workers.bounded import GuestCalls, ThreadsInUseError
from workers.guard import letting_go
from workers.guard.ledger import DueLook, Ledger
from workers.guard.table import Look
from workers.hypervisor.connection import Hypervisor

log = structlog.get_logger("guard")

#: Seconds between two tries to read a lease that names no guest as far as it can be read.
READ_AGAIN_S = 5.0
#: Seconds without a single look that could begin and ask, for want of a thread that does not hang, after which the guard gives
#: itself up: longer than a look at a guest that answers late.
STUCK_S = 30.0
#: Threads that wait for looks, and as many for what looks ask, from the guard's start. With one for each, guests would be let
#: go one after another, those that hang first.
READY_THREADS = 8


#: Told of a guest, the second, that is not here any more, and that the hold of a capture, the first, may still keep.
Gone = Callable[[str, str], None]


class Watch:
    """Looks at the guests of leases that are let go."""

    def __init__(self, ledger: Ledger, hypervisor: Hypervisor, gone: Gone = lambda *_: None) -> None:
        self.calls, self.asks = GuestCalls(), GuestCalls()
        self.thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._ledger = ledger
        self._hypervisor = hypervisor
        self._gone = gone
        self._stuck_since: float | None = None  # no look could begin, or ask, since then: every thread is in use

    def start(self) -> None:
        """Watch from now on. Raises RuntimeError, MemoryError if there is no thread for it."""
        self.keep_ready()
        self.thread.start()

    def keep_ready(self) -> None:
        """Have threads ready before they are needed, as many as the host gives."""
        ready = min(pool.keep_ready(READY_THREADS) for pool in (self.calls, self.asks))
        if ready < READY_THREADS:
            log.error("the host gives too few threads", ready=ready, wanted=READY_THREADS)

    def at_work(self) -> bool:
        """Return False if nobody watches the deadlines any more, or could look; blocks if no thread gets at the leases."""
        with self._ledger.changed:
            watches = self.thread.ident is None or self.thread.is_alive()
            return watches and not self._is_stuck()

    def _is_stuck(self) -> bool:
        """Return True if guests are to be let go and no look can begin, or ask."""
        return self._stuck_since is not None and self._ledger.clock() - self._stuck_since >= STUCK_S

    def _watch(self) -> None:
        ledger = self._ledger
        read_again = ledger.clock() + READ_AGAIN_S
        while True:
            if ledger.unread and ledger.clock() >= read_again:
                with contextlib.suppress(OSError):  # the next time
                    ledger.find()
                read_again = ledger.clock() + READ_AGAIN_S
            if not self.turn():
                with ledger.changed:
                    ledger.changed.wait(self.pause_s(ledger.clock()))

    def turn(self) -> bool:
        """Begin each look that is due now; return False if none is."""
        with self._ledger.changed:
            due = self._ledger.due(self._ledger.clock())
            if not self._ledger.lets_go():
                self._stuck_since = None
        for look in due:
            self._begin(look)
        return bool(due)

    def pause_s(self, now: float) -> float | None:
        """Return how long to sleep; None if only another event can tell. With the ledger's lock."""
        nearest = self._ledger.next_time()
        if nearest is None:
            return READ_AGAIN_S if self._ledger.unread else None
        return max(nearest - now, 0.001)

    def _begin(self, due: DueLook) -> None:
        now = self._ledger.clock()
        try:
            self.calls.start(due.guest.guest_uuid, lambda: self._look(due))
        except Exception as error:  # noqa: BLE001  whatever it is, the guest must be looked at again
            log.error("a look cannot begin", guest=due.guest.guest_uuid, why=str(error))  # noqa: TRY400
            self._stuck_since = (self._stuck_since or now) if isinstance(error, ThreadsInUseError) else None
            self._ledger.looked(due, Look.NO_ANSWER, now)
        else:  # it begins, and cannot ask if every thread for that hangs
            self._stuck_since = (self._stuck_since or now) if self.asks.is_full() else None

    def _look(self, due: DueLook) -> None:
        asked, answer = self._ledger.clock(), Look.NO_ANSWER
        try:
            answer = letting_go.look(self._hypervisor, self.asks, due.guest)
            if answer is Look.GONE and not self._tell_gone(due):
                answer = Look.NO_ANSWER
        finally:
            self._ledger.looked(due, answer, asked)

    def _tell_gone(self, due: DueLook) -> bool:
        """Have it written down that a guest has gone which may be held still; return False if it is not, as on a full disk.

        The lease is not retired until then: nobody else knows of the hold.
        """
        guest = due.guest.guest_uuid
        try:
            self.asks.answered(
                f"{guest} gone",
                "Noting that it has left",
                letting_go.LIBVIRT_S,
                lambda: self._gone(due.capture_id, guest),
            )
        except Exception as error:  # noqa: BLE001  the next look tries again
            log.error("it is not noted that a guest has left", guest=guest, why=str(error))  # noqa: TRY400
            return False
        return True
