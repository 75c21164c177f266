"""QEMU's monitor at its socket, as far as the guard speaks to one; its words are QMP's."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any

_GREETING = {"QMP": {"version": {"qemu": {"micro": 2, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}
_EVENT = {"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 2}}


class FakeMonitor:
    """Serves one client at a time, as QEMU does, and tells of events between its answers."""

    def __init__(self, path: Path, status: str = "paused", *, lies: int = 0) -> None:
        self.status = status
        self._lies = lies  # resumes that are answered and not done
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def end(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError), client.makefile("rb") as lines:  # it may hang up at any time
                client.sendall(_line(_GREETING))
                is_ready = False
                for line in lines:
                    call = json.loads(line)["execute"]
                    client.sendall(_line(_EVENT) + _line(self._answer(call, is_ready=is_ready)))
                    is_ready = is_ready or call == "qmp_capabilities"

    def _answer(self, command: str, *, is_ready: bool) -> dict[str, Any]:
        match command:
            case "qmp_capabilities":
                return {"return": {}}
            case "query-status" if is_ready:
                return {"return": {"running": self.status == "running", "status": self.status}}
            case "cont" if is_ready:
                self._lies -= 1
                self.status = "paused" if self._lies >= 0 else "running"
                return {"return": {}}
            case _:
                return {"error": {"class": "CommandNotFound", "desc": "not known"}}


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\r\n"
