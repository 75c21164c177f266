"""The worker's end of the line to the thaw guard.

GuardError              the guard is away: nothing answers, or no guard that keeps its promises
└─ GuardRefusedError    the guard is there and refuses, with the reason and its advice
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from freezeframe.errors import EXIT_UNREACHABLE, FreezeframeError
from workers.guard.lease import Answer, Arm, Disarm, Inquire, Lease, LeasedGuest, Ping, Refusal

#: Seconds for one answer of the guard; it only has to fsync one small file.
ANSWER_S = 5.0
#: Seconds between two tries to connect while the guard's queue is full.
ROOM_PAUSE_S = 0.01


class GuardError(FreezeframeError):
    """The thaw guard does not answer, so no guest may be held."""

    code = "guard"
    exit_code = EXIT_UNREACHABLE
    advice = "Start `freezeframe guard` on this host (`freezeframe up` does), and look into its log."


_OTHER_VERSION: Final = (
    "Guard and worker are of different versions: start `freezeframe guard` and this host's workers again."
)
_ADVICE: Final = {
    Refusal.STOPPING: "The guard ends when no guest is held any more. Start `freezeframe guard` on this host again, unless its "
    "supervisor does, then capture again.",
    Refusal.TWICE: "The hold of this capture was ordered twice. Capture again.",
    Refusal.DISK: "Look at the file system of FREEZEFRAME_STATE_DIR on this host (`df` shows it), then capture again.",
    Refusal.UNREADABLE: _OTHER_VERSION,
}


class GuardRefusedError(GuardError):
    """The thaw guard answers, and does not do what it was asked for."""

    code = "guard-refused"

    def __init__(self, message: str, reason: Refusal | None) -> None:
        super().__init__(message, advice=_OTHER_VERSION if reason is None else _ADVICE.get(reason, _OTHER_VERSION))


def _connect(connection: socket.socket, path: Path) -> None:
    """Connect within ANSWER_S, also while more workers connect than the guard has accepted yet. Raises OSError.

    With a time-out a connection to a socket in the file system does not wait for room in its queue: the kernel refuses it at
    once, with EAGAIN, and tells nobody when there is room. [man 2 connect]
    """
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            return connection.connect(str(path))
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(ROOM_PAUSE_S)


class GuardLine:
    """A connection to the guard. While it is open its leases live; when it closes, armed guests are let go."""

    def __init__(self, path: Path) -> None:
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:  # no descriptor is left
            raise GuardError(f"The thaw guard cannot be asked: {error.strerror or error}.") from error
        self._socket.settimeout(ANSWER_S)
        try:
            _connect(self._socket, path)
        except OSError as error:
            self._socket.close()
            raise GuardError(f"The thaw guard does not answer at {path}: {error.strerror or error}.") from error
        self._lines = self._socket.makefile("rb")
        self._asking = threading.Lock()  # guests that are left alone are told of by threads of their own

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def ping(self) -> None:
        """Raises GuardError unless the guard answers and goes on."""
        if not (answer := self._ask(Ping())).ok:
            raise GuardRefusedError(f"The thaw guard takes no leases: {answer.why}.", answer.reason)

    def arm(self, capture_id: str, guests: Sequence[LeasedGuest], seconds: float) -> dict[str, str]:
        """Have the lease on the guard's disk, and return the guests that it does not name: each with an earlier capture.

        Those may not be held; the guard still lets go of them under that capture's lease. Raises GuardError, and then no guest
        may be held.
        """
        lease = Lease(capture_id=capture_id, guests=tuple(guests), seconds=seconds)
        answer = self._ask(Arm(lease=lease))
        if not answer.ok and answer.reason is not Refusal.GUESTS:
            raise GuardRefusedError(f"The thaw guard refused the lease: {answer.why}.", answer.reason)
        return {one.guest_uuid: one.capture_id for one in answer.refused}

    def inquire(self, guests: Sequence[LeasedGuest], seconds: float) -> dict[str, str]:
        """Wait until these guests could be leased, and return those that cannot after `seconds`, as `arm` does."""
        answer = self._ask(Inquire(guests=tuple(guests), seconds=seconds), seconds + ANSWER_S)
        if not answer.ok:
            raise GuardRefusedError(f"The thaw guard takes no leases: {answer.why}.", answer.reason)
        return {one.guest_uuid: one.capture_id for one in answer.refused}

    def disarm(self, capture_id: str, guests: Sequence[str] | None = None) -> bool:
        """End the lease for `guests`, or for all. Return False if the guard has let go of them, or may have, before."""
        try:
            return self._ask(Disarm(capture_id=capture_id, guests=None if guests is None else tuple(guests))).ok
        except GuardError:
            return False

    def stands(self) -> bool:
        """Return True if the guard that armed the lease still has this line open. One system call, no exchange."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return not poll.poll(0)

    def _ask(self, call: Arm | Disarm | Ping | Inquire, patience_s: float | None = None) -> Answer:
        try:
            with self._asking:
                self._socket.settimeout(ANSWER_S if patience_s is None else patience_s)
                self._socket.sendall(f"{call.model_dump_json()}\n".encode())
                line = self._lines.readline()
            return Answer.model_validate_json(line)
        except (OSError, ValueError) as error:  # a ValidationError, or a line that is closed
            raise GuardError("The thaw guard did not answer.") from error
