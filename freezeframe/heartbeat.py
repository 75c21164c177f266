"""Telling a supervisor that a process is ready, and at work: one that is stopped or stuck is killed and started again.

By systemd's own protocol, so that `freezeframe up` and a unit with `Type=notify` and `WatchdogSec=` serve alike: the supervisor
names a datagram socket and a time, hears `READY=1` once, and `WATCHDOG=1` well within the time. Nothing is sent where nobody
listens, and nothing leaves the machine. [sd_notify(3), sd_watchdog_enabled(3)]

    process   ── READY=1 ── WATCHDOG=1 ── WATCHDOG=1 ──        (stopped)            killed ─ started again
    supervisor              ◀─ at most half of the time ─▶ ◀──── the whole time ────▶
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

BEAT = b"WATCHDOG=1"
READY = b"READY=1"
#: Beats in the time after which the supervisor gives a process up.
_BEATS = 4


def tell_ready(env: Mapping[str, str] = os.environ) -> None:
    """Tell the supervisor, if there is one, that this process is ready. Best effort: one that is gone needs no answer."""
    if path := _path_of(env):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.sendto(READY, socket.MSG_DONTWAIT, path)


def beat_while(alive: Callable[[], bool], env: Mapping[str, str] = os.environ) -> None:
    """Beat from a thread of its own for as long as `alive` answers yes; `alive` may block, which is as good as a no.

    Raises OSError, RuntimeError if there is no descriptor or thread for it.
    """
    path = _path_of(env)
    limit_s = int(env.get("WATCHDOG_USEC", "0")) / 1e6
    if path and limit_s > 0:
        line = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM
        )  # here: a process that cannot beat must not seem to start well
        args = (alive, line, path, limit_s / _BEATS)
        threading.Thread(target=_beat, args=args, name="heartbeat", daemon=True).start()


def _path_of(env: Mapping[str, str]) -> str:
    address = env.get("NOTIFY_SOCKET", "")
    return address.replace("@", "\0", 1) if address.startswith("@") else address


def _beat(alive: Callable[[], bool], line: socket.socket, path: str, pause_s: float) -> None:
    with line:
        while alive():
            with contextlib.suppress(OSError):  # a supervisor that is gone or busy is no reason to end
                line.sendto(BEAT, socket.MSG_DONTWAIT, path)
            time.sleep(pause_s)


class Pulse:
    """The supervisor's end: one process, whether it is ready, and when it was last heard. `limit_s` None: it need not beat."""

    def __init__(self, path: Path, limit_s: float | None) -> None:
        #: It has told so.
        self.is_ready = False
        self._path = path
        self._limit_s = limit_s
        self._heard_at: float | None = None  # None: not yet; starting takes its time
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(str(path))
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(0.0)

    @property
    def env(self) -> dict[str, str]:
        """What the process must find in its environment."""
        # both are said, also to a process without a watchdog: it may have inherited another supervisor's
        return {"NOTIFY_SOCKET": str(self._path), "WATCHDOG_USEC": str(int((self._limit_s or 0) * 1e6))}

    def lost(self) -> bool:
        """Return True if the process has beaten once and then not for the whole time. To be asked much oftener than that."""
        with contextlib.suppress(BlockingIOError):
            while said := self._socket.recv(64):
                if said == READY:
                    self.is_ready = True
                elif said == BEAT:
                    self._heard_at = time.monotonic()
        if self._limit_s is None or self._heard_at is None:
            return False
        return time.monotonic() - self._heard_at > self._limit_s

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)
