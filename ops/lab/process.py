"""A process that is known by more than its number, so that a recycled number is never killed."""

import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from ops.lab.errors import LabError

#: Field 22 of /proc/<pid>/stat (proc(5)), counted after the command name, which may itself hold spaces and brackets.
_START_FIELD = 22 - 3
#: Field 4, the parent, counted the same way.
_PARENT_FIELD = 4 - 3


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


class ProcessId(BaseModel):
    """A pid and the moment it began, in clock ticks since boot: together they name one process until the next boot."""

    model_config = ConfigDict(frozen=True)

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """The running process with this number; raises LabError if there is none."""
        stat = _stat(pid)
        if stat is None:
            raise LabError(f"process {pid} is gone")
        return cls(pid=pid, start_ticks=int(stat[_START_FIELD]), boot_id=boot_id())

    def alive(self) -> bool:
        """Whether this very process is there and not only waiting to be reaped."""
        stat = _stat(self.pid)
        return (
            stat is not None
            and int(stat[_START_FIELD]) == self.start_ticks
            and boot_id() == self.boot_id
            and stat[0] not in "ZX"
        )

    def kill(self, timeout_s: float = 60.0) -> None:
        """SIGKILL, and wait until it is gone. For the init of a PID namespace that means: until all in it are gone.

        The pidfd is opened before the start time is compared, so between the two the number cannot change hands.
        """
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if not self.alive():
                return
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            # poll, because select cannot watch a descriptor above 1023.
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(timeout_s * 1000):
                raise LabError(f"process {self.pid} is still there {timeout_s:g} s after SIGKILL")
        except ProcessLookupError:
            return
        finally:
            os.close(pidfd)


def boot_id() -> str:
    """Start times count from boot, and a lab directory can outlive one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def children(parent: int) -> list[int]:
    """The pids whose parent this is. A scan, because /proc/<pid>/task/<tid>/children needs CONFIG_PROC_CHILDREN."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(ValueError):
            pid = int(entry.name)
            stat = _stat(pid)
            if stat is not None and int(stat[_PARENT_FIELD]) == parent:
                found.append(pid)
    return found
