"""Planning: from a run that was asked for to its plan. It reads the inventory and the repository, and changes no host.

    asked ─▶ session begun ─▶ guests found, parents chosen ─▶ epoch drawn ─▶ preparing, dated by the time that it is then
      │           (from now on garbage collection keeps what the plan builds upon)
      └─ it cannot be planned ─▶ failed, with the reason

A run may be planned again, when whoever planned it has died: the session is begun once, and the record is changed once. The
epoch of a plan that was not stored is never used.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import redis
import structlog

from freezeframe.bounded import answered
from freezeframe.contract.fault import Fault
from freezeframe.contract.plan import Plan
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState, WantedKind
from freezeframe.errors import FreezeframeError
from freezeframe.presence import known_hosts, unread_hosts
from freezeframe.repository import Repository
from freezeframe.settings import OrchestratorSettings
from orchestrator import clocks, decision, sessions, unread
from orchestrator.choices import without_strays
from orchestrator.defect import fault_of
from orchestrator.errors import NoGuestsError, SplitGuestError, UnknownGuestError
from orchestrator.newer import newer_hosts
from orchestrator.parents import Briefs, Parents
from orchestrator.planner import left_out, plan_hosts, unfit_faults
from orchestrator.run import Run, Runs

log = structlog.get_logger("planning")


class AtWork:
    """The runs that this process is planning: the reconciler looks at them meanwhile. Any thread may call."""

    def __init__(self) -> None:
        self._runs: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, capture_id: str) -> bool:
        """Return True if nobody else plans it."""
        with self._lock:
            if capture_id in self._runs:
                return False
            self._runs.add(capture_id)
            return True

    def end(self, capture_id: str) -> None:
        with self._lock:
            self._runs.discard(capture_id)


def alone(
    at_work: AtWork,
    client: redis.Redis,
    runs: Runs,
    repository: Repository,
    briefs: Briefs,
    settings: OrchestratorSettings,
    run: Run,
) -> Run | None:
    """As `planned`, within a time; None while another thread of this process plans the run. Raises redis errors."""
    if not at_work.begin(run.capture_id):
        return None
    try:
        place, seconds = f"The repository at {repository.address}", settings.plan_timeout_s
        return answered(place, seconds, lambda: planned(client, runs, repository, briefs, settings, run))
    except FreezeframeError as error:  # the repository hangs; whatever else there is, planning answers itself
        return not_planned(run, error, settings)
    finally:
        at_work.end(run.capture_id)


def planned(
    client: redis.Redis, runs: Runs, repository: Repository, briefs: Briefs, settings: OrchestratorSettings, run: Run
) -> Run:
    """Return the run with its plan, or the run that has failed because it cannot be planned. Raises redis errors."""
    request = run.request
    try:
        _check_clocks(client, repository, request)
        # before anything is looked for that garbage collection might take away: the parents' manifests to begin with
        repository.sessions.begin(request.capture_id, sessions.PROGRAM, runs.installation())
        plan, faults, warnings = _plan(client, runs, repository, briefs, request)
    except redis.RedisError:
        raise
    except Exception as error:  # noqa: BLE001  also a defect: nobody else would answer the caller
        return not_planned(run, error, settings)
    log.info("planned", capture=request.capture_id, hosts=len(plan.hosts))
    # the hosts' time begins now, and not before the repository was read
    now = datetime.now(UTC)
    return decision.enter(run, RunState.PREPARING, now, settings, plan=plan, faults=faults, warnings=warnings)


def not_planned(run: Run, error: Exception, settings: OrchestratorSettings) -> Run:
    """Return a run that cannot be planned."""
    fault = fault_of(error)
    if isinstance(error, FreezeframeError):
        log.info("request refused", capture=run.capture_id, code=fault.code)
    else:
        log.error("planning failed", capture=run.capture_id, exc_info=error)
    return decision.enter(run, RunState.FAILED, datetime.now(UTC), settings, faults=(*run.faults, fault))


def _check_clocks(client: redis.Redis, repository: Repository, request: CaptureRequest) -> None:
    """Raise ClockError, RequestDateError. Raises redis errors."""
    redis_now = clocks.redis_time(client.time())
    clocks.check_own(datetime.now(UTC), redis_now)
    newest = next(iter(repository.capture_ids()), None)
    clocks.check_request(request.capture_id, redis_now, newest)


def _plan(
    client: redis.Redis, runs: Runs, repository: Repository, briefs: Briefs, request: CaptureRequest
) -> tuple[Plan, tuple[Fault, ...], tuple[str, ...]]:
    """Return the plan, what policy `degrade` goes on without, and warnings."""
    missing = unread_hosts(client)
    without = unread.faults(request, missing)
    known = known_hosts(client)
    if without:  # a guest that is not known may be on a host that is done without
        request, strays = without_strays(request, known)
        without += tuple(Fault.of(unread.explained(stray, missing)) for stray in strays)
    with Parents(repository, briefs, full=request.kind is WantedKind.FULL) as parents:
        try:
            hosts = plan_hosts(request, known, parents.of)
        except (UnknownGuestError, NoGuestsError) as error:
            raise unread.explained(error, missing) from error
        except SplitGuestError as error:  # or it has just migrated, and its old host has not published itself since
            log.info("a guest is on two hosts", capture=request.capture_id, hosts=error.host_ids)
            known = newer_hosts(lambda: known_hosts(client), error.host_ids)
            hosts = plan_hosts(request, known, parents.of)
        warnings = parents.warnings()
    plan = Plan(
        capture_id=request.capture_id,
        epoch=runs.next_epoch(max((host.entry.highest_epoch for host in known), default=0)),
        method=request.method,
        chunk_bytes=repository.config.chunk_bytes,
        repository_id=str(repository.config.id),
        hosts=hosts,
        left_out=left_out(request, known),
    )
    return plan, (*without, *unfit_faults(request, known)), warnings
