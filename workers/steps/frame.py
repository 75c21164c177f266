"""What is around every step: read the order, answer a repeated one from the journal, store and publish the result.

    order ─▶ valid? ─▶ answered before? ─▶ begun ─▶ the step ─▶ result in the journal ─▶ result in the run's record ─▶ ack
                │              └─────────────────────────────────────────────▲
                └─▶ a fault, as a result, if it says whose answer is waited for (`unread_order`)

Nothing raises out of here. Tasks are acknowledged before they are done, so a step whose process dies is never delivered again;
the journal has that it was begun, and `interruption` answers it when a worker is back. A hold is never done a second time;
a release is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from workers.steps.unread_order import salvage

OrderT = TypeVar("OrderT", bound=Order)
ResultT = TypeVar("ResultT", bound=Result)

log = structlog.get_logger("step")


#: What can still be done of an order that can be read in part, and what does it; None if nothing can.
Rest = tuple[OrderT, Callable[[Host, OrderT], ResultT]] | None


@dataclass(frozen=True)
class StepCode(Generic[OrderT, ResultT]):
    """The parts of a step.

    `failed` builds the result of one that failed as a whole. `give_up` tells those who wait for it. Both take orders of which
    only some fields can be read. `rest` takes such an order, the message, and the fault to tell.
    """

    step: Step
    order_type: type[OrderT]
    do: Callable[[Host, OrderT], ResultT]
    failed: Callable[[OrderT, Fault], ResultT]
    give_up: Callable[[Host, OrderT], None] | None = None
    rest: Callable[[OrderT, Mapping[str, object], Fault], Rest[OrderT, ResultT]] | None = None


def run_step(host: Host, code: StepCode[OrderT, ResultT], payload: dict[str, Any]) -> dict[str, Any]:
    """Run one step and return its acknowledgement."""
    try:
        order = code.order_type.model_validate(payload)
    except ValidationError as error:
        return _run_unread(host, code, payload, error)
    return _run(host, code, order, lambda journal: _answer(host, code, journal, order))


def _run_unread(
    host: Host, code: StepCode[OrderT, ResultT], payload: dict[str, Any], why: ValidationError
) -> dict[str, Any]:
    """Answer an order that this version does not understand, if it says whose answer is waited for."""
    log.error("an order is not understood", step=code.step, faults=why.error_count())  # it may hold secrets
    order = salvage(host, code.order_type, payload)
    error = UnreadableOrderError(f"Host {host.host_id} does not understand the order to {code.step}.")
    fault = Fault.of(error, host=host.host_id)
    try:
        result = None if order is None else code.failed(order, fault)
    except (AttributeError, ValidationError):
        result = None
    if order is None or result is None:
        return {"v": 1, "ok": False, "unreadable": str(code.step)}
    return _run(host, code, order, lambda journal: _answer_unread(host, code, journal, order, payload, result))


def _run(
    host: Host, code: StepCode[OrderT, ResultT], order: OrderT, answer: Callable[[CaptureJournal], str]
) -> dict[str, Any]:
    """Publish the stored result of an order, or else its answer. Fields of `order` that cannot be read are missing."""
    with structlog.contextvars.bound_contextvars(capture=order.capture_id, step=str(code.step), part=order.part):
        journal = host.journal.of(order.capture_id)
        try:
            # a transfer that is sent again while it is at work must not keep a second process waiting for it
            with journal.lock(code.step, order.part, wait=code.step is not Step.TRANSFER):
                text = _stored(host, code, journal, order) or answer(journal)
        except BlockingIOError:
            return _acknowledgement(host, code.step, order, ok=True)
        ok = json.loads(text)["fault"] is None
        if not ok and code.give_up is not None:
            code.give_up(host, order)
        publish(host, code.step, order, text)
    return _acknowledgement(host, code.step, order, ok=ok)


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
        return _store(code, journal, order, code.failed(order, interrupted(host)))
    return _store(code, journal, order, _attempt(host, code, journal, order))


def _answer_unread(
    host: Host,
    code: StepCode[OrderT, ResultT],
    journal: CaptureJournal,
    order: OrderT,
    payload: dict[str, Any],
    failed: ResultT,
) -> str:
    """Do what can be done of an order that can be read in part, once; else it has `failed`."""
    if code.step is Step.RELEASE:
        return failed.model_dump_json()  # not stored: it is done if it comes again and is understood
    rest = code.rest(order, payload, failed.fault) if code.rest and failed.fault else None
    if rest is None or journal.begun(code.step, order.part):
        return _store(code, journal, order, failed)
    return _store(code, journal, order, _attempt(host, replace(code, do=rest[1]), journal, rest[0]))


def _store(code: StepCode[OrderT, ResultT], journal: CaptureJournal, order: OrderT, result: ResultT) -> str:
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
