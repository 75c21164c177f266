"""Intake: from a request to a run, once; asking again with the same id changes nothing.

request ─▶ recorded (`asked`) ─▶ the run is looked at ─▶ planned (`planning.py`) ─▶ …
└─ from here on it survives the end of this process: the reconciler looks at it
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import redis
import structlog

from freezeframe import redis_fault
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState
from freezeframe.errors import FreezeframeError
from orchestrator import cancel, clocks, decision, metrics, unread_request
from orchestrator.defect import fault_of
from orchestrator.look import Orchestrator
from orchestrator.receipt import receipt_of
from orchestrator.run import Run
from orchestrator.unread_request import UnreadableRequestError

log = structlog.get_logger("intake")

#: Seconds that a request is tried again while Redis refuses, and between two tries. Less than a caller waits for the first
#: event (`client.PICK_UP_S`): a request that was given up must not begin later.
PATIENCE_S = 20.0
PAUSE_S = 0.5


def take_in_patiently(
    orchestrator: Orchestrator,
    request: CaptureRequest,
    not_after_us: int | None = None,
    patience_s: float = PATIENCE_S,
) -> None:
    """Take in a request, again while Redis is away or refuses: its message is acknowledged, so it would be lost.

    The caller waits no longer for its first event than this. Raises redis errors after that.
    """
    _patiently(request.capture_id, lambda: take_in(orchestrator, request, not_after_us), patience_s)


def refuse_patiently(
    orchestrator: Orchestrator, payload: object, error: UnreadableRequestError, patience_s: float = PATIENCE_S
) -> None:
    """Answer a request that cannot be read, again while Redis is away or refuses. Raises redis errors after that."""
    _patiently(
        "of a request that cannot be read", lambda: unread_request.refuse(orchestrator, payload, error), patience_s
    )


def cancel_patiently(
    orchestrator: Orchestrator,
    capture_id: str,
    who: str,
    look: Callable[[str], object] | None = None,
    patience_s: float = PATIENCE_S,
) -> None:
    """Cancel a run, again while Redis is away or refuses. Raises redis errors after that.

    `look` is what has the run looked at; without it that is done here, and may wait for the repository.
    """

    def end() -> None:
        cancel.mark(orchestrator.runs, capture_id, who)
        (look or orchestrator.look)(capture_id)

    _patiently(capture_id, end, patience_s)


def _patiently(capture: str, call: Callable[[], None], patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while True:
        try:
            call()
        except redis.RedisError as error:
            if time.monotonic() > until:
                log.warning("request lost", capture=capture, why=redis_fault.words_of(error))
                raise
            log.warning("request not taken in yet", capture=capture, why=redis_fault.words_of(error))
            time.sleep(PAUSE_S)
        else:
            return


def take_in(orchestrator: Orchestrator, request: CaptureRequest, not_after_us: int | None = None) -> None:
    """Record a request and look at its run. One that its caller has given up ends at once. Raises redis errors.

    Nothing slow comes before the record: the caller is told that it is asked for, however long planning takes, and whoever
    looks at the run next goes on with it.
    """
    now = datetime.now(UTC)
    blank = Run(
        capture_id=request.capture_id, request=request, asked_at=now, state=RunState.ASKED, entered_at=now, due_at=now
    )
    try:
        clocks.check_in_time(not_after_us, clocks.redis_time(orchestrator.redis.time()))
    except FreezeframeError as error:
        _refuse(orchestrator, blank, error)
        return
    run = decision.enter(blank, RunState.ASKED, now, orchestrator.settings)
    if orchestrator.runs.create(run):
        log.info("asked", capture=request.capture_id)
        orchestrator.look(request.capture_id)


def _refuse(orchestrator: Orchestrator, blank: Run, error: FreezeframeError) -> None:
    fault = fault_of(error)
    log.info("request refused", capture=blank.capture_id, code=fault.code)
    run = blank.model_copy(update={"state": RunState.FAILED, "faults": (fault,)})
    run = run.model_copy(update={"receipt": receipt_of(run, blank.asked_at, None, ())})
    if orchestrator.runs.create(run):
        metrics.ended(run)
