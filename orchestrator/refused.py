"""Runs that were refused in prepare: nothing can be sealed of them, which counts if the repository cannot be asked. Pure.

| a host answers the order to prepare                                   | then                                                |
|-----------------------------------------------------------------------|-----------------------------------------------------|
| with the fault of a guest, which it stores and repeats for ever       | that guest was never held in this capture           |
| that it cannot use the repository: it looked for its stored answer    | none of its guests was, but for those that it has   |
| first, and had none                                                   | prepared in another round                           |
| that the guest is not there                                           | it may have been prepared on another host           |
| anything else, or nothing: it came too late, its disk is full, …      | it may have taken part, and Redis has forgotten it  |

Policy `all` seals nothing without a planned guest, `degrade` nothing without all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from freezeframe.contract.result import NOT_HERE, PrepareResult
from freezeframe.contract.words import Policy
from freezeframe.errors import EXIT_REPOSITORY
from orchestrator.run import Run


def in_prepare(run: Run, prepared: Sequence[PrepareResult]) -> bool:
    """Return True if the run was refused before any guest was held, by answers that Redis cannot have taken back."""
    if run.members:
        return False
    planned = {guest.guest_uuid: host.host_id for host in (run.plan.hosts if run.plan else ()) for guest in host.guests}
    told = [guest for result in prepared if not result.fault for guest in result.guests]
    ready = {guest.guest_uuid for guest in told if not guest.fault}
    refused = {guest.guest_uuid for guest in told if guest.fault and guest.fault.code not in NOT_HERE}
    blind = {one.host_id for one in prepared if one.fault is not None and one.fault.exit_code == EXIT_REPOSITORY}
    refused |= {uuid for uuid, host_id in planned.items() if host_id in blind}
    refused &= planned.keys() - ready
    return bool(refused) if run.request.policy is Policy.ALL else bool(planned) and refused == planned.keys()
