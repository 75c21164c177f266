# ruff: noqa: N802, S101  libvirt's names; a caller that asks wrongly is a failed test
"""A guest that can be held and backed up, as libvirt and its agent show it. Several connections to it share one state."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

import libvirt
from lxml import etree

from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_guest import FakeGuest, agent_error, disk_xml, domain_xml, libvirt_error


def no_answer() -> libvirt.libvirtError:
    return libvirt_error(
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE, "Guest agent is not responding: Guest agent not available for now"
    )


@dataclass
class HeldFake(FakeGuest):
    """`freezing`, `suspending` and `beginning` are waited for within the call, as for QEMU; then it takes effect.

    `operation` is the job that libvirt has on it, `off` the reason for which it does not run here; `moves` and `leaves` become
    them when the guest is frozen or suspended.
    """

    frozen: bool = False
    has_backup: bool = False
    log: list[str] = field(default_factory=list)  # what was done to it, in order
    freeze_timeouts: list[int] = field(default_factory=list)
    freezing: threading.Event = field(default_factory=threading.Event)
    suspending: threading.Event = field(default_factory=threading.Event)
    beginning: threading.Event = field(default_factory=threading.Event)
    suspend_called: threading.Event = field(default_factory=threading.Event)
    refuses_begin: bool = False
    lies_about_resume: bool = False
    freeze_fails: Exception | None = None
    operation: int | None = None
    moves: int | None = None
    off: int | None = None
    leaves: int | None = None
    saved: bool = False
    expires: bool = False  # the freeze ends by itself, and the thaw is answered as by the agent in Windows

    def __post_init__(self) -> None:
        self.freezing.set()
        self.suspending.set()
        self.beginning.set()

    @property
    def paused(self) -> bool:
        return bool(self.state_code == libvirt.VIR_DOMAIN_PAUSED)

    def domain(self) -> Domain:
        """A connection of its own."""
        return Domain(self)

    def jobStats(self) -> dict[str, int]:
        if self.operation is None:
            return super().jobStats()
        return {"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "operation": self.operation}

    def isActive(self) -> bool:
        return self.off is None

    def state(self) -> list[int]:
        return super().state() if self.off is None else [libvirt.VIR_DOMAIN_SHUTOFF, self.off]

    def hasManagedSaveImage(self) -> bool:
        return self.saved

    def suspend(self) -> None:
        self.suspend_called.set()
        assert self.suspending.wait(30)
        self.log.append("suspend")
        self.operation, self.off = self.moves or self.operation, self.leaves or self.off
        self.state_code = libvirt.VIR_DOMAIN_PAUSED  # and success, if it was paused already

    def resume(self) -> None:
        if not self.paused:
            raise libvirt_error(libvirt.VIR_ERR_OPERATION_INVALID, "domain is already running")
        self.log.append("resume")
        if not self.lies_about_resume:
            self.state_code = libvirt.VIR_DOMAIN_RUNNING

    def backupBegin(self, backup: str, checkpoint: str | None, flags: int) -> None:
        assert etree.fromstring(backup).tag == "domainbackup"
        assert checkpoint is None or etree.fromstring(checkpoint).tag == "domaincheckpoint"
        assert flags == libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
        assert self.beginning.wait(30)
        if self.off is not None:
            raise libvirt_error(libvirt.VIR_ERR_OPERATION_INVALID, "domain is not running")
        if self.operation is not None:  # after 30 s
            raise libvirt_error(libvirt.VIR_ERR_OPERATION_TIMEOUT, "cannot acquire state change lock")
        if self.refuses_begin:
            raise libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "no")
        assert not self.has_backup
        self.log.append("begin")
        self.has_backup = True

    def agent_command(self, command: str, timeout_s: int) -> str:
        assert timeout_s > 0
        call = json.loads(command)
        if self.off is not None:
            raise libvirt_error(libvirt.VIR_ERR_OPERATION_INVALID, "domain is not running")
        if self.paused:
            raise no_answer()
        match call["execute"]:
            case "guest-fsfreeze-status":
                return json.dumps({"return": "frozen" if self.frozen else "thawed"})
            case "guest-fsfreeze-freeze":
                self.freeze_timeouts.append(timeout_s)
                return self._freeze()
            case "guest-fsfreeze-thaw":
                self.log.append("thaw")
                thawed, self.frozen = 2 * self.frozen, False
                if thawed and self.expires:
                    raise agent_error(
                        "guest-fsfreeze-thaw", "couldn't hold writes: fsfreeze is limited up to 10 seconds: "
                    )
                return json.dumps({"return": thawed})
            case _:
                return super().agent_command(command, timeout_s)

    def _freeze(self) -> str:
        assert self.freezing.wait(30)
        if self.frozen:
            raise agent_error(
                "guest-fsfreeze-freeze", "Command guest-fsfreeze-freeze has been disabled: the command is not allowed"
            )
        if self.freeze_fails is not None:
            raise self.freeze_fails
        self.log.append("freeze")
        self.operation, self.off = self.moves or self.operation, self.leaves or self.off
        self.frozen = True
        return json.dumps({"return": 2})


def agent_command(handle: HeldFake, command: str, timeout_s: int, flags: int) -> str:
    """Put in place of `libvirt_qemu.qemuAgentCommand`."""
    assert flags == 0
    return handle.agent_command(command, timeout_s)


def held_fake(number: int) -> HeldFake:
    uuid, name = f"00000000-0000-4000-8000-{number:012d}", f"guest-{number}"
    xml = domain_xml(disk_xml("vda", f"/{name}.img"), name=name, uuid=uuid)
    filesystems: list[list[Any]] = [["/", "vda1", "ext4", ["vda"]], ["/home", "vda2", "ext4", ["vda"]]]
    return HeldFake(xml, uuid=uuid, label=name, filesystems=filesystems)
