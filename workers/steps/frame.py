"""What is around every step: read the order, answer a repeated one from the journal, store and publish the result.

    order ─▶ valid? ─▶ answered before? ─▶ begun ─▶ the step ─▶ result in the journal ─▶ result in the run's record ─▶ ack
                │              └─────────────────────────────────────────────▲
                └─▶ a fault, as a result

Nothing raises out of here. Tasks are acknowledged before they are done, so a step whose process dies is never delivered again;
the journal has that it was begun, and `interruption` answers it when a worker is back. A hold is never done a second time;
a release is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import redis
import structlog
from pydantic import ValidationError

from freezeframe import presence
from freezeframe.contract.fault import Fault
from freezeframe.contract.order import Order
from freezeframe.contract.result import Acknowledgement, Result
from freezeframe.contract.words import Step
from freezeframe.errors import FreezeframeError
from workers.host import Host
from workers.journal import CaptureJournal
from workers.steps.order_failure import (
    ForeignOrderError,
    InterruptedStepError,
    LateOrderError,
    UnexpectedError,
    UnreadableOrderError,
)
from workers.steps.publication import publish

OrderT = TypeVar("OrderT", bound=Order)
ResultT = TypeVar("ResultT", bound=Result)

log = structlog.get_logger("step")


@dataclass(frozen=True)
class StepCode(Generic[OrderT, ResultT]):
    """The parts of a step. `failed` builds the result of one that failed as a whole; `give_up` tells who waits for it."""

    step: Step
    order_type: type[OrderT]
    do: Callable[[Host, OrderT], ResultT]
    failed: Callable[[OrderT, Fault], ResultT]
    give_up: Callable[[Host, OrderT], None] | None = None


def run_step(host: Host, code: StepCode[OrderT, ResultT], payload: dict[str, Any]) -> dict[str, Any]:
    """Run one step and return its acknowledgement."""
    try:
        order = code.order_type.model_validate(payload)
    except ValidationError as error:
        return refuse_unreadable(host, code, payload, error)
    with structlog.contextvars.bound_contextvars(capture=order.capture_id, step=str(code.step), part=order.part):
        journal = host.journal.of(order.capture_id)
        try:
            # a transfer that is sent again while it is at work must not keep a second process waiting for it
            with journal.lock(code.step, order.part, wait=code.step is not Step.TRANSFER):
                text = _stored(host, code, journal, order) or _answer(host, code, journal, order)
        except BlockingIOError:
            return _acknowledgement(host, code.step, order, ok=True)
        ok = json.loads(text)["fault"] is None
        if not ok and code.give_up is not None:
            code.give_up(host, order)
        publish(host, code.step, order, text)
    return _acknowledgement(host, code.step, order, ok=ok)


def refuse_unreadable(
    host: Host, code: StepCode[OrderT, ResultT], payload: dict[str, Any], error: ValidationError
) -> dict[str, Any]:
    """Answer an order that this version does not understand, as far as it says whose answer is waited for."""
    log.error("an order is not understood", step=code.step, faults=error.error_count())  # it may hold secrets
    found = _salvage(host, code, payload)
    if found is not None:
        order, result = found
        publish(host, code.step, order, result.model_dump_json())
    return {"v": 1, "ok": False, "unreadable": str(code.step)}


def _salvage(host: Host, code: StepCode[Any, ResultT], payload: dict[str, Any]) -> tuple[Order, ResultT] | None:
    """Return an order that is not understood, with a fault for it, if its capture, host and part can be read."""
    order = code.order_type.model_construct(**payload)
    error = UnreadableOrderError(f"Host {host.host_id} does not understand the order to {code.step}.")
    try:
        if order.host_id != host.host_id:
            return None
        return order, code.failed(order, Fault.of(error, host=host.host_id))  # whose own fields are checked
    except (AttributeError, ValidationError):
        return None


def _acknowledgement(host: Host, step: Step, order: Order, *, ok: bool) -> dict[str, Any]:
    done = Acknowledgement(capture_id=order.capture_id, step=step, host_id=host.host_id, part=order.part, ok=ok)
    return done.model_dump(mode="json")


def _stored(host: Host, code: StepCode[OrderT, ResultT], journal: CaptureJournal, order: OrderT) -> str | None:
    """Return the result that is stored for an order. One that is damaged is an answer too: the step was done."""
    text = journal.result(code.step, order.part)
    if text is None:
        return None
    try:
        json.loads(text)["fault"]
    except (ValueError, KeyError, TypeError):
        log.exception("a stored result is damaged")
        error = UnreadableOrderError(f"The result of the step that host {host.host_id} has stored is damaged.")
        return code.failed(order, Fault.of(error, host=host.host_id)).model_dump_json()
    return text


def _answer(host: Host, code: StepCode[OrderT, ResultT], journal: CaptureJournal, order: OrderT) -> str:
    """Do the step and store its result; a hold that was begun before has had its chance."""
    if code.step is Step.HOLD and journal.begun(code.step, order.part):
        result = code.failed(order, interrupted(host))
    else:
        result = _attempt(host, code, journal, order)
    text = result.model_dump_json()
    try:
        journal.store_result(code.step, order.part, text)
    except OSError as error:  # a full disk: it is told, and done again or failed if it is asked for again
        log.warning("result not stored", why=str(error))
    return text


def interrupted(host: Host) -> Fault:
    return Fault.of(InterruptedStepError(f"The worker of host {host.host_id} ended in the middle."), host=host.host_id)


def _attempt(host: Host, code: StepCode[OrderT, ResultT], journal: CaptureJournal, order: OrderT) -> ResultT:
    try:
        journal.record_begun(code.step, order.part, order.model_dump_json())
        _check_order(host, code.step, order)
        return code.do(host, order)
    except FreezeframeError as error:
        log.warning("step failed", code=error.code, why=str(error))
        return code.failed(order, Fault.of(error, host=host.host_id))
    except Exception as error:
        log.exception("step failed unexpectedly")
        return code.failed(order, Fault.of(UnexpectedError(f"{type(error).__name__}: {error}"), host=host.host_id))


def _check_order(host: Host, step: Step, order: Order) -> None:
    if order.host_id != host.host_id:
        raise ForeignOrderError(f"The order is for host {order.host_id}, and this is {host.host_id}.")
    if datetime.now(UTC) > order.not_after:
        raise LateOrderError(f"The order was valid until {order.not_after:%H:%M:%S} UTC only.{_clock_words(host)}")
    if step is not Step.RELEASE and host.journal.of(order.capture_id).ended:
        raise LateOrderError("This host has released the capture already, and nobody would release it again.")


def _clock_words(host: Host) -> str:
    """Return what to say of this host's clock, if that may be why an order is late."""
    try:
        ahead_s = presence.clock_ahead_s(host.redis)
    except redis.RedisError:
        return ""
    return f" This host's clock is {ahead_s:.0f} s ahead of Redis's." if ahead_s > 1 else ""
