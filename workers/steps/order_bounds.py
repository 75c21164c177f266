"""The bounds of a host, whatever an order says: an order may be wrong or forged, or its orchestrator may have a defect.

| of an order                        | at most                                                                             |
|------------------------------------|-------------------------------------------------------------------------------------|
| hold                               | `longest_hold_s`, `longest_muster_s`; MOST_GUESTS, MOST_HOSTS                       |
| prepare                            | MOST_GUESTS; a chunk size that there is                                             |
| transfer                           | LARGEST_DISK_BYTES; a chunk size that there is; a limit that is no stall            |
| its epoch, but for a release       | `longest_epoch_step_s` ahead of this host's clock and of the highest that it has    |
|                                    | seen: a guest that has seen a higher one would refuse all later captures            |

A release has no bounds: it only takes back.
"""

from __future__ import annotations

import time
from typing import Final

from freezeframe.contract.order import HoldOrder, Order, PrepareOrder, ReleaseOrder, TransferOrder
from freezeframe.repository.layout import is_chunk_size
from freezeframe.settings import HostSettings
from workers.host import Host
from workers.steps.order_failure import OrderBoundsError

#: Of one host in one capture. More guests than libvirt's own threads can serve are a mistake.
MOST_GUESTS: Final = 4096
MOST_HOSTS: Final = 100_000
#: 64 PiB. An index of it would have 128 GiB in memory if it were not on disk.
LARGEST_DISK_BYTES: Final = 1 << 56
#: Bytes a second below which a transfer looks as if it had stalled; as for a request.
LEAST_LIMIT: Final = 1 << 20


def check_bounds(host: Host, order: Order) -> None:
    """Raise OrderBoundsError for an order that asks for more than this host does, OSError if its epochs cannot be read."""
    match order:
        case HoldOrder():
            _check_hold(order, host.settings)
        case PrepareOrder():
            _check(order, "guests", len(order.guests), MOST_GUESTS, least=0)
            _check_chunk(order, order.chunk_bytes)
        case TransferOrder():
            _check_transfer(order)
        case ReleaseOrder():
            return
        case _:
            pass
    _check_epoch(host, order)


def _check_hold(order: HoldOrder, settings: HostSettings) -> None:
    _check(order, "guests", len(order.guests), MOST_GUESTS, least=0)
    _check(order, "members", order.members, MOST_HOSTS)
    _check(order, "hold_timeout_s", order.hold_timeout_s, settings.longest_hold_s, "FREEZEFRAME_LONGEST_HOLD_S")
    _check(order, "muster_timeout_s", order.muster_timeout_s, settings.longest_muster_s, "FREEZEFRAME_LONGEST_MUSTER_S")


def _check_transfer(order: TransferOrder) -> None:
    _check(order, "size_bytes", order.size_bytes, LARGEST_DISK_BYTES, least=0)
    _check_chunk(order, order.chunk_bytes)
    if order.limit_bytes_s is not None and order.limit_bytes_s < LEAST_LIMIT:
        raise _refusal(order, "limit_bytes_s", order.limit_bytes_s, f"at least {LEAST_LIMIT}")


def _check_chunk(order: Order, chunk_bytes: int) -> None:
    if not is_chunk_size(chunk_bytes):
        raise _refusal(order, "chunk_bytes", chunk_bytes, "a power of two from 4 KiB to 16 MiB")


def _check_epoch(host: Host, order: Order) -> None:
    ahead_us = round(host.settings.longest_epoch_step_s * 1e6)
    if order.epoch <= round(time.time() * 1e6) + ahead_us:
        return
    most = host.claims.highest_epoch() + ahead_us
    if order.epoch > most:
        raise _refusal(order, "epoch", order.epoch, f"{most}", "FREEZEFRAME_LONGEST_EPOCH_STEP_S")


def _check(
    order: Order, name: str, value: float, most: float, setting: str = "", *, least: float | None = None
) -> None:
    if value > most or (value <= 0 if least is None else value < least):
        raise _refusal(order, name, value, f"more than 0 and {most:g} at most", setting)


def _refusal(order: Order, name: str, value: float, bounds: str, setting: str = "") -> OrderBoundsError:
    advice = (
        f"If it is meant so, raise {setting} on host {order.host_id} and start its workers again." if setting else None
    )
    return OrderBoundsError(
        f"The order for host {order.host_id} has {name} {value}, and the host takes {bounds}. Nothing was done.",
        advice=advice,
    )
