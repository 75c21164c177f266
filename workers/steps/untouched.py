"""Whether a guest may be held and its backup begun: asked of libvirt within the hold, right before each of the two.

| found                                | without this look                                                               |
|--------------------------------------|---------------------------------------------------------------------------------|
| paused, or not running, for a hold   | a suspend would succeed, do nothing, and the guest be resumed for others        |
| a migration, a save or another job   | the begin waits for it, 30 s, the guest is held meanwhile, and it may arrive    |
|                                      | held on another host, or come back so from its saved state                      |

The muster lies between `still_fit` and the hold, and may last a minute; a freeze lies between the hold and the begin. The agent
has a job of its own in libvirt, so a freeze does not wait for a migration. [libvirt src/qemu/qemu_driver.c:
qemuDomainAgentCommand, src/hypervisor/domain_job.c: virDomainObjBeginAgentJob, QEMU_JOB_WAIT_TIME]
"""

from __future__ import annotations

from freezeframe.contract.hold import GuestHold
from freezeframe.naming import NamedGuest
from workers import refusal
from workers.hypervisor.domain import Domain
from workers.steps.still_fit import job_refusal

#: States in which a guest may be held.
_RUNS = frozenset({"running", "idle", "no state", "in shutdown"})


def check_untouched(domain: Domain, hold: GuestHold) -> None:
    """Raise RefusedError for a guest that somebody has paused, or libvirt works on, since it was prepared.

    libvirt answers a suspend of a paused guest with success and does nothing, and has one reason for all who pause; so it must
    be seen before. [libvirt src/qemu/qemu_driver.c: qemuDomainSuspend] The job is asked for first: a save pauses its guest.
    """
    check_no_job(domain)
    if (hold.kind.pauses or hold.kind.freezes) and (state := domain.state()) not in _RUNS:
        raise refusal.PausedMeanwhileError(f"Guest {domain.name} was prepared while it ran, and is {state} now.")


def check_no_job(domain: Domain) -> None:
    """Raise GuestMigratingError or GuestBusyError for a guest on which libvirt is at work.

    Without a job libvirt answers from its own memory. What keeps it from that, would keep it from the begin as well.
    """
    if (busy := job_refusal(NamedGuest(domain.name, domain.uuid), domain.job())) is not None:
        raise busy
