"""Ask a guest's agent, before any guest is held, for all that the decision needs: which disks does a freeze keep still?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from freezeframe.contract.hold import GuestHold
from workers import fitness
from workers.hypervisor import agent
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.freeze_failure import refused
from workers.hypervisor.guest_device import guest_devices

AnswerT = TypeVar("AnswerT")


def stillness_of(
    domain: Domain, hold: GuestHold, disks: Sequence[DomainDisk], commands: Mapping[str, bool] | None, timeout_s: int
) -> fitness.Stillness:
    """Return which of the captured disks a hold that freezes keeps still. `commands` are those that the agent knows.

    Raises AgentError if the agent does not answer, MountpointError for a mount point that the guest does not have.
    """
    filesystems = _asked(commands, "guest-get-fsinfo", lambda: agent.filesystems(domain, timeout_s))
    devices = None
    if filesystems is not None and not hold.kind.pauses:
        devices = _asked(commands, "guest-get-disks", lambda: guest_devices(domain, timeout_s))
    return fitness.stillness(domain.name, hold, disks, filesystems, devices)


def _asked(commands: Mapping[str, bool] | None, command: str, ask: Callable[[], AnswerT]) -> AnswerT | None:
    """Return the agent's answer; None if it does not know the command, or its configuration blocks it."""
    if commands is not None and not commands.get(command):
        return None
    try:
        return ask()
    except AgentError as error:
        if refused(error):
            return None
        raise
