"""Requests that this version cannot read: of a newer client, or damaged. Their callers are answered, with a receipt.

| what came                                              | then                                                              |
|--------------------------------------------------------|-------------------------------------------------------------------|
| a request whose id can be read                         | its run ends at once, refused; who follows the id is told why     |
| one without an id that can be read                     | the log says so: nobody follows what has no id                    |

What was asked for is not guessed: of the request only the fields that can be read are kept, to be shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from pydantic import TypeAdapter, ValidationError

from freezeframe.contract.fault import Fault
from freezeframe.contract.message import CaptureId, Message
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState
from freezeframe.errors import EXIT_REFUSED, FreezeframeError
from orchestrator import metrics
from orchestrator.look import Orchestrator
from orchestrator.receipt import receipt_of
from orchestrator.run import Run

log = structlog.get_logger("intake")

_OWN_VERSION: Final[int] = Message.model_fields["v"].default
_CAPTURE_ID: Final[TypeAdapter[str]] = TypeAdapter(CaptureId)
#: The fields that say which guests are meant, by which a run is listed.
_SHOWN: Final = ("guests", "every_guest", "group", "tags")
#: Stands for guests that cannot be read, where runs are listed.
_UNREAD_GUESTS: Final = "(unreadable)"
#: Faults of a request that a message repeats, and characters of each: the words are a stranger's.
_MOST_FAULTS, _MOST_WORDS = 3, 120


class UnreadableRequestError(FreezeframeError):
    """A request is of another version, or damaged."""

    code = "unreadable-request"
    exit_code = EXIT_REFUSED
    advice = (
        "Nothing was captured. Bring freezeframe here and on the orchestrator's machine to one version, the newer of the two: "
        "`freezeframe version` on each tells which it has."
    )


def parsed(payload: object, not_after_us: object = None, *, more: bool = False) -> tuple[CaptureRequest, int | None]:
    """Return a request and its end by Redis's clock. Raises UnreadableRequestError. Pure.

    `more`: its message has parts beside these, which this version does not know.
    """
    try:
        request = CaptureRequest.model_validate(payload)
    except (ValidationError, RecursionError) as error:
        raise UnreadableRequestError(_told(payload, error)) from error
    if more:
        raise UnreadableRequestError("The request has parts that this orchestrator does not know.")
    if not_after_us is not None and (isinstance(not_after_us, bool) or not isinstance(not_after_us, int)):
        raise UnreadableRequestError("The orchestrator cannot read until when the request counts.")
    return request, not_after_us


def refuse(orchestrator: Orchestrator, payload: object, error: UnreadableRequestError) -> None:
    """End the run of a request that cannot be read, if its id can be. One that is there stays. Raises redis errors."""
    capture_id = _capture_id(payload)
    if capture_id is None:
        log.warning("a request that cannot be read has no id: nobody is answered", why=error.message)
        return
    log.warning("unreadable request", capture=capture_id, why=error.message)
    now = datetime.now(UTC)
    run = Run(
        capture_id=capture_id,
        request=_shown(capture_id, payload if isinstance(payload, Mapping) else {}),
        asked_at=now,
        state=RunState.FAILED,
        entered_at=now,
        due_at=now,
        faults=(Fault.of(error),),
    )
    run = run.model_copy(update={"receipt": receipt_of(run, now, None, ())})
    if orchestrator.runs.create(run):
        metrics.ended(run)


def _capture_id(payload: object) -> str | None:
    with suppress(ValidationError):
        return _CAPTURE_ID.validate_python(payload.get("capture_id") if isinstance(payload, Mapping) else None)
    return None


def _shown(capture_id: str, payload: Mapping[Any, Any]) -> CaptureRequest:
    """Return a request that says what can be read of which guests were meant."""
    for fields in (_SHOWN, _SHOWN[:2]):
        with suppress(ValidationError, RecursionError):
            kept = {name: payload[name] for name in fields if name in payload}
            return CaptureRequest.model_validate({"capture_id": capture_id, **kept})
    return CaptureRequest(capture_id=capture_id, guests=(_UNREAD_GUESTS,))


def _told(payload: object, error: ValidationError | RecursionError) -> str:
    version = payload.get("v") if isinstance(payload, Mapping) else None
    if isinstance(version, int) and version > _OWN_VERSION:
        return f"The request is of version {version}, which is newer than this orchestrator."
    faults = error.errors(include_url=False, include_input=False) if isinstance(error, ValidationError) else ()
    told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}"[:_MOST_WORDS] for one in faults[:_MOST_FAULTS]]
    return f"The orchestrator cannot read the request ({'; '.join(told) or 'it is nested too deeply'})."
