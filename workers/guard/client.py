"""The worker's end of the line to the thaw guard."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from freezeframe.errors import EXIT_UNREACHABLE, FreezeframeError
from workers.guard.lease import Answer, Arm, Disarm, Lease, LeasedGuest, Ping

#: Seconds for one answer of the guard; it only has to fsync one small file.
ANSWER_S = 5.0


class GuardError(FreezeframeError):
    """The thaw guard does not answer, so no guest may be held."""

    code = "guard"
    exit_code = EXIT_UNREACHABLE
    advice = "Start `freezeframe guard` on this host (`freezeframe up` does), and look into its log."


class GuardLine:
    """A connection to the guard. While it is open its leases live; when it closes, armed guests are let go."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_S)
        try:
            self._socket.connect(str(path))
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
            raise GuardError(f"The thaw guard takes no leases: {answer.why}.")

    def arm(self, capture_id: str, guests: Sequence[LeasedGuest], seconds: float) -> None:
        """Have the lease on the guard's disk. Raises GuardError, and then no guest may be held."""
        lease = Lease(capture_id=capture_id, guests=tuple(guests), seconds=seconds)
        answer = self._ask(Arm(lease=lease))
        if not answer.ok:
            raise GuardError(f"The thaw guard refused the lease: {answer.why}.")

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

    def _ask(self, call: Arm | Disarm | Ping) -> Answer:
        try:
            with self._asking:
                self._socket.sendall(f"{call.model_dump_json()}\n".encode())
                line = self._lines.readline()
            return Answer.model_validate_json(line)
        except (OSError, ValueError) as error:  # a ValidationError, or a line that is closed
            raise GuardError("The thaw guard did not answer.") from error
