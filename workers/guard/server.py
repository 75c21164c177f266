"""The thaw guard itself: a socket for the workers, the ledger of their leases, and the watch over both.

a thread for each connection     calls of one worker, in order
the watching thread              `watch`: looks at guests when it is time
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog
from pydantic import ValidationError

from workers import durable
from workers.boot import now_s
from workers.bounded import NO_THREAD
from workers.guard.lease import Answer, Arm, Call, Disarm, Inquire, LeaseFiles, Refusal
from workers.guard.ledger import Ledger, Settled
from workers.guard.watch import Gone, Watch
from workers.hypervisor.connection import Hypervisor

log = structlog.get_logger("guard")

#: The longest line a worker may send; a lease of a thousand guests is 40 KB.
LINE_BYTES = 1 << 20
#: Workers that may be connected at once; each capture that is held needs one, and more wait in the socket's queue.
CONNECTIONS = 64
#: Workers more that may wait at once until a guest can be leased; none of them takes a hold's place. Prepare asks so for each
#: guest in trouble, and waits LONGEST_INQUIRY_S at most. Of more workers each is answered at once.
INQUIRERS = 256
#: Seconds between two tries to accept a connection while that fails, as without a free descriptor.
ACCEPT_PAUSE_S = 0.2


class Place:
    """The place that a connection takes until it leaves."""

    def __init__(self, places: threading.BoundedSemaphore) -> None:
        """Have a place that was acquired of `places`."""
        self._places = places

    def move(self, places: threading.BoundedSemaphore) -> bool:
        """Take a place of `places` for the one so far; return False if none is free, and keep the one so far."""
        if places is not self._places:
            if not places.acquire(blocking=False):
                return False
            self.leave()
            self._places = places
        return True

    def leave(self) -> None:
        self._places.release()


class Guard:
    """Keeps leases and lets go of guests that outlive theirs."""

    def __init__(
        self,
        files: LeaseFiles,
        hypervisor: Hypervisor,
        settled: Settled,
        clock: Callable[[], float] = now_s,
        gone: Gone = lambda *_: None,
    ) -> None:
        self.ledger = Ledger(files, settled, clock)
        self.watch = Watch(self.ledger, hypervisor, gone)
        self._changed = self.ledger.changed
        self._connections = 0
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        self._inquirers = threading.BoundedSemaphore(INQUIRERS)
        self._answering = 0  # calls that were read and are not answered yet
        self._draining = False

    def run(self, path: Path) -> None:
        """Let go of what an earlier guard left, then serve for ever."""
        self.ledger.find()
        self.watch.start()
        with _listen(path) as listener:
            log.info("guard is ready", socket=str(path))
            while True:
                self._places.acquire()
                if not self._accept(listener):
                    self._places.release()

    def at_work(self) -> bool:
        """Return True while deadlines are watched; blocks if no thread gets at the leases. For the supervisor."""
        return self.watch.at_work()

    def wake(self) -> None:
        """Look at the clock again now. For a clock that does not run by itself."""
        with self._changed:
            self._changed.notify_all()

    def drain(self) -> None:
        """Refuse new leases, and return when no guest can be held under an old one.

        A lease is disarmed or retired; a guest that cannot be let go of is tried on. Leases of an earlier guard count too, and
        so does an answer that is still on its way: a worker whose disarming is not acknowledged would have to think that its
        hold was cut short.
        """
        with self._changed:
            self._draining = True
            if self.ledger.kept:
                log.warning("waiting until held guests are let go", captures=len(self.ledger.kept))
            while self._answering or self.ledger.kept:
                self._changed.wait()

    def _accept(self, listener: socket.socket) -> bool:
        """Accept one connection and serve it. A guard that has run out of descriptors or threads goes on with its leases."""
        try:
            connection, _ = listener.accept()
        except OSError as error:
            log.error("no connection can be accepted", why=str(error))  # noqa: TRY400  once every ACCEPT_PAUSE_S
            time.sleep(ACCEPT_PAUSE_S)
            return False
        self._connections += 1
        try:
            threading.Thread(target=self._serve, args=(connection, self._connections), daemon=True).start()
        except NO_THREAD as error:
            log.error("a connection cannot be served", why=str(error))  # noqa: TRY400
            connection.close()
            return False
        return True

    def _serve(self, connection: socket.socket, number: int) -> None:
        """Answer one worker; when it hangs up, let go of what it left armed."""
        place = Place(self._places)
        try:
            with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
                while line := lines.readline(LINE_BYTES):
                    with self._under_way():
                        answer = self._answer(line, number, place)
                        connection.sendall(f"{answer.model_dump_json()}\n".encode())
        finally:
            place.leave()
            self.ledger.hang_up(number)

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        """Have `drain` wait for what is done within this block."""
        with self._changed:
            self._answering += 1
        try:
            yield
        finally:
            with self._changed:
                self._answering -= 1
                self._changed.notify_all()

    def _answer(self, line: bytes, number: int, place: Place) -> Answer:
        try:
            call = Call.model_validate_json(line).root
        except ValidationError as error:
            return Answer(ok=False, reason=Refusal.UNREADABLE, why=f"not a call: {error.error_count()} faults")
        if isinstance(call, Disarm):
            return self.ledger.disarm(call)
        if (refusal := self._stopping()) is not None:
            return refusal
        if isinstance(call, Arm):
            return self.ledger.arm(call.lease, number)
        return self._inquire(call, place) if isinstance(call, Inquire) else Answer(ok=True)

    def _inquire(self, call: Inquire, place: Place) -> Answer:
        waits = place.move(self._inquirers)
        return self.ledger.inquire(call if waits else call.model_copy(update={"seconds": 0.0}))

    def _stopping(self) -> Answer | None:
        """The refusal of a guard that is about to end: it would not be there to let go."""
        with self._changed:
            return Answer(ok=False, reason=Refusal.STOPPING, why="the guard is stopping") if self._draining else None


def _listen(path: Path) -> socket.socket:
    durable.make_directory(path.parent)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # only the worker's own user may arm or disarm
    try:
        listener.bind(str(path))
        listener.listen(CONNECTIONS + INQUIRERS)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener
