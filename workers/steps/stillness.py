"""Ask a guest's agent, before any guest is held, for all that the decision needs: which disks does a freeze keep still?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

from freezeframe.contract.hold import GuestHold
from workers import fitness
from workers.fitness import exemption
from workers.fitness.coverage import unreached_devices
from workers.hypervisor import agent
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.filesystem import Filesystem
from workers.hypervisor.freeze_failure import refused
from workers.hypervisor.guest_device import GuestDevice
from workers.hypervisor.guest_file import FILE_COMMANDS, read_guest_file

AnswerT = TypeVar("AnswerT")
Commands = Mapping[str, bool] | None

#: Devices of which the guest is asked what they are for: two files each, and a file is three commands. An ordinary guest has
#: one to three.
MOST_DEVICES: Final = 8


def stillness_of(
    domain: Domain, hold: GuestHold, disks: Sequence[DomainDisk], commands: Commands, timeout_s: int
) -> fitness.Stillness:
    """Return which of the captured disks a hold that freezes keeps still. `commands` are those that the agent knows.

    Raises AgentError if the agent does not answer, MountpointError for a mount point that the guest does not have.
    """
    filesystems = _asked(commands, "guest-get-fsinfo", lambda: agent.filesystems(domain, timeout_s))
    if filesystems is None or hold.kind.pauses:
        return fitness.stillness(domain.name, hold, disks, filesystems)
    devices = _asked(commands, "guest-get-disks", lambda: agent.devices(domain, timeout_s))
    found = fitness.stillness(domain.name, hold, disks, filesystems, devices)
    loose = _loose(found, filesystems, devices or ())
    if not loose or (commands is not None and not all(commands.get(one) for one in FILE_COMMANDS)):
        return found
    harmless = _harmless(domain, loose, timeout_s)
    return fitness.stillness(domain.name, hold, disks, filesystems, devices, harmless)


def _loose(found: fitness.Stillness, filesystems: Sequence[Filesystem], devices: Sequence[GuestDevice]) -> list[str]:
    """Return the devices with nothing mounted on the disks that are not still."""
    mounted = {one.name for one in filesystems}  # no device has an empty name
    return unreached_devices([disk.target for disk in found.moving], devices, mounted)


def _harmless(domain: Domain, loose: Collection[str], timeout_s: int) -> frozenset[str]:
    """Return those of the devices that need no freeze, as far as the guest tells."""
    swaps = exemption.swaps_in_use(_file(domain, "/proc/swaps", timeout_s), loose)
    others = sorted(set(loose) - swaps)[:MOST_DEVICES]
    return swaps | {name for name in others if _is_exempt(domain, name, timeout_s)}


def _is_exempt(domain: Domain, name: str, timeout_s: int) -> bool:
    kernel_name = fitness.kernel_name(name)
    place = exemption.udev_entry(_file(domain, f"/sys/class/block/{kernel_name}/uevent", timeout_s))
    return place is not None and exemption.is_exempt(_file(domain, place, timeout_s))


def _file(domain: Domain, path: str, timeout_s: int) -> str:
    """Return a file of the guest; nothing if it is not there, or the guest does not give it out."""
    try:
        return read_guest_file(domain, path, timeout_s)
    except AgentError as error:
        if refused(error) or error.libvirt_code is None:  # it answers, and not this; or what it answers is no answer
            return ""
        raise


def _asked(commands: Commands, command: str, ask: Callable[[], AnswerT]) -> AnswerT | None:
    """Return the agent's answer; None if it does not know the command, or its configuration blocks it."""
    if commands is not None and not commands.get(command):
        return None
    try:
        return ask()
    except AgentError as error:
        if refused(error):
            return None
        raise
