"""One guest, as libvirt has it now."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from workers.hypervisor.agent_answer import asking
from workers.hypervisor.disk import DomainDisk, disks_of, parse
from workers.hypervisor.errors import GuestGoneError, HypervisorError, telling
from workers.hypervisor.loan import Loan

#: The channel that libvirt takes for the guest agent's.
AGENT_CHANNEL = "org.qemu.guest_agent.0"

_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: "no state",
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "idle",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "in shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF: "shut off",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "pmsuspended",
}


_STOPPED = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "was shut down",
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "was forced off",
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED: "was saved and stopped",
}


def state_text(state: int | None) -> str:
    """Return a state in virsh's words. Pure."""
    return "unknown" if state is None else _STATES.get(state, "unknown")


#: Reasons for which a guest is off whose memory goes on as it was, and those for which it is gone.
_GOES_ON = frozenset({libvirt.VIR_DOMAIN_SHUTOFF_SAVED, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED})
_ENDED = frozenset(_STOPPED) - _GOES_ON


class Presence(StrEnum):
    """Where a guest's memory is: what held the guest goes with it."""

    HERE = "here"  # it runs, or is paused, or arrives
    ELSEWHERE = "elsewhere"  # saved, or on another host; or it has ended and is not known here any more
    ENDED = "ended"  # it was shut down, forced off, or crashed
    UNKNOWN = "unknown"  # it is off, and a libvirtd that was started since does not know how that came


