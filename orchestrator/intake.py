"""Intake: from a request to a run, once; asking again with the same id changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import redis
import structlog

from freezeframe import redis_fault
from freezeframe.contract.fault import Fault
from freezeframe.contract.plan import Plan
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState, WantedKind
from freezeframe.errors import FreezeframeError
from freezeframe.presence import known_hosts, unread_hosts
from orchestrator import clocks, decision, metrics, sessions, unread, unread_request
from orchestrator.choices import without_strays
from orchestrator.defect import fault_of
from orchestrator.errors import NoGuestsError, SplitGuestError, UnknownGuestError
from orchestrator.look import Orchestrator
from orchestrator.newer import newer_hosts
from orchestrator.parents import Parents
from orchestrator.planner import left_out, plan_hosts, unfit_faults
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
    """Plan a request and begin its run. A request that cannot be planned ends at once, with the reason in its receipt."""
    now = datetime.now(UTC)
    blank = Run(
        capture_id=request.capture_id,
        request=request,
        asked_at=now,
        state=RunState.PREPARING,
        entered_at=now,
        due_at=now,
    )
    try:
        _check_clocks(orchestrator, request, now, not_after_us)
        # before anything is looked for that garbage collection might take away: the parents' manifests to begin with
        installation = orchestrator.runs.installation()
        orchestrator.repository.sessions.begin(request.capture_id, sessions.PROGRAM, installation)
        plan, faults, warnings = _plan(orchestrator, request)
        clocks.check_in_time(not_after_us, clocks.redis_time(orchestrator.redis.time()))  # planning may take a while
    except redis.RedisError:
        raise
    except Exception as error:  # also a defect: nobody else would answer the caller
        fault = fault_of(error)
        if isinstance(error, FreezeframeError):
            log.info("request refused", capture=request.capture_id, code=fault.code)
        else:
            log.exception("planning failed", capture=request.capture_id)
        run = blank.model_copy(update={"state": RunState.FAILED, "faults": (fault,)})
        run = run.model_copy(update={"receipt": receipt_of(run, now, None, ())})
        if orchestrator.runs.create(run):
            metrics.ended(run)
            sessions.end(orchestrator.repository, run)
        return
    # the hosts' time begins now, and not before the repository was read
    begun = datetime.now(UTC)
    found = {"plan": plan, "faults": faults, "warnings": warnings}
    run = decision.enter(blank, RunState.PREPARING, begun, orchestrator.settings, **found)
    if orchestrator.runs.create(run):
        log.info("run begins", capture=request.capture_id, hosts=len(plan.hosts))
        orchestrator.dispatch(run)


def _check_clocks(orchestrator: Orchestrator, request: CaptureRequest, now: datetime, not_after_us: int | None) -> None:
    """Raise ClockError, RequestDateError, LateRequestError. Raises redis errors."""
    redis_now = clocks.redis_time(orchestrator.redis.time())
    clocks.check_own(now, redis_now)
    clocks.check_in_time(not_after_us, redis_now)
    newest = next(iter(orchestrator.repository.capture_ids()), None)
    clocks.check_request(request.capture_id, redis_now, newest)


def _plan(orchestrator: Orchestrator, request: CaptureRequest) -> tuple[Plan, tuple[Fault, ...], tuple[str, ...]]:
    """Return the plan, what policy `degrade` goes on without, and warnings."""
    repository = orchestrator.repository
    missing = unread_hosts(orchestrator.redis)
    without = unread.faults(request, missing)
    known = known_hosts(orchestrator.redis)
    if without:  # a guest that is not known may be on a host that is done without
        request, strays = without_strays(request, known)
        without += tuple(Fault.of(unread.explained(stray, missing)) for stray in strays)
    with Parents(repository, orchestrator.briefs, full=request.kind is WantedKind.FULL) as parents:
        try:
            hosts = plan_hosts(request, known, parents.of)
        except (UnknownGuestError, NoGuestsError) as error:
            raise unread.explained(error, missing) from error
        except SplitGuestError as error:  # or it has just migrated, and its old host has not published itself since
            log.info("a guest is on two hosts", capture=request.capture_id, hosts=error.host_ids)
            known = newer_hosts(lambda: known_hosts(orchestrator.redis), error.host_ids)
            hosts = plan_hosts(request, known, parents.of)
        warnings = parents.warnings()
    plan = Plan(
        capture_id=request.capture_id,
        epoch=orchestrator.runs.next_epoch(max((host.entry.highest_epoch for host in known), default=0)),
        method=request.method,
        chunk_bytes=repository.config.chunk_bytes,
        repository_id=str(repository.config.id),
        hosts=hosts,
        left_out=left_out(request, known),
    )
    return plan, (*without, *unfit_faults(request, known)), warnings
