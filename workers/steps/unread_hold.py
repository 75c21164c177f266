"""An order to hold that this host cannot read as a whole. It holds no guest, and no other host waits for it.

| what can be read | then |
|---|---|
| policy `degrade`, each guest's UUID, and all that a meeting needs | the host meets the others without a guest |
| capture and epoch | it breaks up muster and barrier at once |
| capture, but no epoch | it answers; the others wait for it at the muster, since nothing says which meeting that is |

Meeting the others without a guest is safe however the rest of the order is meant: its arrival says that all guests which this
host holds are held, and it holds none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from pydantic import TypeAdapter, ValidationError

from freezeframe.contract.fault import Fault
from freezeframe.contract.message import GuestUuid
from freezeframe.contract.order import HoldOrder
from freezeframe.contract.result import HeldGuestFault, HoldResult
from workers.host import Host
from workers.steps.hold import hold
from workers.steps.prepared import read_prepared

_UUID = TypeAdapter[str](GuestUuid)


def without_guests(
    order: HoldOrder, payload: Mapping[str, object], fault: Fault
) -> tuple[HoldOrder, Callable[[Host, HoldOrder], HoldResult]] | None:
    """Return an order to meet the other hosts without a guest, and what does it; None if too little can be read.

    `order` has the fields of `payload` that can be read. The result has `fault` for each guest of the order.
    """
    guests = _guests(payload.get("guests"))
    if guests is None:
        return None
    try:
        rest = HoldOrder.model_validate({**vars(order), "guests": ()})
    except ValidationError:
        return None
    if rest.all_or_nothing or rest.host_id not in rest.members:
        return None

    def meet(host: Host, order: HoldOrder) -> HoldResult:
        result = hold(host, order)
        return result.model_copy(update={"guest_faults": _faults(host, order, guests, fault)})

    return rest, meet


def _guests(found: object) -> list[str] | None:
    """Return the UUIDs of an order's guests, whatever else it says of them; None if one cannot be read."""
    if not isinstance(found, list):
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
