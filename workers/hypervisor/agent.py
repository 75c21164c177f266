"""The guest agent: is it there, freeze, thaw, and is the guest really thawed.

A freeze blocks for ever by default [virDomainAgentSetResponseTimeout]; every call here is bounded. After a time-out the
freeze may still succeed in the guest, so a freeze that failed is always followed by a thaw; a thaw of a thawed guest is
harmless. [libvirt src/qemu/qemu_agent.c; vdsm #160]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError, telling
from workers.hypervisor.filesystem import Filesystem
from workers.hypervisor.freeze_failure import answering

FreezeStatus = Literal["thawed", "frozen"]


def freeze_status(domain: Domain, timeout_s: int) -> FreezeStatus:
    """Ask the guest itself. Also shows that the agent answers. Raises AgentError."""
    answer = domain.agent_command('{"execute": "guest-fsfreeze-status"}', timeout_s)
    try:
        status = json.loads(answer)["return"]
    except (ValueError, KeyError, TypeError) as error:
        raise AgentError(f"The agent of {domain} answered with something else than a status.") from error
    if status not in {"thawed", "frozen"}:
        raise AgentError(f"The agent of {domain} answered with an unknown status.")
    return "frozen" if status == "frozen" else "thawed"


def freeze(domain: Domain, timeout_s: int, mountpoints: Sequence[str] = ()) -> int:
    """Freeze the guest's filesystems, or only those at `mountpoints`, and return how many.

    Raises AgentError, after which the guest may be frozen all the same; FreezeFailedError if the agent answered with an error.
    """
    with answering(domain), telling(f"freezing {domain}", AgentError):
        domain.handle.agentSetResponseTimeout(timeout_s)
        return int(domain.handle.fsFreeze(list(mountpoints) if mountpoints else None))


def filesystems(domain: Domain, timeout_s: int) -> list[Filesystem]:
    """Return what the guest has mounted, as far as a freeze can reach it. Raises AgentError."""
    with telling(f"asking {domain} for its filesystems", AgentError):
        domain.handle.agentSetResponseTimeout(timeout_s)
        return [_filesystem(*listed) for listed in domain.handle.fsInfo()]


def _filesystem(mountpoint: str, name: str | None, kind: str | None, disks: Sequence[str | None] | None) -> Filesystem:
    """Map one entry of fsInfo. It has None for a device at whose address libvirt knows no disk. [qemuAgentFSInfoToPublic]"""
    known = tuple(str(disk) for disk in disks or () if disk)
    return Filesystem(mountpoint, known, name or "", kind or "", unmapped=len(known) < len(disks or ()))


def thaw(domain: Domain, timeout_s: int) -> int:
    """Thaw the guest's filesystems; how many were frozen. Raises AgentError."""
    with telling(f"thawing {domain}", AgentError):
        domain.handle.agentSetResponseTimeout(timeout_s)
        return int(domain.handle.fsThaw())
