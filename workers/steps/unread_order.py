"""Orders that this version cannot read as a whole: of another version, or damaged.

What can be read says who waits for an answer, and for what. A field that cannot be read is missing, never its default: the
answer must not go to another part of the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from freezeframe.contract.order import Order
from workers.host import Host

OrderT = TypeVar("OrderT", bound=Order)


def salvage(host: Host, order_type: type[OrderT], payload: object) -> OrderT | None:
    """Return an order with the fields that can be read; None if they do not say its capture and part, or not this host."""
    if not isinstance(payload, dict):
        return None
    readable = _readable(order_type, payload)
    order = cast("OrderT", order_type.model_construct(**readable))
    for name in payload.keys() - readable.keys():
        order.__dict__.pop(name, None)  # model_construct has put the default there
    try:
        _ = order.capture_id, order.part
    except AttributeError:
        return None
    return order if readable.get("host_id") == host.host_id else None


def _readable(order_type: type[Order], payload: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in order_type.model_fields.items():
        if name in payload:
            with suppress(ValidationError):
                found[name] = TypeAdapter[object](field.rebuild_annotation()).validate_python(payload[name])
    return found
