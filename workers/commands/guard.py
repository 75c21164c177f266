"""`freezeframe guard`: the thaw guard of this host. Needs libvirt and its own directory, nothing else."""

from __future__ import annotations

import signal
import threading

import structlog

from freezeframe import heartbeat, log
from freezeframe.errors import FreezeframeError
from freezeframe.settings import HostSettings, load
from workers import descriptors, durable, left_held
from workers.guard.lease import LeaseFiles
from workers.guard.server import Guard
from workers.hypervisor.connection import Hypervisor
from workers.journal import Journal

_log = structlog.get_logger("guard")


class GuardEndedError(FreezeframeError):
    """The thaw guard ended by itself."""

    code = "guard-ended"
    advice = "Its last lines say why. Guests that were held are let go when it is started again."


#: How a guard is told to end.
_ENDS = (signal.SIGTERM, signal.SIGINT)
#: Seconds between two looks whether it still serves.
LOOK_S = 1.0


def guard() -> None:
    """Run this host's thaw guard, which lets go of every guest that is held for too long.

    Told to end (SIGTERM, Ctrl-C) it takes no new leases and ends when no guest can be held any more; told twice, at once:
    what it then leaves is let go by the next one.
    """
    log.configure()
    settings = load(HostSettings)
    descriptors.raise_limit()
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)  # for all threads, which inherit it: only `_told_to_end` takes them
    durable.make_directory(settings.state_dir)
    journal, hypervisor = Journal(settings.state_dir), Hypervisor(settings.libvirt_uri)
    gone = left_held.noting(hypervisor, journal)
    server = Guard(LeaseFiles(settings.state_dir), hypervisor, journal.is_settled, gone=gone)
    serving = threading.Thread(target=server.run, args=(settings.guard_socket,), name="guard", daemon=True)
    serving.start()
    heartbeat.beat_while(server.at_work)
    if not _told_to_end(serving):
        raise GuardEndedError("The thaw guard ended by itself.")
    for number in _ENDS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)  # told once more it ends at once
    server.drain()
    _log.info("guard ends")


def _told_to_end(serving: threading.Thread) -> bool:
    """Wait for a signal; False if the guard ended without one.

    Signals are waited for, not handled: the kernel may hand one to any thread, and a main thread that waits for a lock would
    not run its handler then. [signal(7), Python's signal: execution of handlers] And by a thread without a time-out:
    sigtimedwait of a process that was stopped, and goes on when the time is over, answers with a signal that nobody sent.
    [CPython Modules/signalmodule.c: after EINTR it returns what it never filled in]
    """
    told = threading.Event()

    def wait() -> None:
        signal.sigwait(_ENDS)
        told.set()

    threading.Thread(target=wait, name="told", daemon=True).start()
    while serving.is_alive():
        if told.wait(LOOK_S):
            return True
    return False
