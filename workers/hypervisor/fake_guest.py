# ruff: noqa: N802, S101  libvirt's names; a caller that asks wrongly is a failed test
"""A guest as libvirt and its agent show it, for tests of prepare and of the hold. It refuses calls that it does not know."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import libvirt

UUID = "00000000-0000-4000-8000-00000000000a"
CONFIG_FLAGS = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
FSFREEZE = ("guest-fsfreeze-status", "guest-fsfreeze-freeze", "guest-fsfreeze-freeze-list", "guest-fsfreeze-thaw")

LISTING = ("guest-get-fsinfo", "guest-get-disks")


def disk_xml(target: str, source: str, *, driver: str = "raw", more: str = "", kind: str = "file") -> str:
    attribute = {"file": "file", "block": "dev"}[kind]
    return (
        f"<disk type='{kind}' device='disk'><driver name='qemu' type='{driver}'/><source {attribute}='{source}'/>"
        f"<target dev='{target}' bus='virtio'/>{more}</disk>"
    )


def domain_xml(*disks: str, name: str = "alpha", uuid: str = UUID) -> str:
    return f"<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid><devices>{''.join(disks)}</devices></domain>"


def libvirt_error(code: int, message: str = "no") -> libvirt.libvirtError:
    error = libvirt.libvirtError(message)
    error.err = (code, libvirt.VIR_FROM_QEMU, message, 2, "", None, None, 0, 0)
    return error


@dataclass
class Refusals:
    """libvirt's words for an agent that answered with an error; a test may have another version or language of them."""

    code: int = libvirt.VIR_ERR_INTERNAL_ERROR
    words: str = "internal error: unable to execute QEMU agent command '{command}': {why}"


REFUSALS = Refusals()


def agent_error(command: str, why: str) -> libvirt.libvirtError:
    return libvirt_error(REFUSALS.code, REFUSALS.words.format(command=command, why=why))


@dataclass
class FakeGuest:
    """A running guest with an agent. `filesystems` are (mountpoint, name, kind, disks); its other partitions are `loose`."""

    live_xml: str
    stored_xml: str = ""
    uuid: str = UUID
    label: str = "alpha"
    state_code: int = libvirt.VIR_DOMAIN_RUNNING
    size_bytes: int = 1 << 20
    sizes: dict[str, int] = field(default_factory=dict)  # of disks with another size
    starts_with_host: bool = False
    status: str = "thawed"
    filesystems: list[list[Any]] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)  # partitions of vda with nothing mounted
    files: dict[str, str] = field(default_factory=dict)  # files in it that the agent reads
    open_files: dict[int, str] = field(default_factory=dict)
    commands: dict[str, bool] = field(default_factory=lambda: dict.fromkeys((*FSFREEZE, *LISTING), True))

    def UUIDString(self) -> str:
        return self.uuid

    def name(self) -> str:
        return self.label

    def isActive(self) -> bool:
        return True

    def state(self) -> list[int]:
        return [self.state_code, 0]

    def jobStats(self) -> dict[str, int]:
        return {"type": libvirt.VIR_DOMAIN_JOB_NONE}

    def blockJobInfo(self, target: str) -> dict[str, int]:
        assert f"dev='{target}'" in self.live_xml
        return {}

    def blockInfo(self, target: str) -> list[int]:
        assert f"dev='{target}'" in self.live_xml
        return [self.sizes.get(target, self.size_bytes), 0, 0]

    def XMLDesc(self, flags: int = 0) -> str:
        assert flags in {0, CONFIG_FLAGS}
        return (self.stored_xml or self.live_xml) if flags else self.live_xml

    def autostart(self) -> int:
        return int(self.starts_with_host)

    def backupGetXMLDesc(self) -> str:
        raise libvirt_error(libvirt.VIR_ERR_NO_DOMAIN_BACKUP)

    def listAllCheckpoints(self) -> list[object]:
        return []

    def agentSetResponseTimeout(self, timeout_s: int) -> None:
        assert timeout_s > 0 or timeout_s == libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK

    def fsInfo(self) -> list[list[Any]]:
        self._check_allowed("guest-get-fsinfo")
        return self.filesystems

    def guestInfo(self, types: int, flags: int) -> dict[str, Any]:
        """Answer for the block devices: a disk for each target that has a filesystem, and a device for each filesystem."""
        assert (types, flags) == (libvirt.VIR_DOMAIN_GUEST_INFO_DISKS, 0)
        self._check_allowed("guest-get-disks")
        targets = {disk for *_, disks in self.filesystems for disk in disks if disk}
        listed: list[dict[str, Any]] = [
            {"name": f"/dev/{target}", "partition": False, "alias": target} for target in targets
        ]
        for name, disks in [(name, disks) for _, name, _, disks in self.filesystems] + [
            (one, ["vda"]) for one in self.loose
        ]:
            if name not in targets:
                below = {f"dependency.{number}.name": f"/dev/{disk}" for number, disk in enumerate(disks)}
                listed.append({"name": f"/dev/{name}", "partition": True, "dependency.count": len(disks), **below})
        found: dict[str, Any] = {"disk.count": len(listed)}
        for number, one in enumerate(listed):
            found |= {f"disk.{number}.{key}": value for key, value in one.items()}
        return found

    def _check_allowed(self, command: str) -> None:
        if not self.commands.get(command):
            raise agent_error(command, "The command is not allowed")

    def agent_command(self, command: str, timeout_s: int) -> str:
        """Answer as qemu-ga does; put in place of `libvirt_qemu.qemuAgentCommand`."""
        assert timeout_s > 0
        match json.loads(command)["execute"]:
            case "guest-info":
                listed = [{"name": name, "enabled": enabled} for name, enabled in self.commands.items()]
                return json.dumps({"return": {"version": "7.2.0", "supported_commands": listed}})
            case "guest-fsfreeze-status" as name:
                self._check_allowed(name)
                return json.dumps({"return": self.status})
            case "guest-file-open" | "guest-file-read" | "guest-file-close" as name:
                return json.dumps({"return": self._file(name, **json.loads(command)["arguments"])})
            case other:
                raise AssertionError(f"nobody should ask the agent for {other}")

    def _file(self, command: str, path: str = "", mode: str = "", handle: int = 0, count: int = 0) -> Any:
        self._check_allowed(command)
        match command:
            case "guest-file-open":
                assert mode == "r"
                if path not in self.files:
                    raise agent_error(command, f"failed to open file '{path}' (mode: 'r'): No such file or directory")
                handle = len(self.open_files) + 1000
                self.open_files[handle] = path
                return handle
            case "guest-file-read":
                content = self.files[self.open_files[handle]].encode()
                assert count >= len(content)
                return {"count": len(content), "buf-b64": base64.b64encode(content).decode(), "eof": False}
            case _:
                del self.open_files[handle]
                return {}
