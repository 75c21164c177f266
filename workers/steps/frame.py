"""What is around every step: read the order, answer a repeated one from the journal, store and publish the result.

    order ─▶ valid? ─▶ answered before? ─▶ begun ─▶ the step ─▶ result in the journal ─▶ result in the run's record ─▶ ack
                │              └─────────────────────────────────────────────▲
                └─▶ a fault, as a result

Nothing raises out of here. Tasks are acknowledged before they are done, so a step whose process dies is never delivered again;
the journal knows that it was begun, and `settle_interrupted` answers it when the worker is back: the run ends at once,
instead of waiting for its deadline. A hold is never done a second time; a release is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import redis
import structlog
from pydantic import ValidationError

from freezeframe import presence
from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.order import HoldOrder, Order
from freezeframe.contract.result import Acknowledgement, Result
from freezeframe.contract.words import Step
from freezeframe.errors import EXIT_REFUSED, EXIT_UNREACHABLE, FreezeframeError
from workers import durable
from workers.host import Host
from workers.journal import CaptureJournal
from workers.refusal import GuestAtWorkError

OrderT = TypeVar("OrderT", bound=Order)
ResultT = TypeVar("ResultT", bound=Result)

log = structlog.get_logger("step")

#: Tries to publish a result, and seconds between them; after that recovery tells it when Redis is back.
PUBLISH_TRIES = 5
PUBLISH_PAUSE_S = 0.5
#: Seconds that results stay in Redis, like the run's record.
RESULTS_KEEP_S = 7 * 86400


class LateOrderError(FreezeframeError):
    """The order came after its time."""

    code = "late-order"
    exit_code = EXIT_REFUSED
    advice = "Its capture has gone on without it; look whether the host's control worker keeps up with its queue."


class ForeignOrderError(FreezeframeError):
    """The order is for another host."""

    code = "foreign-order"
    exit_code = EXIT_REFUSED
    advice = "Two hosts may share a host id; give each its own FREEZEFRAME_HOST_ID."


class UnexpectedError(FreezeframeError):
    """A defect in Freezeframe."""

    code = "unexpected"
    advice = "This is a defect; the host's log has the traceback."


class UnreadableOrderError(FreezeframeError):
    """The order, or the stored result of it, is not understood."""

    code = "unreadable-order"
    advice = "Another version of freezeframe wrote it: install the same version on this host and on the orchestrator's."


class InterruptedStepError(FreezeframeError):
    """The process that was at work on the step has died."""

    code = "interrupted"
    exit_code = EXIT_UNREACHABLE
    advice = "Look into the host's log for why its worker ended; then capture again."


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
        return _refuse_unreadable(host, code, payload, error)
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
        _publish(host, code.step, order, text)
    return _acknowledgement(host, code.step, order, ok=ok)


def _refuse_unreadable(
    host: Host, code: StepCode[OrderT, ResultT], payload: dict[str, Any], error: ValidationError
) -> dict[str, Any]:
    """Answer an order that this version does not understand, as far as it says whose answer is waited for."""
    log.error("an order is not understood", step=code.step, faults=error.error_count())  # it may hold secrets
    found = _salvage(host, code, payload)
    if found is not None:
        order, result = found
        _publish(host, code.step, order, result.model_dump_json())
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
        result = code.failed(order, _interrupted(host))
    else:
        result = _attempt(host, code, journal, order)
    text = result.model_dump_json()
    try:
        journal.store_result(code.step, order.part, text)
    except OSError as error:  # a full disk: it is told, and done again or failed if it is asked for again
        log.warning("result not stored", why=str(error))
    return text


def settle_interrupted(host: Host, codes: Iterable[StepCode[Any, Any]]) -> None:
    """Answer every order that was begun by a process that died: a release is done again, the others have failed.

    Each order is its own: one that cannot be read, or fails in a new way, keeps no other from being answered.
    """
    codes = list(codes)
    for journal in host.journal.unended():
        for code in codes:
            try:
                unanswered = journal.unanswered(code.step)
            except OSError as error:
                log.warning("orders cannot be listed", capture=journal.capture_id, why=str(error))
                continue
            for path in unanswered:
                try:
                    _settle(host, code, journal, path)
                except Exception:  # a defect, or a document that is odd in a new way
                    log.exception("an interrupted step was not answered", capture=journal.capture_id, order=str(path))


def _settle(host: Host, code: StepCode[Any, Any], journal: CaptureJournal, path: Path) -> None:
    text = durable.read(path) or ""
    try:
        order = code.order_type.model_validate_json(text)
    except ValidationError as error:
        # recovery undoes what the step did, which is in the journal whatever the order said
        _refuse_unreadable(host, code, _fields(text), error)
        return
    try:
        with journal.lock(code.step, order.part, wait=False):
            if code.step is not Step.RELEASE and journal.result(code.step, order.part) is None:
                result = code.failed(order, _interrupted(host))
                journal.store_result(code.step, order.part, result.model_dump_json())
                log.warning("interrupted step", capture=order.capture_id, step=str(code.step))
    except BlockingIOError:
        return  # another process is at work on it
    run_step(host, code, order.model_dump(mode="json"))


def _fields(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def publish_again(host: Host, journal: CaptureJournal) -> None:
    """Tell all results of a capture that goes on once more: what was answered while Redis was away was told to nobody."""
    key = names.results_key(journal.capture_id)
    try:
        for step, part, text in journal.results():
            if host.redis.hsetnx(key, names.result_field(step, host.host_id, part), text):
                log.warning("result published late", capture=journal.capture_id, step=step, part=part)
                host.redis.expire(key, RESULTS_KEEP_S)
    except redis.RedisError as error:
        log.warning("results not published yet", capture=journal.capture_id, why=str(error))


def _interrupted(host: Host) -> Fault:
    return Fault.of(InterruptedStepError(f"The worker of host {host.host_id} ended in the middle."), host=host.host_id)


def _attempt(host: Host, code: StepCode[OrderT, ResultT], journal: CaptureJournal, order: OrderT) -> ResultT:
    try:
        journal.record_begun(code.step, order.part, order.model_dump_json())
        _check_order(host, code.step, order)
        with _guests_locked(journal, order):
            return code.do(host, order)
    except FreezeframeError as error:
        log.warning("step failed", code=error.code, why=str(error))
        return code.failed(order, Fault.of(error, host=host.host_id))
    except Exception as error:
        log.exception("step failed unexpectedly")
        return code.failed(order, Fault.of(UnexpectedError(f"{type(error).__name__}: {error}"), host=host.host_id))


@contextmanager
def _guests_locked(journal: CaptureJournal, order: Order) -> Iterator[None]:
    """Keep a release and recovery from the guests of a hold while it works on them. A prepare locks its guests itself."""
    guests = [guest.guest_uuid for guest in order.guests] if isinstance(order, HoldOrder) else []
    with ExitStack() as locks:
        for guest in guests:
            try:
                locks.enter_context(journal.guest(guest).lock())
            except BlockingIOError as error:
                raise GuestAtWorkError(
                    f"An undo of capture {journal.capture_id} is at work on guest {guest}."
                ) from error
        yield


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


def _publish(host: Host, step: Step, order: Order, text: str) -> None:
    """Put the result into the run's record; the first one stays."""
    key = names.results_key(order.capture_id)
    for _ in range(PUBLISH_TRIES):
        try:
            host.redis.hsetnx(key, names.result_field(step, host.host_id, order.part), text)
            host.redis.expire(key, RESULTS_KEEP_S)
        except redis.RedisError as error:
            log.warning("result not published yet", why=str(error))
            time.sleep(PUBLISH_PAUSE_S)
        else:
            return
