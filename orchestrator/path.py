"""The path of a capture: which orders each step sends, and how they go out, as one flat chord.

    ║ prepare ║ ─▶ ║ hold ║ ─▶ ║ transfer ║ ─▶ seal ─▶ ║ release ║
      per host      per host     per disk                per host

A chord's header has one task per order, on the queue of the host it is for; its body is the same for all, and says no more
than "look at run X", because every header message carries the body with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from celery import Celery, chord

from freezeframe.contract import names
from freezeframe.contract.order import GuestToHold, HoldOrder, Order, PrepareOrder, ReleaseOrder, TransferOrder
from freezeframe.contract.plan import HostPlan, Plan
from freezeframe.contract.result import PrepareResult
from freezeframe.contract.words import Policy, RunState, Step
from orchestrator.run import Run
from orchestrator.transfers import expected_transfers, kept_guests

#: The step that a run in this state waits for.
STEP_OF = {
    RunState.PREPARING: Step.PREPARE,
    RunState.HOLDING: Step.HOLD,
    RunState.TRANSFERRING: Step.TRANSFER,
    RunState.RELEASING: Step.RELEASE,
}


def orders_of(run: Run, prepared: Sequence[PrepareResult], release_until: datetime) -> list[Order]:
    """Return the orders of the state that the run is in. Pure."""
    plan = run.plan
    if plan is None:
        return []
    match run.state:
        case RunState.PREPARING:
            return [
                PrepareOrder(
                    capture_id=plan.capture_id,
                    epoch=plan.epoch,
                    host_id=host.host_id,
                    not_after=run.due_at,
                    method=plan.method,
                    repository_id=plan.repository_id,
                    chunk_bytes=plan.chunk_bytes,
                    guests=host.guests,
                    round=run.round,
                )
                for host in run.to_prepare
            ]
        case RunState.HOLDING:
            return _hold_orders(run, plan, prepared)
        case RunState.TRANSFERRING:
            return _transfer_orders(run, plan, prepared)
        case RunState.RELEASING:
            return _release_orders(run, plan, prepared, release_until)
        case _:
            return []


def _release_orders(run: Run, plan: Plan, prepared: Sequence[PrepareResult], release_until: datetime) -> list[Order]:
    sealed = _sealed_guests(run, plan, prepared)
    return [
        ReleaseOrder(
            capture_id=plan.capture_id,
            epoch=plan.epoch,
            host_id=host.host_id,
            not_after=release_until,
            sealed_guests=None if run.sealed is None else tuple(sealed[host.host_id]),
        )
        for host in plan.hosts
    ]


def _sealed_guests(run: Run, plan: Plan, prepared: Sequence[PrepareResult]) -> Mapping[str, Sequence[str]]:
    """Return the sealed guests that each host was ever asked to prepare: it has a journal of those and of no others."""
    asked = {guest.guest_uuid: {host.host_id} for host in plan.hosts for guest in host.guests}
    for result in prepared:
        for guest in result.guests:
            asked.setdefault(guest.guest_uuid, set()).add(result.host_id)
    found = defaultdict[str, list[str]](list)
    for guest_uuid in run.kept if run.sealed else ():
        for host_id in asked.get(guest_uuid, ()):
            found[host_id].append(guest_uuid)
    return found


def _hold_orders(run: Run, plan: Plan, prepared: Sequence[PrepareResult]) -> list[Order]:
    hosts, kept, slowest_ms = (
        {host.host_id: host for host in plan.hosts},
        frozenset(run.kept),
        _slowest_ms(run, prepared),
    )
    return [_hold_order(run, plan, hosts[host_id], kept, slowest_ms) for host_id in run.members]


def _hold_order(run: Run, plan: Plan, host: HostPlan, kept: Collection[str], slowest_ms: float | None) -> HoldOrder:
    return HoldOrder(
        capture_id=plan.capture_id,
        epoch=plan.epoch,
        host_id=host.host_id,
        # a host that begins later than this would find nobody at the muster
        not_after=run.entered_at + timedelta(seconds=run.request.muster_timeout_s),
        repository_id=plan.repository_id,
        members=len(run.members),
        guests=tuple(
            GuestToHold(guest_uuid=guest.guest_uuid, hold=guest.hold)
            for guest in host.guests
            if guest.guest_uuid in kept
        ),
        muster_timeout_s=run.request.muster_timeout_s,
        hold_timeout_s=run.request.hold_timeout_s,
        slowest_hold_ms=slowest_ms,
        all_or_nothing=run.request.policy is Policy.ALL,
    )


def _slowest_ms(run: Run, prepared: Sequence[PrepareResult]) -> float | None:
    """How long the slowest guest of the capture will take to be held, as far as any is known."""
    times = (guest.expected_hold_ms for _, guest in kept_guests(run, prepared))
    return max((one_ms for one_ms in times if one_ms is not None), default=None)


def _transfer_orders(run: Run, plan: Plan, prepared: Sequence[PrepareResult]) -> list[Order]:
    return [
        TransferOrder(
            capture_id=plan.capture_id,
            epoch=plan.epoch,
            host_id=host_id,
            not_after=run.due_at,
            guest_uuid=guest.guest_uuid,
            guest_name=guest.name,
            target=disk.target,
            size_bytes=disk.size_bytes,
            chunk_bytes=plan.chunk_bytes,
            kind=disk.kind,
            checkpoint=disk.checkpoint,
            parent_index=disk.parent_index,
            parent_capture_id=disk.parent_capture_id,
            parent_checkpoint=disk.parent_checkpoint,
            limit_bytes_s=run.request.limit_bytes_s,
        )
        for host_id, guest, disk in expected_transfers(run, prepared)
    ]


def send(app: Celery, step: Step, orders: Sequence[Order]) -> None:
    """Send the orders of a step as one flat chord, whose body looks at the run.

    Costs two exchanges with Redis an order (LPUSH, and PUBLISH for Flower) and two a chord (DEL and SET of its size), and
    leaves nothing in this process.
    """
    header = [
        app.signature(
            names.STEP_TASKS[step],
            args=[order.model_dump(mode="json")],
            queue=names.step_queue(step, order.host_id),
            # no `expires`: Celery drops such a task by the host's clock without a word; the host's own code refuses late orders
            # what Flower shows instead of a page of JSON
            argsrepr=f"({order.capture_id}, {order.host_id}{', ' if order.part else ''}{order.part})",
        )
        for order in orders
    ]
    body = app.signature(names.LOOK_TASK, args=[orders[0].capture_id], queue=names.ORCHESTRATOR_QUEUE, immutable=True)
    chord(header, app=app)(body)
