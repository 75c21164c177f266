"""Steps whose process died in the middle: they are answered when a worker is back, so that no run waits for its deadline."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from freezeframe.contract.order import Order
from freezeframe.contract.words import Step
from workers import durable
from workers.host import Host
from workers.journal import CaptureJournal
from workers.steps.frame import StepCode, interrupted, run_step, tell
from workers.steps.unread_order import salvage

log = structlog.get_logger("step")


def settle_interrupted(host: Host, codes: Iterable[StepCode[Any, Any]]) -> None:
    """Answer every order that was begun by a process that died: do a release again, and tell that the others have failed.

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
    """Answer one order. Where it does not say its capture and host, its place does."""
    fields = {"capture_id": journal.capture_id, "host_id": host.host_id} | _fields(_text(path))
    order, is_read = _order(host, code, fields)
    text = None
    if order is not None:
        try:
            with journal.lock(code.step, order.part, wait=False):
                if is_read and code.step is not Step.RELEASE and journal.result(code.step, order.part) is None:
                    text = interrupted(host, code, order, fields)
        except BlockingIOError:
            return  # another process is at work on it
    if order is not None and text is not None:
        tell(host, code, order, text)  # whether or not it could be stored
        return
    # of one that is not understood recovery undoes what the step did, which is in the journal whatever the order said
    run_step(host, code, fields)


def _order(host: Host, code: StepCode[Any, Any], fields: dict[str, Any]) -> tuple[Order | None, bool]:
    """Return an order, or as much of it as can be read; and True if that is all of it."""
    try:
        return code.order_type.model_validate(fields), True
    except ValidationError:
        return salvage(host, code.order_type, fields), False


def _text(path: Path) -> str:
    """Return what was begun; nothing if that cannot be read, which is an order that is not understood."""
    try:
        return durable.read(path) or ""
    except OSError as error:
        log.warning("an order that was begun cannot be read", order=str(path), why=str(error))
        return ""


def _fields(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
