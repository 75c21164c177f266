"""What is around every step: read the order, answer a repeated one from the journal, store and publish the result.

    order ─▶ valid? ─▶ answered before? ─▶ begun ─▶ the step ─▶ result in the journal ─▶ result in the run's record ─▶ ack
                │              │             │                            ▲
                │              └─────────────┴─ the journal fails ─▶ a fault, or what can still be done (`rest`)
                └─▶ a fault, as a result, if it says whose answer is waited for (`unread_order`)

No trouble of the host keeps an answer back, its state directory's least of all: one that is full, read-only or failing is told
in the result, which is published also if it cannot be stored. Tasks are acknowledged before they are done, so a step whose
process dies is never delivered again; the journal has that it was begun, and `interruption` answers it when a worker is back.
A hold is never done a second time; a release is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog
from pydantic import ValidationError

from freezeframe.contract.fault import Fault
from freezeframe.contract.order import Order
from freezeframe.contract.result import Acknowledgement, Result
from freezeframe.contract.words import Step
from freezeframe.errors import FreezeframeError
from workers.host import Host
from workers.journal import CaptureJournal
from workers.lock_file import NoLockFileError
from workers.steps.host_failure import foreseen
from workers.steps.order_check import check_order
from workers.steps.order_failure import (
    InterruptedStepError,
    LateOrderError,
    UnexpectedError,
    UnreadableOrderError,
)
from workers.steps.publication import publish, published
from workers.steps.unread_order import salvage

OrderT = TypeVar("OrderT", bound=Order)
ResultT = TypeVar("ResultT", bound=Result)

log = structlog.get_logger("step")


#: What can still be done of an order that can be read or begun in part, and what does it; None if nothing can.
Rest = tuple[OrderT, Callable[[Host, OrderT], ResultT]] | None


@dataclass(frozen=True)
class StepCode(Generic[OrderT, ResultT]):
    """The parts of a step.

    `failed` builds the result of one that failed as a whole. `give_up` tells those who wait for it. Both take orders of which
    only some fields can be read. `rest` takes such an order, or one that cannot be begun, the message, and the fault to tell.
    `interrupted` answers an order that was begun by a worker that died; None if it has failed as a whole.
    """

    step: Step
    order_type: type[OrderT]
    do: Callable[[Host, OrderT], ResultT]
    failed: Callable[[OrderT, Fault], ResultT]
    give_up: Callable[[Host, OrderT], None] | None = None
    rest: Callable[[OrderT, Mapping[str, object], Fault], Rest[OrderT, ResultT]] | None = None
    interrupted: Callable[[Host, OrderT, Mapping[str, object], Fault], ResultT | None] | None = None


@dataclass(frozen=True)
class _Order(Generic[OrderT, ResultT]):
    """An order on this host: the message, as much of it as can be read, and what failed if that is not all."""

    host: Host
    code: StepCode[OrderT, ResultT]
    order: OrderT
    payload: Mapping[str, object]
    unread: ResultT | None = None

    @property
    def journal(self) -> CaptureJournal:
        return self.host.journal.of(self.order.capture_id)


def run_step(host: Host, code: StepCode[OrderT, ResultT], payload: dict[str, Any]) -> dict[str, Any]:
    """Run one step and return its acknowledgement."""
    try:
        order = code.order_type.model_validate(payload)
    except ValidationError as error:
        return _run_unread(host, code, payload, error)
    return _run(_Order(host, code, order, payload))


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
    return _run(_Order(host, code, order, payload, result))


def _run(asked: _Order[OrderT, ResultT]) -> dict[str, Any]:
    """Publish the stored result of an order, or else its answer. Fields of the order that cannot be read are missing."""
    order, step = asked.order, asked.code.step
    with (
        structlog.contextvars.bound_contextvars(capture=order.capture_id, step=str(step), part=order.part),
        asked.host.orders_at_work.first(step, order) as is_first,
    ):
        text = _locked_answer(asked) if is_first else None
        # one that is at work is answered by the delivery that is at work on it
        ok = text is None or tell(asked.host, asked.code, order, text)
    return _acknowledgement(asked.host, step, order, ok=ok)


def _locked_answer(asked: _Order[OrderT, ResultT]) -> str | None:
    """Return the answer to an order while no other process is at work on it; None for a transfer if one is.

    A second process would wait for a transfer as long as its disk takes. Other steps end within minutes.
    """
    step = asked.code.step
    with ExitStack() as locks:
        try:
            locks.enter_context(asked.journal.lock(step, asked.order.part, wait=step is not Step.TRANSFER))
        except BlockingIOError:
            return None
        except Exception as error:  # noqa: BLE001  whatever it is, somebody waits for the answer
            return _answer_in_trouble(asked, error, is_alone=isinstance(error, NoLockFileError))
        return _answer(asked)


def tell(host: Host, code: StepCode[OrderT, ResultT], order: OrderT, text: str) -> bool:
    """Publish a result, and have nobody wait for a step that failed; return True if it did not."""
    ok = json.loads(text)["fault"] is None
    if not ok and code.give_up is not None:
        code.give_up(host, order)
    publish(host, code.step, order, text)
    return ok


def _acknowledgement(host: Host, step: Step, order: Order, *, ok: bool) -> dict[str, Any]:
    done = Acknowledgement(capture_id=order.capture_id, step=step, host_id=host.host_id, part=order.part, ok=ok)
    return done.model_dump(mode="json")


def _answer(asked: _Order[OrderT, ResultT]) -> str:
    """Return the stored result, or do the step; a hold that was begun before has had its chance."""
    step, part = asked.code.step, asked.order.part
    try:
        text = _stored(asked)
        begun = text is None and step is not Step.RELEASE and asked.journal.begun(step, part)
    except Exception as error:  # noqa: BLE001  whatever it is, somebody waits for the answer
        if step is not Step.RELEASE:  # which may be done again, so it may be done without knowing
            return _answer_in_trouble(asked, error)
        text, begun = None, False
    if text is not None:
        return text
    if asked.unread is not None:
        return _answer_unread(asked, asked.unread, begun=begun)
    if step is Step.HOLD and begun:
        return interrupted(asked.host, asked.code, asked.order, asked.payload)
    return _store(asked.code, asked.journal, asked.order, _attempt(asked))


def _stored(asked: _Order[OrderT, ResultT]) -> str | None:
    """Return the result that is stored for an order. One that is damaged is an answer too: the step was done."""
    host, code = asked.host, asked.code
    text = asked.journal.result(code.step, asked.order.part)
    if text is None:
        return None
    if not _is_result(text):
        log.error("a stored result is damaged")
        error = UnreadableOrderError(f"The result of the step that host {host.host_id} has stored is damaged.")
        return code.failed(asked.order, Fault.of(error, host=host.host_id)).model_dump_json()
    return text


def _is_result(text: str) -> bool:
    try:
        json.loads(text)["fault"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return True


def _answer_in_trouble(asked: _Order[OrderT, ResultT], error: Exception, *, is_alone: bool = True) -> str:
    """Do what can be done of an order although the journal fails, if no other delivery of it `is_alone` at work."""
    log.error("the journal fails", exc_info=error)
    return _store(asked.code, asked.journal, asked.order, _done_in_trouble(asked, error, is_alone=is_alone))


def _done_in_trouble(asked: _Order[OrderT, ResultT], error: Exception, *, is_alone: bool) -> ResultT:
    host, code, order = asked.host, asked.code, asked.order
    if asked.unread is not None and asked.unread.fault is not None:
        fault = asked.unread.fault
    else:
        fault = Fault.of(_named(host, error, host.settings.state_dir), host=host.host_id)
    rest = code.rest(order, asked.payload, fault) if code.rest and is_alone else None
    return code.failed(order, fault) if rest is None else _done(host, code, *rest)


def _answer_unread(asked: _Order[OrderT, ResultT], failed: ResultT, *, begun: bool) -> str:
    """Do what can be done of an order that can be read in part, once; else it has `failed`."""
    code, order, fault = asked.code, asked.order, failed.fault
    if code.step is Step.RELEASE:
        return failed.model_dump_json()  # not stored: it is done if it comes again and is understood
    if begun:
        return interrupted(asked.host, code, order, asked.payload, fault)
    rest = code.rest(order, asked.payload, fault) if code.rest and fault else None
    if rest is None:
        return _store(code, asked.journal, order, failed)
    whole = replace(asked, code=replace(code, do=rest[1]), order=rest[0])
    return _store(code, asked.journal, order, _attempt(whole))


def _store(code: StepCode[OrderT, ResultT], journal: CaptureJournal, order: OrderT, result: ResultT) -> str:
    """Store a result if that can be done, and return it as JSON."""
    return _store_text(code, journal, order, result.model_dump_json())


def _store_text(code: StepCode[OrderT, ResultT], journal: CaptureJournal, order: OrderT, text: str) -> str:
    try:
        journal.store_result(code.step, order.part, text)
    except OSError as error:  # a full disk: it is told, and done again or failed if it is asked for again
        log.warning("result not stored", why=str(error))
    return text


def interrupted(
    host: Host,
    code: StepCode[OrderT, ResultT],
    order: OrderT,
    payload: Mapping[str, object],
    fault: Fault | None = None,
) -> str:
    """Store and return the answer to an order that was begun by a worker that died.

    An answer that the run's record has stands: that worker could tell it, and could not store it. To store another would end
    the backups of a hold that has gone well.
    """
    journal = host.journal.of(order.capture_id)
    told = published(host, code.step, order)
    if told is not None and _is_result(told):
        return _store_text(code, journal, order, told)
    log.warning("interrupted step", capture=order.capture_id, step=str(code.step))
    fault = fault or Fault.of(
        InterruptedStepError(f"The worker of host {host.host_id} ended in the middle."), host=host.host_id
    )
    try:
        result = code.interrupted(host, order, payload, fault) if code.interrupted else None
    except Exception:  # a defect; somebody waits for the answer
        log.exception("an interrupted step was not answered as it should")
        result = None
    return _store(code, journal, order, result or code.failed(order, fault))


def _attempt(asked: _Order[OrderT, ResultT]) -> ResultT:
    """Do the step when the journal has that it is begun."""
    host, code, order = asked.host, asked.code, asked.order
    try:
        asked.journal.record_begun(code.step, order.part, order.model_dump_json())
        ended = code.step is not Step.RELEASE and asked.journal.ended
    except Exception as error:  # noqa: BLE001  whatever it is, somebody waits for the answer
        if code.step is not Step.RELEASE:
            return _done_in_trouble(asked, error, is_alone=True)
        log.warning("a release is done without a line that it is begun", why=str(error))
        ended = False
    if ended:
        late = LateOrderError("This host has released the capture already, and nobody would release it again.")
        return code.failed(order, Fault.of(late, host=host.host_id))
    return _done(host, code, order, code.do)


def _done(host: Host, code: StepCode[OrderT, ResultT], order: OrderT, do: Callable[[Host, OrderT], ResultT]) -> ResultT:
    try:
        check_order(host, order)
        return do(host, order)
    except FreezeframeError as error:
        log.warning("step failed", code=error.code, why=str(error))
        return code.failed(order, Fault.of(error, host=host.host_id))
    except Exception as error:
        log.exception("step failed unexpectedly")
        return code.failed(order, Fault.of(_named(host, error), host=host.host_id))


def _named(host: Host, error: Exception, *directories: Path) -> FreezeframeError:
    return foreseen(host, error, *directories) or UnexpectedError(f"{type(error).__name__}: {error}")
