"""A guest agent at QEMU's socket, as far as the guard speaks to one; its words are qemu-ga's."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any


class FakeAgent:
    """Serves one client at a time, as QEMU does. `stale` is sent first to each, as an answer to somebody before."""

    def __init__(self, path: Path, *, lies: int = 0, stale: bytes = b"") -> None:
        self.status = "frozen"
        self.thaws = 0
        self._lies = lies  # thaws that are answered and not done
        self._stale = stale
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(4)
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
                client.sendall(self._stale)
                for line in lines:
                    if line.startswith(b"\xff"):
                        client.sendall(_line({"error": {"class": "GenericError", "desc": "JSON parse error"}}))
                    client.sendall(self._answer(json.loads(line.lstrip(b"\xff"))))

    def _answer(self, call: dict[str, Any]) -> bytes:
        match call["execute"]:
            case "guest-sync":
                return _line({"return": call["arguments"]["id"]})
            case "guest-sync-delimited":
                return b"\xff" + _line({"return": call["arguments"]["id"]})
            case "guest-fsfreeze-status":
                return _line({"return": self.status})
            case "guest-fsfreeze-thaw":
                self.thaws += 1
                self._lies -= 1
                self.status = "frozen" if self._lies >= 0 else "thawed"
                return _line({"return": 2})
            case _:
                return _line({"error": {"class": "CommandNotFound", "desc": "not known"}})


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"
