"""The thaw guard itself: a socket, leases with deadlines, and the letting go.

a thread for each connection     calls of one worker, in order
the watching thread              begins each look when it is due (`table`), and reads again what could not be read
a bounded pool (`GuestCalls`)    the looks; one that hangs costs one thread of it, and no other guest waits
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import ValidationError

from workers import durable
from workers.boot import boot_id, now_s
from workers.bounded import GuestCalls, GuestHangsError
from workers.guard import letting_go
from workers.guard.lease import Answer, Arm, Call, Disarm, Lease, LeasedGuest, LeaseFiles, StoredLease
from workers.guard.reading import FoundGuest, FoundLease
from workers.guard.table import LeaseLife, Look, Stage
from workers.hypervisor.connection import Hypervisor

log = structlog.get_logger("guard")

#: The longest line a worker may send; a lease of a thousand guests is 40 KB.
LINE_BYTES = 1 << 20
#: Workers that may be connected at once; each capture that is held needs one, and more wait in the socket's queue.
CONNECTIONS = 64
#: Seconds between two tries to accept a connection while that fails, as without a free descriptor.
ACCEPT_PAUSE_S = 0.2
#: Seconds that an `arm` waits for an earlier lease's look at one of its guests; a look would let the new hold go.
LOOK_WAIT_S = 2.0
#: Seconds between two tries to read a lease that names no guest as far as it can be read.
READ_AGAIN_S = 5.0


@dataclass
class _Kept:
    """A lease that is not retired."""

    life: LeaseLife
    guests: dict[str, FoundGuest]
    deadline_s: float
    is_damaged: bool = False  # its file says more, or less, than this version understands


class Guard:
    """Keeps leases and lets go of guests that outlive theirs."""

    def __init__(self, files: LeaseFiles, hypervisor: Hypervisor, clock: Callable[[], float] = now_s) -> None:
        self._files = files
        self._hypervisor = hypervisor
        self._clock = clock
        self._boot_id = boot_id()
        self._calls = GuestCalls()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._writing = threading.Lock()  # around what changes a lease's file, before the other lock
        self._kept: dict[str, _Kept] = {}
        self._unread: dict[str, str] = {}  # leases on disk that name nobody: capture, why
        self._looking: set[tuple[str, str]] = set()  # capture, guest
        self._connections = 0
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        self._watching = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._answering = 0  # calls that were read and are not answered yet
        self._draining = False

    def run(self, path: Path) -> None:
        """Let go of what an earlier guard left, then serve for ever."""
        self._find()
        self._watching.start()
        with _listen(path) as listener:
            log.info("guard is ready", socket=str(path))
            while True:
                self._places.acquire()
                if not self._accept(listener):
                    self._places.release()

    def at_work(self) -> bool:
        """Whether deadlines are watched; blocks if nobody gets at the leases any more. For the supervisor."""
        with self._lock:
            return self._watching.ident is None or self._watching.is_alive()

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
            if self._kept:
                log.warning("waiting until held guests are let go", captures=len(self._kept))
            while self._answering or self._kept:
                self._changed.wait()

    # Connections.

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
        except RuntimeError as error:  # no thread can be started
            log.error("a connection cannot be served", why=str(error))  # noqa: TRY400
            connection.close()
            return False
        return True

    def _serve(self, connection: socket.socket, number: int) -> None:
        """Answer one worker; when it hangs up, let go of what it left armed."""
        try:
            with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
                while line := lines.readline(LINE_BYTES):
                    with self._under_way():
                        answer = self._answer(line, number)
                        connection.sendall(f"{answer.model_dump_json()}\n".encode())
        finally:
            self._places.release()
            with self._changed:
                for capture_id, kept in self._kept.items():
                    if kept.life.hang_up(number, self._clock()):
                        log.warning("worker hung up with guests held", capture=capture_id)
                self._changed.notify_all()

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        """Have `drain` wait for what is done within this block."""
        with self._lock:
            self._answering += 1
        try:
            yield
        finally:
            with self._changed:
                self._answering -= 1
                self._changed.notify_all()

    def _answer(self, line: bytes, number: int) -> Answer:
        try:
            call = Call.model_validate_json(line).root
        except ValidationError as error:
            return Answer(ok=False, why=f"not a call: {error.error_count()} faults")
        if isinstance(call, Arm):
            return self._arm(call.lease, number)
        if isinstance(call, Disarm):
            return self._disarm(call)
        return self._stopping() or Answer(ok=True)

    def _stopping(self) -> Answer | None:
        """The refusal of a guard that is about to end: it would not be there to let go."""
        with self._lock:
            return Answer(ok=False, why="the guard is stopping") if self._draining else None

    # Leases.

    def _arm(self, lease: Lease, number: int) -> Answer:
        """Put the lease on stable storage, and only then say so."""
        if (refusal := self._stopping()) is not None:
            return refusal
        found = {
            one.guest_uuid: FoundGuest(one.guest_uuid, one.hold, one.agent_socket, one.monitor_socket)
            for one in lease.guests
        }
        deadline_s = self._clock() + lease.seconds
        kept = _Kept(LeaseLife(found, deadline_s, number), found, deadline_s)
        with self._changed:
            if lease.capture_id in self._kept:
                return Answer(ok=False, why="there is a lease of this capture already")
            self._kept[lease.capture_id] = kept  # from now on no other lease's look begins at its guests
            if not self._changed.wait_for(lambda: not self._looked_at(found), LOOK_WAIT_S):
                del self._kept[lease.capture_id]
                return Answer(ok=False, why="a guest of it is still being let go under an earlier lease")
        try:
            self._files.add(self._stored(lease.capture_id, kept))
        except OSError as error:
            with self._changed:
                del self._kept[lease.capture_id]
            return Answer(ok=False, why=f"the lease cannot be stored: {error.strerror}")
        self.wake()
        return Answer(ok=True)

    def _looked_at(self, guests: dict[str, FoundGuest]) -> bool:
        return any(guest in guests for _, guest in self._looking)

    def _disarm(self, call: Disarm) -> Answer:
        with self._lock:
            kept = self._kept.get(call.capture_id)
            stood = kept is not None and kept.life.disarm(call.guests)
        if kept is not None:
            self._settle(call.capture_id, kept)
        return Answer(ok=True) if stood else Answer(ok=False, why="the lease was not armed any more")

    def _settle(self, capture_id: str, kept: _Kept) -> None:
        """Have on disk what is left of a lease: the file goes with the last guest.

        A file that cannot be changed names too many guests, never too few. One that is damaged, or of another version, stays
        as it is.
        """
        with self._writing:
            with self._lock:
                left = {name: kept.guests[name] for name in kept.life.guests}
                fewer, kept.guests = len(left) < len(kept.guests), left
            try:
                if not left:
                    self._files.remove(capture_id)
                elif fewer and not kept.is_damaged:
                    self._files.add(self._stored(capture_id, kept))
            except OSError as error:
                log.error("the lease on disk cannot be changed", capture=capture_id, why=str(error))  # noqa: TRY400
        with self._changed:
            if not left and self._kept.get(capture_id) is kept:
                del self._kept[capture_id]
            self._changed.notify_all()

    def _stored(self, capture_id: str, kept: _Kept) -> StoredLease:
        guests = tuple(
            LeasedGuest(
                guest_uuid=one.guest_uuid,
                hold=one.hold,
                agent_socket=one.agent_socket,
                monitor_socket=one.monitor_socket,
            )
            for one in kept.guests.values()
        )
        return StoredLease(guests=guests, capture_id=capture_id, deadline_s=kept.deadline_s, boot_id=self._boot_id)

    def _find(self) -> None:
        """Take up the leases on disk that this guard does not know."""
        for found in self._files.all(self._clock()):
            with self._lock:
                known = found.capture_id in self._kept
            if not known:
                self._take_up(found)

    def _take_up(self, found: FoundLease) -> None:
        if found.damage and self._unread.get(found.capture_id) != found.damage:
            log.error("lease is not as this version writes it", capture=found.capture_id, why=found.damage)
        if not found.guests:
            self._unread[found.capture_id] = found.damage or ""
            return
        self._unread.pop(found.capture_id, None)
        log.warning("lease found", capture=found.capture_id, guests=len(found.guests))
        now = self._clock()
        same_boot = found.boot_id in {None, self._boot_id}
        deadline_s = found.deadline_s if found.deadline_s is not None and same_boot else now
        guests = {guest.guest_uuid: guest for guest in found.guests}
        life = LeaseLife.found(guests, deadline_s, now, same_boot=same_boot)
        with self._changed:
            self._kept[found.capture_id] = _Kept(life, guests, deadline_s, is_damaged=bool(found.damage))
            self._changed.notify_all()

    # Looks.

    def _watch(self) -> None:
        read_again = self._clock() + READ_AGAIN_S
        while True:
            if self._unread and self._clock() >= read_again:
                with contextlib.suppress(OSError):  # the next time
                    self._find()
                read_again = self._clock() + READ_AGAIN_S
            with self._changed:
                now = self._clock()
                due = self._due(now)
                if not due:
                    self._changed.wait(self._pause_s(now))
            for capture_id, kept, guest in due:
                self._begin_look(capture_id, kept, guest)

    def _due(self, now: float) -> list[tuple[str, _Kept, FoundGuest]]:
        """Return the looks that begin now. With the lock."""
        armed = {guest for kept in self._kept.values() if kept.life.stage is Stage.ARMED for guest in kept.life.guests}
        found = []
        for capture_id, kept in self._kept.items():
            if kept.life.time(now):
                log.warning("deadline passed with guests held", capture=capture_id)
                armed -= set(kept.life.guests)
            for name in kept.life.due(now):
                if name in armed:
                    kept.life.put_off(name, now)
                else:
                    kept.life.begin_look(name)
                    self._looking.add((capture_id, name))
                    found.append((capture_id, kept, kept.guests[name]))
        return found

    def _pause_s(self, now: float) -> float | None:
        times = [kept.life.next_time() for kept in self._kept.values()]
        nearest = min((time_s for time_s in times if time_s is not None), default=None)
        if nearest is None:
            return READ_AGAIN_S if self._unread else None
        return max(nearest - now, 0.001)

    def _begin_look(self, capture_id: str, kept: _Kept, guest: FoundGuest) -> None:
        try:
            self._calls.start(guest.guest_uuid, lambda: self._look(capture_id, kept, guest))
        except (GuestHangsError, RuntimeError) as error:  # no thread is left, or none can be started
            log.error("a look cannot begin", guest=guest.guest_uuid, why=str(error))  # noqa: TRY400
            self._looked(capture_id, kept, guest, Look.NO_ANSWER, self._clock())

    def _look(self, capture_id: str, kept: _Kept, guest: FoundGuest) -> None:
        asked, answer = self._clock(), Look.NO_ANSWER
        try:
            answer = letting_go.look(self._hypervisor, self._calls, guest)
        finally:
            self._looked(capture_id, kept, guest, answer, asked)

    def _looked(self, capture_id: str, kept: _Kept, guest: FoundGuest, answer: Look, asked: float) -> None:
        with self._changed:
            self._looking.discard((capture_id, guest.guest_uuid))
            ran = kept.life.all_run
            kept.life.look(guest.guest_uuid, answer, asked, self._clock())
            if kept.life.all_run and not ran:
                log.warning("let go", capture=capture_id)
            changed = len(kept.life.guests) < len(kept.guests)
            self._changed.notify_all()
        if changed:
            self._settle(capture_id, kept)


def _listen(path: Path) -> socket.socket:
    durable.make_directory(path.parent)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # only the worker's own user may arm or disarm
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(CONNECTIONS)
    return listener
