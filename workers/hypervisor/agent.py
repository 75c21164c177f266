"""The guest agent: is it there, freeze, thaw, and is the guest really thawed.

A freeze blocks for ever by default [virDomainAgentSetResponseTimeout]; every call here is bounded. After a time-out the
freeze may still succeed in the guest, so a freeze that failed is always followed by a thaw; a thaw of a thawed guest is
harmless. [libvirt src/qemu/qemu_agent.c; vdsm #160]

virDomainAgentSetResponseTimeout is the guest's, for every client, until the guest stops, and cannot be read. So commands are
sent with a time-out of their own (qemuAgentCommand); only fsInfo and guestInfo, whose answers libvirt translates, cannot be,
and the default is put back after them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Literal

import libvirt

from freezeframe.naming import NamedGuest
from workers.hypervisor.agent_answer import asking
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.filesystem import Filesystem
from workers.hypervisor.freeze_failure import FreezeExpiredError, FreezeFailedError, answering, expired, out_of_time
from workers.hypervisor.guest_device import GuestDevice, devices_of

FreezeStatus = Literal["thawed", "frozen"]


def freeze_status(domain: Domain, timeout_s: int) -> FreezeStatus:
    """Ask the guest itself. Also shows that the agent answers. Raises AgentError."""
    status = _ask(domain, timeout_s, "guest-fsfreeze-status")
    if status not in {"thawed", "frozen"}:
        raise AgentError(f"The agent of {domain} answered with an unknown status.")
    return "frozen" if status == "frozen" else "thawed"


def freeze(domain: Domain, timeout_s: int, mountpoints: Sequence[str] = ()) -> int:
    """Freeze the guest's filesystems, or only those at `mountpoints`, and return how many.

    Raises AgentError, after which the guest may be frozen all the same; FreezeFailedError if the agent answered with an error,
    SlowFreezeError if it had not ended in time, LateFreezeError if libvirt said so late.
    """
    began = time.monotonic()
    try:
        with answering(domain):
            if mountpoints:
                return _count(domain, timeout_s, "guest-fsfreeze-freeze-list", mountpoints=list(mountpoints))
            return _count(domain, timeout_s, "guest-fsfreeze-freeze")
    except FreezeFailedError:
        raise
    except AgentError as error:
        failure = out_of_time(NamedGuest(domain.name, domain.uuid), time.monotonic() - began, timeout_s, error)
        if failure is error:
            raise
        raise failure from error


def filesystems(domain: Domain, timeout_s: int) -> list[Filesystem]:
    """Return what the guest has mounted, as far as a freeze can reach it. Raises AgentError."""
    with asking(f"asking {domain} for its filesystems", "guest-get-fsinfo"):
        domain.handle.agentSetResponseTimeout(timeout_s)
        try:
            return [_filesystem(*listed) for listed in domain.handle.fsInfo()]
        finally:
            domain.handle.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK)


def devices(domain: Domain, timeout_s: int) -> list[GuestDevice]:
    """Return the guest's block devices (guest-get-disks, from QEMU 5.2 on). Raises AgentError."""
    with asking(f"asking {domain} for its block devices", "guest-get-disks"):
        domain.handle.agentSetResponseTimeout(timeout_s)
        try:
            return devices_of(domain.handle.guestInfo(libvirt.VIR_DOMAIN_GUEST_INFO_DISKS, 0))
        finally:
            domain.handle.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK)


def _filesystem(mountpoint: str, name: str | None, kind: str | None, disks: Sequence[str | None] | None) -> Filesystem:
    """Map one entry of fsInfo. It has None for a device at whose address libvirt knows no disk. [qemuAgentFSInfoToPublic]"""
    known = tuple(str(disk) for disk in disks or () if disk)
    return Filesystem(mountpoint, known, name or "", kind or "", unmapped=len(known) < len(disks or ()))


def thaw(domain: Domain, timeout_s: int) -> int:
    """Thaw the guest's filesystems and return how many were frozen.

    Raises AgentError; FreezeExpiredError for a guest with Windows that is thawed, and was so before.
    """
    try:
        return _count(domain, timeout_s, "guest-fsfreeze-thaw")
    except AgentError as error:
        if expired(error):
            raise FreezeExpiredError(NamedGuest(domain.name, domain.uuid), error) from error
        raise


def _count(domain: Domain, timeout_s: int, command: str, **arguments: Any) -> int:
    answer = _ask(domain, timeout_s, command, **arguments)
    if not isinstance(answer, int):
        raise AgentError(f"The agent of {domain} answered {command} with something else than a number.")
    return answer


def _ask(domain: Domain, timeout_s: int, command: str, **arguments: Any) -> Any:
    """Return the agent's answer to a command. The guest is not trusted: it may be anything that JSON can tell."""
    call = {"execute": command} | ({"arguments": arguments} if arguments else {})
    answer = domain.agent_command(json.dumps(call), timeout_s)
    try:
        return json.loads(answer)["return"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AgentError(f"The agent of {domain} answered {command} with something that is no answer.") from error
