"""The agent of a guest that libvirt has lost, over the socket that QEMU keeps for it.

A libvirtd that is killed while it writes down a backup of several disks cannot read its own state afterwards ("Missing
required attribute 'state'"), and calls a guest shut off whose QEMU runs on, perhaps frozen [qemu_backup.c:
qemuBackupDiskStarted saves once for each disk; seen with libvirt 9.0, 11.3 has the same code]. libvirt has let go of the
agent's socket then, so we may take it. Where libvirt still has it nobody is called (`sockets.py`).

The agent's protocol: a line of JSON each way; what was asked before us is passed over up to our own synchronisation. [qapi
guest-sync] It is the one that libvirt uses, too. An agent that is busy answers when we have left, and who is connected then
gets the answer: guest-sync-delimited puts a byte before it that is no JSON, upon which libvirt gives up the agent for good
("QEMU guest agent is not available due to an error"). [libvirt qemu_agent.c: qemuAgentIOProcessLine]
"""

from __future__ import annotations

import json
import secrets
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from freezeframe.errors import FreezeframeError
from workers.guard.sockets import connections

#: Seconds between looks whether the one who is connected has gone.
_LOOK_S = 0.02
#: The longest answer that is read; a status has 30 bytes.
ANSWER_BYTES = 1 << 16


class AgentLineError(FreezeframeError):
    """QEMU runs and the agent does not answer, or refuses."""

    code = "agent"


def is_gone(path: Path) -> bool:
    """Whether no QEMU listens there any more."""
    if connections(path):
        return False
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(1.0)
            line.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return True
    except OSError:
        return False
    return False


def thaw(path: Path, timeout_s: float) -> None:
    """Thaw the guest if it is frozen, and hear from it that it is not. Raises AgentLineError, or OSError if QEMU is gone."""
    with AgentLine(path, timeout_s) as line:
        if line.ask("guest-fsfreeze-status") != "thawed":
            line.ask("guest-fsfreeze-thaw")
        status = line.ask("guest-fsfreeze-status")
    if status != "thawed":
        raise AgentLineError(f"The agent at {path} says that its guest is {status}.")


class AgentLine:
    """A conversation with an agent, all of it within `timeout_s`."""

    who = "agent"

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._deadline = time.monotonic() + timeout_s
        self._socket = socket.socket(socket.AF_UNIX)
        self._read = b""

    def __enter__(self) -> Self:
        try:
            self._wait_until_free()
            self._socket.settimeout(self._left_s())
            self._socket.connect(str(self._path))
            self._synchronise()
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, command: str) -> Any:
        """The answer to a command. Raises AgentLineError."""
        answer = self._exchange({"execute": command})
        if "error" in answer:
            raise AgentLineError(f"The {self.who} at {self._path} refused {command}: {_why(answer['error'])}.")
        return answer.get("return")

    def _wait_until_free(self) -> None:
        while connections(self._path):
            if time.monotonic() >= self._deadline:
                raise AgentLineError(f"Somebody else is connected to the {self.who} at {self._path}.")
            time.sleep(_LOOK_S)

    def _synchronise(self) -> None:
        """The byte before the call ends what a client before us may have sent in part."""
        number = secrets.randbelow(1 << 31)
        answer = self._exchange({"execute": "guest-sync", "arguments": {"id": number}}, before=b"\xff")
        while answer.get("return") != number:  # an answer to somebody before us
            answer = self._line()

    def _exchange(self, call: dict[str, Any], before: bytes = b"") -> dict[str, Any]:
        self._socket.sendall(before + json.dumps(call).encode() + b"\n")
        return self._line()

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._read:
            self._socket.settimeout(self._left_s())
            try:
                more = self._socket.recv(4096)
            except TimeoutError as error:
                raise AgentLineError(f"The {self.who} at {self._path} does not answer.") from error
            if not more:
                raise AgentLineError(f"The {self.who} at {self._path} has hung up.")
            if len(self._read) > ANSWER_BYTES:
                raise AgentLineError(f"The {self.who} at {self._path} sends a line that does not end.")
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            return {}  # the rest of something older
        return answer if isinstance(answer, dict) else {}

    def _left_s(self) -> float:
        return max(self._deadline - time.monotonic(), 0.01)


def _why(error: Any) -> Any:
    return error.get("desc") if isinstance(error, dict) else error
