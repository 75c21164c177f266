"""Look at a prepared guest right before the muster: what has come up since that would make the hold fail, or others wait held.

| since prepare                        | in the hold                                                                    |
|--------------------------------------|--------------------------------------------------------------------------------|
| a migration or another job           | libvirt's begin waits for it, 30 s [libvirt src/qemu: QEMU_JOB_WAIT_TIME]      |
| a block job of a captured disk       | the begin is refused                                                           |
| an agent that no longer answers      | the freeze waits for all of the hold's time                                    |

A guest that others paused or froze is left to the hold, which leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from freezeframe.contract.hold import GuestHold
from freezeframe.naming import NamedGuest
from workers import refusal
from workers.hypervisor import agent
from workers.hypervisor.domain import MIGRATIONS, Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.freeze_failure import refused


def check_still_fit(domain: Domain, hold: GuestHold, targets: Iterable[str], agent_timeout_s: int) -> None:
    """Raise RefusedError for a guest that could not be held any more. `targets` are its captured disks."""
    if (busy := job_refusal(NamedGuest(domain.name, domain.uuid), domain.job())) is not None:
        raise busy
    check_block_jobs(domain, targets)
    if hold.kind.freezes and domain.state() == "running":
        _check_answers(domain, agent_timeout_s)


def job_refusal(guest: NamedGuest, job: str | None) -> refusal.RefusedError | None:
    """Return the refusal of a guest on which libvirt is at work; None without a job. Pure."""
    if job is not None and job in MIGRATIONS:
        return refusal.GuestMigratingError(guest, job)
    return None if job is None else refusal.GuestBusyError(guest, f"Guest {guest} is busy with another job: {job}.")


def check_block_jobs(domain: Domain, targets: Iterable[str]) -> None:
    """Raise GuestBusyError for a guest with a block job on one of the disks."""
    for target in targets:
        if domain.block_job(target):
            guest = NamedGuest(domain.name, domain.uuid)
            raise refusal.GuestBusyError(guest, f"Disk {target} of guest {guest} has a block job.", disk=target)


def _check_answers(domain: Domain, timeout_s: int) -> None:
    try:
        agent.freeze_status(domain, timeout_s)
    except AgentError as error:
        if not refused(error):  # an agent that may not tell has answered
            raise refusal.no_agent(NamedGuest(domain.name, domain.uuid), error.message) from error
