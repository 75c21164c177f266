"""A guard in a thread of its own, with libvirt's test driver, and a clock that a test puts ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from freezeframe.contract.words import HoldKind
from workers import left_held
from workers.boot import boot_id, now_s
from workers.guard.client import GuardError, GuardLine
from workers.guard.lease import LeasedGuest, LeaseFiles, StoredLease
from workers.guard.server import Guard
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.journal import Journal

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
OTHER = "01KBBBBBBBBBBBBBBBBBBBBBBB"
NOBODY = "00000000-0000-4000-8000-00000000000a"


def paused(*guest_uuids: str) -> tuple[LeasedGuest, ...]:
    return tuple(LeasedGuest(guest_uuid=uuid, hold=HoldKind.PAUSE) for uuid in guest_uuids)


class Clock:
    """The guard's clock, which can be put ahead."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return now_s() + self.ahead_s


class GuardInThread:
    """A guard on a socket of its own, with its files, and a clock that can be put ahead."""

    def __init__(self, directory: Path) -> None:
        self.files = LeaseFiles(directory)
        self.leases = directory / "leases"
        self.hypervisor = Hypervisor("test:///default")
        self.domain: Domain = self.hypervisor.domains()[0]
        self.socket = directory / "guard.sock"
        self.now = Clock()
        self.journal = Journal(directory)
        self.gone = left_held.noting(self.hypervisor, self.journal)
        self.guard = self.another()

    def another(self) -> Guard:
        """Return the guard that is started when the one before was killed."""
        return Guard(self.files, self.hypervisor, self.journal.is_settled, self.now, self.gone)

    def forward(self, seconds: float) -> None:
        self.now.ahead_s += seconds
        self.guard.wake()

    def start(self) -> None:
        threading.Thread(target=self.guard.run, args=(self.socket,), daemon=True).start()
        until(self._answers)

    def _answers(self) -> bool:
        try:
            with self.line() as line:
                line.ping()
        except GuardError:
            return False
        return True

    def line(self) -> GuardLine:
        return GuardLine(self.socket)

    def drain(self) -> threading.Thread:
        """Told to end; the thread ends when the guard would. Returns once it takes no new leases."""
        thread = threading.Thread(target=self.guard.drain, daemon=True)
        thread.start()
        until(lambda: not self._answers())
        return thread

    def arm(self, line: GuardLine, seconds: float) -> None:
        line.arm(CAPTURE, paused(self.domain.uuid), seconds)

    def store(self, guests: Sequence[LeasedGuest], *, deadline_s: float = 60.0, boot: str | None = None) -> None:
        """Leave a lease as an earlier guard does."""
        deadline = self.now() + deadline_s
        self.files.add(
            StoredLease(guests=tuple(guests), capture_id=CAPTURE, deadline_s=deadline, boot_id=boot or boot_id())
        )

    def retired(self) -> bool:
        """Whether no lease is left; each look puts the clock ahead, until calls that could be pending have ended."""
        self.forward(1.0)
        return not any(self.leases.glob("*.json"))


def until(true: Callable[[], bool]) -> None:
    """Wait for something that must come; pytest's own time-out is the bound."""
    while not true():
        time.sleep(0.005)


def running(guard: GuardInThread) -> bool:
    return guard.domain.state() == "running"