class Domain:
    """A guest. Every call may raise HypervisorError, and GuestGoneError once the guest is gone."""

    def __init__(self, handle: Any, loan: Loan | None = None) -> None:
        self.handle = handle
        self._loan = loan  # the connection is nobody else's as long as this guest is looked at
        self.uuid: str = handle.UUIDString()
        self.name: str = handle.name()

    def __str__(self) -> str:
        return f"guest {self.name}"

    def state(self) -> str:
        """In virsh's words: running, paused, shut off, …"""
        with telling(f"asking for the state of {self}"):
            return state_text(self.handle.state()[0])

    def how_stopped(self) -> str | None:
        """Return how the guest stopped, as the end of a sentence that begins with its name; None if it has not.

        A guest that has shut down stays "in shutdown" for as long as 30 s after its QEMU ended, if it has a backup and an
        agent: libvirt learns first that the agent's channel closed, and waits for a job that a backup does not let in.
        [libvirt 9.0: processSerialChangedEvent, QEMU_JOB_WAIT_TIME; seen in its log]
        """
        with telling(f"asking for the state of {self}"):
            state, reason = self.handle.state()
        if state == libvirt.VIR_DOMAIN_SHUTDOWN:
            return "was shut down"
        return _STOPPED.get(reason, "stopped") if state == libvirt.VIR_DOMAIN_SHUTOFF else None

    def presence(self) -> Presence:
        """Return where the guest's memory is, as far as libvirt knows here."""
        try:
            with telling(f"asking for the state of {self}"):
                if self.handle.isActive():
                    return Presence.HERE
                state, reason = self.handle.state()
                if (
                    state != libvirt.VIR_DOMAIN_SHUTOFF
                ):  # it was started meanwhile; a reason has a meaning for its state only
                    return Presence.HERE
                if reason in _GOES_ON or self.handle.hasManagedSaveImage():
                    return Presence.ELSEWHERE
        except GuestGoneError:
            return Presence.ELSEWHERE
        return Presence.ENDED if reason in _ENDED else Presence.UNKNOWN

    def is_saved(self) -> bool:
        """Return True for a guest that goes on from a saved state when it is started."""
        with telling(f"asking {self} for a saved state"):
            return bool(self.handle.hasManagedSaveImage())

    def start_id(self) -> int:
        """Return libvirt's number of this start of the guest: another one means that it was off in between; -1 while off."""
        with telling(f"asking for the state of {self}"):
            return int(self.handle.ID())

    def active(self) -> bool:
        with telling(f"asking for the state of {self}"):
            return bool(self.handle.isActive())

    def job(self) -> str | None:
        """What keeps libvirt busy with this guest: migration, save, backup, a block job; None if nothing does."""
        try:
            with telling(f"asking for the jobs of {self}"):
                stats = self.handle.jobStats()
        except HypervisorError as error:
            # "migration statistics are available only on the source host": what a guest that is arriving answers
            if error.libvirt_code == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
                return _OPERATIONS[libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN]
            raise
        if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) == libvirt.VIR_DOMAIN_JOB_NONE:
            return None
        return _OPERATIONS.get(stats.get("operation"), "job")

    def block_job(self, target: str) -> bool:
        with telling(f"asking for block jobs of {self}, disk {target}"):
            return bool(self.handle.blockJobInfo(target))

    def block_job_type(self, target: str) -> int | None:
        """One of libvirt's VIR_DOMAIN_BLOCK_JOB_TYPE_*; None if QEMU works on none for this disk."""
        with telling(f"asking for block jobs of {self}, disk {target}"):
            kind = self.handle.blockJobInfo(target).get("type")
        return None if kind is None else int(kind)

    def live_xml(self) -> str:
        with telling(f"reading the definition of {self}"):
            return str(self.handle.XMLDesc())

    def stored_xml(self) -> str:
        """The definition to bring the guest back with: of its next start, without what belongs to this run only."""
        with telling(f"reading the definition of {self}"):
            return str(self.handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_MIGRATABLE))

    def autostart(self) -> bool | None:
        """Return True if the guest starts with its host; None for a transient guest, which cannot."""
        try:
            with telling(f"asking whether {self} starts with its host"):
                return bool(self.handle.autostart())
        except HypervisorError as error:
            if error.libvirt_code == libvirt.VIR_ERR_OPERATION_INVALID:
                return None
            raise

    def set_autostart(self, *, wanted: bool) -> None:
        """Let the guest start with its host, or not."""
        with telling(f"setting whether {self} starts with its host"):
            self.handle.setAutostart(wanted)

    def agent_socket(self) -> Path | None:
        """QEMU's socket for the guest agent, which libvirt is connected to; None for a guest without one."""
        source = parse(self.live_xml()).find(f"devices/channel[@type='unix']/target[@name='{AGENT_CHANNEL}']/../source")
        path = None if source is None else source.get("path")
        return Path(path) if path else None

    def disks(self) -> list[DomainDisk]:
        return disks_of(self.live_xml())

    def disk_bytes(self, target: str) -> int:
        """What the guest sees as the size of this disk."""
        with telling(f"asking for the size of {self}, disk {target}"):
            return int(self.handle.blockInfo(target)[0])

    def volume_path(self, pool: str, volume: str) -> str:
        """Return the path of a storage pool's volume on this host, or the name that the pool's driver understands."""
        with telling(f"looking for volume {volume} of pool {pool}"):
            found = self.handle.connect().storagePoolLookupByName(pool).storageVolLookupByName(volume)
            return str(found.path())

    def start(self) -> None:
        with telling(f"starting {self}"):
            self.handle.create()

    def pause(self) -> None:
        with telling(f"pausing {self}"):
            self.handle.suspend()

    def resume(self) -> None:
        with telling(f"resuming {self}"):
            self.handle.resume()

    def let_run(self) -> None:
        """Resume the guest if it is paused, behind any call that is already at work on it. Raises HypervisorError.

        Its state alone does not tell: while a suspend waits for QEMU the state is still "running". A resume waits for the
        guest's job, which that suspend has, and is then refused if the guest runs. [qemu_driver.c: qemuDomainResume]
        """
        state = self.state()
        if state == "paused":
            self.resume()
        elif state == "running":
            try:
                self.resume()
            except HypervisorError as error:
                if error.libvirt_code not in _RUNS_ALREADY:
                    raise

    def agent_command(self, command: str, timeout_s: int) -> str:
        """Send a command in JSON to the guest agent and return its answer. Raises AgentError."""
        with asking(f"asking the agent of {self}", str(json.loads(command)["execute"])):
            return str(libvirt_qemu.qemuAgentCommand(self.handle, command, timeout_s, 0))

    def monitor(self, command: str, **arguments: Any) -> Any:
        """Send a command to QEMU itself, past libvirt, and return its answer. Raises HypervisorError.

        libvirt marks the guest as tainted by it (custom-monitor), so it is for what libvirt cannot do. Names of arguments have
        dashes in QMP, and underscores here.
        """
        call = {"execute": command, "arguments": {name.replace("_", "-"): value for name, value in arguments.items()}}
        with telling(f"telling QEMU of {self}: {command}"):
            answer = json.loads(libvirt_qemu.qemuMonitorCommand(self.handle, json.dumps(call), 0))
        if "error" in answer:
            raise HypervisorError(f"QEMU of {self} refused {command}: {answer['error'].get('desc')}.")
        return answer["return"]


#: How a resume of a running guest is refused: by QEMU's driver, and by libvirt's test driver.
_RUNS_ALREADY = frozenset({libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_INTERNAL_ERROR})

_OPERATIONS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_START: "start",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: "save",
    libvirt.VIR_DOMAIN_JOB_OPERATION_RESTORE: "restore",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: "migration from another host",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: "migration to another host",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: "snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT: "snapshot revert",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "dump",
    libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP: "backup",
}

#: What `job` calls a guest that is not here yet: it neither runs nor answers.
ARRIVING = _OPERATIONS[libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN]

#: What `job` calls a guest that is on its way from one host to another.
MIGRATIONS = frozenset(
    _OPERATIONS[operation]
    for operation in (
        libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN,
        libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
    )
)
