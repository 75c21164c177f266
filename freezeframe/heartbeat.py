"""Telling a supervisor that a process is at work, so that one which is stopped or stuck is killed and started again.

By systemd's own protocol, so that `freezeframe up` and a unit with `WatchdogSec=` serve alike: the supervisor names a datagram
socket and a time, and hears `WATCHDOG=1` well within it. Nothing is sent where nobody listens. [sd_notify(3),
sd_watchdog_enabled(3)]

    process   ── WATCHDOG=1 ── WATCHDOG=1 ──        (stopped)            killed ─ started again
    supervisor ◀─ at most half of the time ─▶ ◀──── the whole time ────▶
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
#: Beats in the time after which the supervisor gives a process up.
_BEATS = 4


def beat_while(alive: Callable[[], bool], env: Mapping[str, str] = os.environ) -> None:
    """Beat from a thread of its own for as long as `alive` answers yes; `alive` may block, which is as good as a no.

    Raises OSError, RuntimeError if there is no descriptor or thread for it.
    """
    address = env.get("NOTIFY_SOCKET", "")
    limit_s = int(env.get("WATCHDOG_USEC", "0")) / 1e6
    if address and limit_s > 0:
        path = address.replace("@", "\0", 1) if address.startswith("@") else address
        line = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM
        )  # here: a process that cannot beat must not seem to start well
        args = (alive, line, path, limit_s / _BEATS)
        threading.Thread(target=_beat, args=args, name="heartbeat", daemon=True).start()


def _beat(alive: Callable[[], bool], line: socket.socket, path: str, pause_s: float) -> None:
    with line:
        while alive():
            with contextlib.suppress(OSError):  # a supervisor that is gone or busy is no reason to end
                line.sendto(BEAT, socket.MSG_DONTWAIT, path)
            time.sleep(pause_s)


class Pulse:
    """The supervisor's end: one process, and when it was last heard."""

    def __init__(self, path: Path, limit_s: float) -> None:
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
        return {"NOTIFY_SOCKET": str(self._path), "WATCHDOG_USEC": str(int(self._limit_s * 1e6))}

    def lost(self) -> bool:
        """Whether the process has beaten once and then not for the whole time. To be asked much oftener than that."""
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(64):
                self._heard_at = time.monotonic()
        return self._heard_at is not None and time.monotonic() - self._heard_at > self._limit_s

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)
