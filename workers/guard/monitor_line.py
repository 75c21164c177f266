"""QEMU's monitor past libvirt: resume a guest that is paused while no libvirtd lives.

libvirtd is the one client of a QEMU's monitor. When it has died QEMU listens for the next one at the same socket, in the
directory that libvirt keeps for the guest; libvirtd asks for QEMU's own state when it is back. [libvirt
src/qemu/qemu_process.c: qemuProcessReconnect, qemuProcessRefreshState] Where libvirtd lives and hangs we get no greeting.

Only a guest that QEMU calls "paused" is resumed: not one that stopped for an I/O error, or is on its way from another host.

The protocol: a greeting, then a line of JSON each way, and events in between. [qapi, QMP]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workers.guard.agent_line import AgentLine, AgentLineError


def resume(path: Path, timeout_s: float) -> None:
    """Resume the guest if it is paused, and hear so from QEMU. Raises AgentLineError, or OSError if QEMU is gone."""
    with MonitorLine(path, timeout_s) as line:
        if _status(line) == "paused":
            line.ask("cont")
        if (status := _status(line)) in {None, "paused"}:
            raise AgentLineError(f"QEMU at {path} says that its guest is {status}.")


def _status(line: AgentLine) -> str | None:
    answer = line.ask("query-status")
    status = answer.get("status") if isinstance(answer, dict) else None
    return status if isinstance(status, str) else None


class MonitorLine(AgentLine):
    """A conversation with QEMU, all of it within `timeout_s`."""

    who = "monitor"

    def _synchronise(self) -> None:
        while "QMP" not in self._line():
            pass
        self.ask("qmp_capabilities")

    def _exchange(self, call: dict[str, Any], before: bytes = b"") -> dict[str, Any]:
        answer = super()._exchange(call, before)
        while "return" not in answer and "error" not in answer:  # an event
            answer = self._line()
        return answer
