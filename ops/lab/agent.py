"""What can be asked of the agent in a guest, over libvirt's connection to its channel."""

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import libvirt
import libvirt_qemu

from ops.lab.errors import GuestError

#: A loaded emulated guest answers in tens of milliseconds, and takes seconds to read what is written to a file; a dead one
#: never does. That an agent is there at all libvirt itself asks first, for 5 s at most.
TIMEOUT_S = 30
#: An emulated guest's agent reads its JSON byte by byte: a write of 1 MiB at once was not answered within 10 s.
_PART_BYTES = 64 << 10


@dataclass(frozen=True)
class Agent:
    """The agent of one guest. Every call raises GuestError that names the guest."""

    domain: libvirt.virDomain
    name: str

    def call(self, command: str, arguments: dict[str, Any] | None = None, timeout_s: int = TIMEOUT_S) -> Any:
        """The reply's `return`. Names and shapes: QEMU's qga/qapi-schema.json."""
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        try:
            reply = libvirt_qemu.qemuAgentCommand(self.domain, json.dumps(request), timeout_s, 0)
        except libvirt.libvirtError as error:
            raise GuestError(f"{self.name}: {command}: {error}") from error
        return json.loads(reply)["return"]

    def answers(self) -> bool:
        return self.silence() is None

    def silence(self) -> str | None:
        """Return why the agent does not answer; None if it does."""
        try:
            self.call("guest-ping", timeout_s=5)
        except GuestError as error:
            return str(error)
        return None

    def execute(self, argv: Sequence[str], timeout_s: float = 60.0) -> tuple[int, str]:
        """(exit code, standard output and error) of a program in the guest."""
        arguments = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        pid = self.call("guest-exec", arguments)["pid"]
        deadline = time.monotonic() + timeout_s
        while not (status := self.call("guest-exec-status", {"pid": pid}))["exited"]:
            if time.monotonic() > deadline:
                raise GuestError(f"{self.name}: {argv[0]} did not end within {timeout_s:g} s")
            time.sleep(0.02)
        text = b"".join(base64.b64decode(status.get(name, "")) for name in ("out-data", "err-data"))
        return status.get("exitcode", -status.get("signal", 1)), text.decode(errors="replace")

    def read(self, path: str) -> bytes:
        handle = self.call("guest-file-open", {"path": path, "mode": "r"})
        parts = []
        try:
            while True:
                part = self.call("guest-file-read", {"handle": handle, "count": _PART_BYTES})
                parts.append(base64.b64decode(part["buf-b64"]))
                if part["eof"]:
                    return b"".join(parts)
        finally:
            self.call("guest-file-close", {"handle": handle})

    def write(self, path: str, data: bytes) -> None:
        """Replaces the file; not synced."""
        handle = self.call("guest-file-open", {"path": path, "mode": "w"})
        try:
            for start in range(0, len(data), _PART_BYTES):
                part = base64.b64encode(data[start : start + _PART_BYTES]).decode()
                self.call("guest-file-write", {"handle": handle, "buf-b64": part})
        finally:
            self.call("guest-file-close", {"handle": handle})
