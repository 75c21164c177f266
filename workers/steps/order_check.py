"""An order is for this host, in time, and within what the host does at all; or it is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import redis

from freezeframe import presence
from freezeframe.contract.order import Order
from workers.host import Host
from workers.steps.order_bounds import check_bounds
from workers.steps.order_failure import ForeignOrderError, LateOrderError


def check_order(host: Host, order: Order) -> None:
    """Raise ForeignOrderError for the order of another host, LateOrderError for one whose time is over, OrderBoundsError."""
    if order.host_id != host.host_id:
        raise ForeignOrderError(f"The order is for host {order.host_id}, and this is {host.host_id}.")
    if datetime.now(UTC) > order.not_after:
        raise LateOrderError(f"The order was valid until {order.not_after:%H:%M:%S} UTC only.{_clock_words(host)}")
    check_bounds(host, order)


def _clock_words(host: Host) -> str:
    """Return what to say of this host's clock, if that may be why an order is late."""
    try:
        ahead_s = presence.clock_ahead_s(host.redis)
    except redis.RedisError:
        return ""
    return f" This host's clock is {ahead_s:.0f} s ahead of Redis's." if ahead_s > 1 else ""
