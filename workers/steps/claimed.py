"""Claiming a guest; and if another capture has it, whether that goes on, and what to type if it does not."""

from __future__ import annotations

import redis

from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.words import RunState
from workers.changes import thaw_is_pending
from workers.claims import GuestClaimedError
from workers.host import Host
from workers.runs import RunUnreadableError, run_state


def claim(host: Host, plan: GuestPlan, capture_id: str) -> None:
    """Claim a guest for a capture. Raises GuestClaimedError with an advice that works.

    A capture that has ended keeps its claim for one thing only that a later one may pass over: a thaw that the agent has not
    answered. The later one asks the agent itself whether the guest is frozen.
    """
    try:
        host.claims.take(plan.guest_uuid, capture_id)
    except GuestClaimedError as error:
        try:
            state = run_state(host, error.holder)
        except (redis.RedisError, RunUnreadableError) as unknown:
            raise _unknown(host, plan, error.holder, unknown) from error
        goes_on = state is not None and not state.ended
        record = host.journal.of(error.holder).guest(plan.guest_uuid).read()
        if goes_on or record.trouble or not thaw_is_pending(record.changes):
            raise _claimed(host, plan, error.holder, state if goes_on else None) from error
        host.claims.take_over(plan.guest_uuid, error.holder, capture_id)


def _claimed(host: Host, plan: GuestPlan, holder: str, state: RunState | None) -> GuestClaimedError:
    if state is not None:
        message = f"Guest {plan.name} is in hand of capture {holder}, which is {state}."
        return GuestClaimedError(
            message, holder=holder, advice="Capture it again when that capture has ended, or with --wait-for-guests."
        )
    return GuestClaimedError(
        f"Guest {plan.name} is in hand of capture {holder}, which has ended; what it did to the guest is not undone yet.",
        holder=holder,
        advice=f"Run `freezeframe recover` on host {host.host_id}: it frees the guest, or says what is in its way.",
    )


def _unknown(host: Host, plan: GuestPlan, holder: str, unknown: Exception) -> GuestClaimedError:
    return GuestClaimedError(
        f"Guest {plan.name} is in hand of capture {holder}, and whether that has ended is not known: {unknown}",
        holder=holder,
        advice=f"Run `freezeframe recover` on host {host.host_id} when Redis answers; with `--force` it does not ask Redis.",
    )
