"""A hold that a host cannot do as it was ordered: it holds no guest, and takes no other host's part (invariant 11).

| the order                                                        | under `degrade`           | under `all`               |
|------------------------------------------------------------------|---------------------------|---------------------------|
| cannot be read as a whole                                        | `meet` without a guest    | muster and barrier broken |
| cannot be begun: the journal cannot be written or read           | `meet` without a guest    | the same                  |
| was begun by a worker that died                                  | `arrive`, and do not wait | the same                  |
| lacks the policy, a guest's UUID, or what a meeting needs        | muster and barrier broken | the same                  |
| lacks the epoch                                                  | the others wait at the muster: nothing says which meeting |

Meeting the others without a guest is safe however the rest of the order is meant: its arrival says that all guests which this
host holds are held, and it holds none. So it is only if no other delivery of the order is at work, which the step's lock says:
that one may be about to hold guests, and has not reported them yet.

A worker that is back may come at any moment of the others' hold. If they are at the muster, its arrival lets them go on; if
they hold their guests, it lets them end; if they have given up, it changes nothing. What the dead worker held is not in the
proof, so nothing is claimed for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import redis
import structlog
from pydantic import TypeAdapter, ValidationError

from freezeframe.barrier import gate_client
from freezeframe.contract.fault import Fault
from freezeframe.contract.message import GuestUuid
from freezeframe.contract.order import HoldOrder
from freezeframe.contract.proof import HostProof
from freezeframe.contract.result import HeldGuestFault, HoldResult
from freezeframe.errors import FreezeframeError
from workers.boot import boot_id
from workers.fitness import later_uses
from workers.host import Host
from workers.steps.hold import gates, hold
from workers.steps.premises import look_again
from workers.steps.prepared import read_prepared, told_uses

log = structlog.get_logger("hold")

_UUID = TypeAdapter[str](GuestUuid)


def meet(
    order: HoldOrder, payload: Mapping[str, object], fault: Fault
) -> tuple[HoldOrder, Callable[[Host, HoldOrder], HoldResult]] | None:
    """Return an order to meet the other hosts without a guest, and what does it; None if too little can be read.

    `order` has the fields of `payload` that can be read. The result has `fault` for each guest of the order.
    """
    found = _readable(order, payload)
    if found is None:
        return None
    rest, guests = found

    def do(host: Host, order: HoldOrder) -> HoldResult:
        faults = _faults(host, order, guests, fault)
        try:
            return hold(host, order).model_copy(update={"guest_faults": faults})
        except FreezeframeError as error:  # the others did not come; why this host holds nobody must not be lost for it
            ids = {"capture_id": order.capture_id, "host_id": order.host_id}
            return HoldResult(**ids, fault=Fault.of(error, host=host.host_id), guest_faults=faults)

    return rest, do


def arrive(host: Host, order: HoldOrder, payload: Mapping[str, object], fault: Fault) -> HoldResult | None:
    """Arrive at muster and barrier for a worker that has died, and wait for nobody; None if that is not possible.

    It is not when nobody can wait any more: a host that begins at the order's last moment waits at both meetings. Only if the
    barrier has released the result has a proof, and what this host's guests write to after the hold: a host that does not wait
    learns of no later release.
    """
    found = _readable(order, payload)
    if found is None or order.host_id != host.host_id or datetime.now(UTC) > _last_wait(found[0]):
        return None
    rest, guests = found
    try:
        with gate_client(host.bus) as client:
            muster, barrier = gates(client, rest)
            state = muster.arrive()
            if state == "taken":  # by the worker that died: that says nothing of the others
                state = muster.look().state
            if state == "broken":
                return None
            report_ns = time.monotonic_ns()
            state = barrier.arrive()
            reply = barrier.look()
    except redis.RedisError as error:
        log.warning("the others could not be met", why=str(error))
        return None
    if "broken" in {state, reply.state}:  # `state` is "taken" if the worker that died had arrived
        return None
    result = HoldResult(
        capture_id=order.capture_id, host_id=order.host_id, guest_faults=_faults(host, order, guests, fault)
    )
    if reply.state != "released":
        return result.model_copy(update={"writers_unseen": "its worker ended in the middle of the hold"})
    proof = HostProof(
        host_id=host.host_id, boot_id=boot_id(), report_ns=report_ns, woken_ns=time.monotonic_ns(), guests=()
    )
    _, writers = look_again(host, (), time.monotonic(), rest.hold_timeout_s, released=True)
    seen = {
        "proof": proof,
        "arrived_us": reply.own_us,
        "release_us": reply.at_us,
        "release_arrivals": reply.arrived,
        "uses": later_uses(writers.uses, told_uses(host.journal.of(order.capture_id))),
        "writers_unseen": writers.unseen,
    }
    return result.model_copy(update=seen)


def _last_wait(order: HoldOrder) -> datetime:
    """Return when the last host that has begun in time no longer waits at the muster, nor at the barrier."""
    return order.not_after + timedelta(seconds=order.muster_timeout_s + order.hold_timeout_s)


def _readable(order: HoldOrder, payload: Mapping[str, object]) -> tuple[HoldOrder, list[str]] | None:
    """Return the order without its guests, and their UUIDs; None if a meeting needs more, or policy `all` breaks it up."""
    guests = _guests(payload.get("guests"))
    if guests is None:
        return None
    try:
        rest = HoldOrder.model_validate({**vars(order), "guests": ()})
    except ValidationError:
        return None
    return None if rest.all_or_nothing else (rest, guests)


def _guests(found: object) -> list[str] | None:
    """Return the UUIDs of an order's guests, whatever else it says of them; None if one cannot be read."""
    if not isinstance(found, list | tuple):
        return None
    uuids = []
    for guest in found:
        try:
            uuids.append(_UUID.validate_python(guest["guest_uuid"]))
        except (TypeError, KeyError, ValidationError):
            return None
    return uuids


def _faults(host: Host, order: HoldOrder, guests: list[str], fault: Fault) -> tuple[HeldGuestFault, ...]:
    names = {uuid: uuid for uuid in guests}
    with suppress(OSError):
        prepared = read_prepared(host.journal.of(order.capture_id))
        names = {uuid: prepared.name_of(uuid) for uuid in guests}
    return tuple(
        HeldGuestFault(guest_uuid=uuid, fault=fault.model_copy(update={"guest": names[uuid]})) for uuid in guests
    )
