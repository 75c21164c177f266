"""Orders that are sent again: a worker was killed with an order that it had taken from its queue and not yet begun.

    queue ──▶ taken by worker 1 ──╳ killed            the order is nowhere any more: not in the queue, not in the host's journal
    inventory: worker 1 … worker 2                    another worker than the one that the order was sent to ⇒ sent again

Tasks are acknowledged before they are done, and Celery fetches some ahead, so the queue does not give such an order back.
An order that was not lost is then delivered twice, which changes nothing: the host answers the second from its journal,
and never holds a guest a second time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import redis

from freezeframe import presence
from freezeframe.contract import names
from freezeframe.contract.order import Order
from freezeframe.contract.words import RunState, Step
from orchestrator.run import Run


def instances(client: redis.Redis, step: Step, host_ids: Collection[str]) -> dict[str, str]:
    """Return which worker takes orders of `step` on each host now, as far as the hosts have told. Raises redis errors."""
    found = {
        host_id: entry.data_instance if step is Step.TRANSFER else entry.control_instance
        for host_id, entry in presence.entries_of(client, host_ids).items()
    }
    return {host_id: instance for host_id, instance in found.items() if instance}


def changed(run: Run, now: Mapping[str, str]) -> dict[str, str]:
    """Return the hosts whose worker is another than the one that the run's orders were sent to, and that worker. Pure."""
    return {host_id: one for host_id, one in now.items() if one != run.sent_to.get(host_id)}


def hosts_of(run: Run) -> list[str]:
    """Return the hosts that may have orders of the state that the run is in. Pure."""
    match run.state:
        case RunState.PREPARING:
            return [host.host_id for host in run.to_prepare]
        case RunState.HOLDING | RunState.TRANSFERRING:
            return list(run.members)
        case RunState.RELEASING:
            return [host.host_id for host in run.plan.hosts] if run.plan else []
        case _:
            return []


def lost_orders(
    step: Step,
    orders: Sequence[Order],
    answered: Collection[str],
    sent_to: Mapping[str, str],
    now: Mapping[str, str],
) -> list[Order]:
    """Return the orders without an answer whose host has another worker now than the one they were sent to. Pure."""
    return [
        order
        for order in orders
        if names.result_field(step, order.host_id, order.part) not in answered
        and order.host_id in now
        and now[order.host_id] != sent_to.get(order.host_id)
    ]
