"""A guest: a libvirt domain on one of the lab's hosts, and what a test does with it."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import libvirt

from ops.lab.agent import TIMEOUT_S, Agent
from ops.lab.errors import GuestError, LabError
from ops.lab.host import Host
from ops.lab.waiting import tail, wait_for
from ops.lab.workload import FOLDER, Record

READY = "FREEZEFRAME GUEST READY"
#: Six seconds alone; three guests that boot on two cores with a capture under way have been seen to take thirty, and one on
#: a machine with five times as much to do as it has cores sixty.
BOOT_TIMEOUT_S = 300.0
_SHUTDOWN_TIMEOUT_S = 120.0


class Guest:
    """Looks its domain up by name each time, so it stays good over a redefinition or a restart of libvirtd."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name

    @property
    def domain(self) -> libvirt.virDomain:
        return self.host.connection().lookupByName(self.name)

    @cached_property
    def uuid(self) -> str:
        return str(self.domain.UUIDString())

    @property
    def folder(self) -> Path:
        """Its images and its console's log."""
        return self.host.images / self.name

    @property
    def serial(self) -> Path:
        return self.folder / "serial.log"

    def image(self, target: str) -> Path:
        """The file behind a disk of a lab guest as it was made; captures may put an overlay on top."""
        return next(self.folder.glob(f"{target}.*"))

    # Life.

    def wait_ready(self, timeout_s: float = BOOT_TIMEOUT_S, *, agent: bool = True) -> None:
        """Booted, disks mounted and filled, writers at work and, unless told otherwise, the agent answers."""
        wait_for(f"{self.name}: boot", self._said_ready, timeout_s, 0.1, evidence=self.serial)
        if agent:
            self.wait_agent(timeout_s)

    def wait_agent(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """The agent answers; also after libvirtd was started again."""
        try:
            wait_for(f"{self.name}: agent", self._agent.answers, timeout_s, 0.1)
        except LabError as error:
            raise LabError(f"{error}; {self._agent.silence()}") from error

    def _said_ready(self) -> bool:
        if not self.domain.isActive():
            raise GuestError(f"{self.name} ended while it booted; {tail(self.serial)}")
        return self.serial.exists() and READY in self.serial.read_text(errors="replace")

    def start(self) -> None:
        self.domain.create()

    def shutdown(self, timeout_s: float = _SHUTDOWN_TIMEOUT_S, *, acpi: bool = False) -> None:
        """In order, through the agent or by the power button, and wait until it is off."""
        flags = libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN if acpi else libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT
        self.domain.shutdownFlags(flags)
        wait_for(f"{self.name}: shutdown", lambda: not self.domain.isActive(), timeout_s, 0.1)

    def destroy(self) -> None:
        """Pull the plug. That the guest ends by itself meanwhile is no error."""
        if not self.domain.isActive():
            return
        try:
            self.domain.destroy()
        except libvirt.libvirtError:
            if self.domain.isActive():
                raise

    def remove(self) -> None:
        """Domain and what libvirt keeps for it; the files go with the lab."""
        self.destroy()
        self.domain.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        )

    # The agent.

    @property
    def _agent(self) -> Agent:
        return Agent(self.domain, self.name)

    def agent(self, command: str, arguments: dict[str, Any] | None = None, timeout_s: int = TIMEOUT_S) -> Any:
        return self._agent.call(command, arguments, timeout_s)

    def exec(self, argv: Sequence[str], timeout_s: float = 60.0) -> tuple[int, str]:
        return self._agent.execute(argv, timeout_s)

    def shell(self, script: str, timeout_s: float = 60.0) -> str:
        """The output of a script that must succeed."""
        code, output = self.exec(["/bin/sh", "-ec", script], timeout_s)
        if code:
            raise GuestError(f"{self.name}: exit code {code} of {script!r}: {output.strip()}")
        return output

    def read_file(self, path: str) -> bytes:
        return self._agent.read(path)

    def write_file(self, path: str, data: bytes) -> None:
        self._agent.write(path, data)

    def sha256(self, path: str) -> str:
        code, output = self.exec(["/bin/sha256sum", path])
        if code or len(output.split()[0]) != hashlib.sha256().digest_size * 2:
            raise GuestError(f"{self.name}: sha256sum {path}: {output.strip()}")
        return output.split()[0]

    def fsfreeze_status(self) -> str:
        """`frozen` or `thawed`."""
        return str(self.agent("guest-fsfreeze-status"))

    def mounts(self) -> list[str]:
        """The targets of the disks that are mounted, such as vda."""
        lines = self.shell("cat /proc/mounts").splitlines()
        return [place.removeprefix("/mnt/") for _, place, *_ in map(str.split, lines) if place.startswith("/mnt/")]

    # The workload.

    def stop_workload(self) -> None:
        """Returns when every writer rests between two records and everything is on the disks."""
        waits = 'while ! [ -e "$disk.stopped" ] && ! [ -e "$disk.error" ]; do sleep 0.1; done'
        self.shell(f'cd {FOLDER}; touch stop; for disk in $(ls /mnt); do disk="{FOLDER}/$disk"; {waits}; done; sync')

    def start_workload(self) -> None:
        self.shell(f"rm -f {FOLDER}/stop")

    def set_workload(self, *, interval_s: float | None = None, rewrite_blocks: int | None = None) -> None:
        """Takes effect with each writer's next record."""
        for name, value in (("interval_s", interval_s), ("rewrite_blocks", rewrite_blocks)):
            if value is not None:
                self.shell(f"echo {value:g} >{FOLDER}/{name}.new && mv {FOLDER}/{name}.new {FOLDER}/{name}")

    def acked(self, target: str) -> int:
        """The last record that is known to be durable; 0 before the first."""
        records = self.workload_log(target)
        return records[-1].seq if records else 0

    def workload_log(self, target: str) -> list[Record]:
        """What the writer remembers, 4096 records at least if there were as many. Raises GuestError if it gave up."""
        path = f"{FOLDER}/{target}"
        error = self.shell(f"[ ! -e {path}.error ] || cat {path}.error").strip()
        if error:
            raise GuestError(f"{self.name}: the writer of {target} gave up: {error}")
        return Record.parse(self.shell(f"cat {path}.times.1 {path}.times 2>/dev/null || true"))
