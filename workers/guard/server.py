"""The thaw guard itself: a socket, leases with deadlines, and the letting go."""

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

from freezeframe.errors import FreezeframeError
from workers import durable, hold
from workers.guard import agent_line
from workers.guard.lease import Answer, Arm, Call, Disarm, Lease, LeasedGuest, LeaseFiles
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError

log = structlog.get_logger("guard")

#: Seconds for one answer of an agent while letting go; the next try follows at once.
AGENT_S = 5
#: Seconds between two tries to let go of a guest: quick at first, then not a burden on a host in trouble.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
#: The longest line a worker may send; a lease of a thousand guests is 40 KB.
LINE_BYTES = 1 << 20


class Guard:
    """Keeps leases and lets go of guests that outlive theirs."""

    def __init__(self, files: LeaseFiles, hypervisor: Hypervisor) -> None:
        self._files = files
        self._hypervisor = hypervisor
        self._lock = threading.Lock()
        self._armed: dict[str, tuple[Lease, float, int]] = {}  # capture: lease, deadline, the connection that armed it
        self._changed = threading.Condition(self._lock)
        self._connections = 0
        self._watching = threading.Thread(target=self._watch_deadlines, name="deadlines", daemon=True)
        self._answering = 0  # calls that were read and are not answered yet
        self._draining = False

    def run(self, path: Path) -> None:
        """Let go of what an earlier guard left, then serve for ever."""
        for lease in self._files.all():
            log.warning("lease found at start", capture=lease.capture_id, guests=len(lease.guests))
            self._let_go(lease)
        self._watching.start()
        with _listen(path) as listener:
            log.info("guard is ready", socket=str(path))
            while True:
                connection, _ = listener.accept()
                self._connections += 1
                threading.Thread(target=self._serve, args=(connection, self._connections), daemon=True).start()

    def at_work(self) -> bool:
        """Whether deadlines are watched; blocks if nobody gets at the leases any more. For the supervisor."""
        with self._lock:
            return self._watching.ident is None or self._watching.is_alive()

    def drain(self) -> None:
        """Refuse new leases, and return when no guest is held under an old one.

        A lease is disarmed, or let go of by its deadline at the latest; what cannot be let go of is tried on. Leases of an
        earlier guard count too, and so does an answer that is still on its way: a worker whose disarming is not
        acknowledged would have to think that its hold was cut short.
        """
        with self._changed:
            self._draining = True
            leases = self._files.all()
            if leases:
                log.warning("waiting until held guests are let go", captures=len(leases))
            while self._answering or self._files.all():
                self._changed.wait()

    def _serve(self, connection: socket.socket, number: int) -> None:
        """Answer one worker; when it hangs up, let go of what it left armed."""
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
            while line := lines.readline(LINE_BYTES):
                with self._under_way():
                    answer = self._answer(line, number)
                    connection.sendall(f"{answer.model_dump_json()}\n".encode())
        for lease in self._take(lambda _deadline, owner: owner == number):
            log.warning("worker hung up with guests held", capture=lease.capture_id)
            self._let_go(lease)

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
            return self._disarm(call.capture_id)
        return self._stopping() or Answer(ok=True)

    def _stopping(self) -> Answer | None:
        """The refusal of a guard that is about to end: it would not be there to let go."""
        with self._lock:
            return Answer(ok=False, why="the guard is stopping") if self._draining else None

    def _arm(self, lease: Lease, number: int) -> Answer:
        if (refusal := self._stopping()) is not None:
            return refusal
        deadline = time.monotonic() + lease.seconds
        try:
            self._files.add(lease)
        except OSError as error:
            return Answer(ok=False, why=f"the lease cannot be stored: {error.strerror}")
        with self._changed:
            self._armed[lease.capture_id] = (lease, deadline, number)
            self._changed.notify_all()
        return Answer(ok=True)

    def _disarm(self, capture_id: str) -> Answer:
        with self._lock:
            was_armed = self._armed.pop(capture_id, None) is not None
        if not was_armed:
            return Answer(ok=False, why="the lease was not armed any more")
        self._files.remove(capture_id)
        return Answer(ok=True)

    def _take(self, due: Callable[[float, int], bool]) -> list[Lease]:
        """Take leases out of the armed ones; whoever takes one lets go of its guests."""
        with self._lock:
            taken = [name for name, (_, deadline, owner) in self._armed.items() if due(deadline, owner)]
            return [self._armed.pop(name)[0] for name in taken]

    def _watch_deadlines(self) -> None:
        while True:
            for lease in self._take(lambda deadline, _owner: deadline <= time.monotonic()):
                log.warning("deadline passed with guests held", capture=lease.capture_id)
                self._let_go(lease)
            with self._changed:
                next_deadline = min((deadline for _, deadline, _ in self._armed.values()), default=None)
                self._changed.wait(None if next_deadline is None else max(next_deadline - time.monotonic(), 0.001))

    def _let_go(self, lease: Lease) -> None:
        """Let go of all guests of a lease side by side, without waiting for it."""
        left = {guest.guest_uuid for guest in lease.guests}
        for guest in lease.guests:
            threading.Thread(target=self._let_go_of, args=(lease, guest, left), name=guest.guest_uuid).start()

    def _let_go_of(self, lease: Lease, guest: LeasedGuest, left: set[str]) -> None:
        """Try until the guest says that it runs, or is gone. The last guest takes the lease from the disk."""
        pause_s = FIRST_PAUSE_S
        while not self._tried(guest):
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        log.warning("let go", capture=lease.capture_id, guest=guest.guest_uuid)
        with self._lock:
            left.discard(guest.guest_uuid)
            last = not left and lease.capture_id not in self._armed
        if last:
            self._files.remove(lease.capture_id)
            with self._changed:
                self._changed.notify_all()

    def _tried(self, guest: LeasedGuest) -> bool:
        try:
            domain = self._running(guest.guest_uuid)
            if domain is None:
                return _lost_let_go(guest)
            with contextlib.suppress(FreezeframeError):  # a thaw may be lost and have worked; the guest is asked
                hold.let_go(domain, guest.hold, AGENT_S)
            hold.verify_let_go(domain, guest.hold, AGENT_S)
        except Exception as error:  # noqa: BLE001  whatever it is, the guest must still be let go
            log.warning("not let go yet", guest=guest.guest_uuid, why=str(error))
            return False
        return True

    def _running(self, guest_uuid: str) -> Domain | None:
        try:
            domain = self._hypervisor.domain(guest_uuid)
            return domain if domain.active() else None
        except GuestGoneError:
            return None


def _lost_let_go(guest: LeasedGuest) -> bool:
    """Let go of a guest that does not run, as libvirt says: its QEMU may, and then it may still be held.

    A pause cannot be taken back without libvirt: whether such a guest runs on nobody knows until its QEMU is gone, or libvirt
    has it again.
    """
    if guest.agent_socket is None or agent_line.is_gone(guest.agent_socket):
        return True
    log.warning("libvirt has lost a guest whose QEMU runs", guest=guest.guest_uuid, agent=str(guest.agent_socket))
    if guest.hold.freezes:
        agent_line.thaw(guest.agent_socket, AGENT_S)
    return not guest.hold.pauses


def _listen(path: Path) -> socket.socket:
    durable.make_directory(path.parent)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # only the worker's own user may arm or disarm
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(16)
    return listener
