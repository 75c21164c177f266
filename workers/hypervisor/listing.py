"""All guests of a host with their states, by one call: hundreds of guests are listed every few seconds."""

from __future__ import annotations

from dataclasses import dataclass

import libvirt

from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import state_text
from workers.hypervisor.errors import telling


@dataclass(frozen=True)
class GuestState:
    """One guest and its state, in virsh's words."""

    uuid: str
    name: str
    state: str


def guest_states(hypervisor: Hypervisor) -> list[GuestState]:
    """Return all guests and their states. Raises HypervisorError.

    One call takes them all from libvirt's memory: it waits for no guest's QEMU, and a guest that is undefined meanwhile is
    in the answer or is not. [libvirt qemuDomainGetStatsState: no job, no monitor]
    """
    loan = hypervisor.lend()
    with telling("listing guests"):
        found = loan.connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
        return [GuestState(one.UUIDString(), one.name(), state_text(stats.get("state.state"))) for one, stats in found]
