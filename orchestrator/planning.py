"""Planning: from a run that was asked for to its plan. It reads the inventory and the repository, and changes no host.

    asked ─▶ guests found ─▶ places taken ─▶ session begun ─▶ parents chosen ─▶ epoch drawn ─▶ preparing, dated by the
      │                       (`admission`)     (from now on garbage collection keeps            time that it is then
      │                            │             what the plan builds upon)
      │                            └─▶ queued: later all of it again, as guests move
      └─ it cannot be planned ─▶ failed, with the reason

A run may be planned again, when whoever planned it has died: its places are taken once, the session is begun once, and the
record is changed once. The epoch of a plan that was not stored is never used.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import redis
import structlog

from freezeframe.bounded import answered
from freezeframe.contract.event import Queued
from freezeframe.contract.fault import Fault
from freezeframe.contract.plan import HostPlan, LeftOutGuest, Plan
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import Policy, RunState, WantedKind
from freezeframe.errors import FreezeframeError
from freezeframe.presence import known_hosts, unread_hosts
from freezeframe.repository import Repository
from freezeframe.repository.errors import is_store_trouble
from freezeframe.repository.session import SessionState
from freezeframe.settings import OrchestratorSettings
from orchestrator import admission, clocks, decision, sessions, unread
from orchestrator.board import Boards
from orchestrator.choices import without_strays
from orchestrator.crew import Crew
from orchestrator.defect import fault_of, words_of
from orchestrator.errors import (
    EndedBeforeError,
    GuestWantedError,
    NoGuestsError,
    QueuedTooLongError,
    SplitGuestError,
    UnknownGuestError,
)
from orchestrator.line import Limits
from orchestrator.newer import newer_hosts
from orchestrator.parents import Briefs, Parents
from orchestrator.planner import left_out, plan_hosts, unfit_faults, with_parents
from orchestrator.run import Run, Runs
from orchestrator.sight import Sight

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


@dataclass(frozen=True)
class Planner:
    """What planning takes."""

    redis: redis.Redis
    runs: Runs
    repository: Repository
    settings: OrchestratorSettings
    briefs: Briefs
    boards: Boards
    at_work: AtWork
    sight: Sight = field(default_factory=Sight)
    crew: Crew | None = None  # without one the caller's thread plans

    def alone(self, run: Run) -> Run | None:
        """As `planned`, within a time; None also while another thread of this process plans the run. Raises redis errors.

        A thread of the crew plans it, and goes on with the run; any other only has that done.
        """
        if self.crew is not None and self.crew.elsewhere(run.capture_id):
            return None
        if not self.at_work.begin(run.capture_id):
            return None
        try:
            place, seconds = f"The repository at {self.repository.address}", self.settings.plan_timeout_s
            return answered(place, seconds, lambda: self.planned(run))
        except FreezeframeError as error:  # the repository hangs; whatever else there is, planning answers itself
            return not_planned(run, error, self.settings)
        finally:
            self.at_work.end(run.capture_id)

    def planned(self, run: Run) -> Run | None:
        """Return the run with its plan, in line, or failed because it cannot be planned; None: later. Raises redis errors."""
        request = run.request
        if self.sight.rejoining(datetime.now(UTC)) and not all(host.alive for host in known_hosts(self.redis)):
            return None  # hosts that have not published themselves since Redis is back would be taken for down
        try:
            self._check_clocks(run)
            found, queued = self._admitted(request, find(self.redis, request))
            if queued is not None:
                return self.in_line(run, queued)
            # before anything is looked for that garbage collection might take away: the parents' manifests to begin with
            self._begin_session(request.capture_id)
            plan, warnings = self._plan(request, found)
        except redis.RedisError:
            raise
        except Exception as error:  # noqa: BLE001  also a defect: nobody else would answer the caller
            if run.state is RunState.QUEUED and is_store_trouble(error) and datetime.now(UTC) < run.due_at:
                log.warning("a run that waited is not planned yet", capture=run.capture_id, why=words_of(error))
                return run  # it has waited for hours, and may for longer
            return not_planned(run, error, self.settings)
        log.info("planned", capture=request.capture_id, hosts=len(plan.hosts))
        # the hosts' time begins now, and not before the repository was read
        now = datetime.now(UTC)
        changes = {"plan": plan, "faults": (*run.faults, *found.faults), "warnings": (*run.warnings, *warnings)}
        return decision.enter(run, RunState.PREPARING, now, self.settings, **changes)

    def in_line(self, run: Run, queued: Queued) -> Run:
        """Return a run that waits, with its place: since now, or since it does."""
        if run.state is RunState.QUEUED:
            return run.model_copy(update={"queued": queued})
        log.info("queued", capture=run.capture_id, place=queued.place, why=queued.why)
        return decision.enter(run, RunState.QUEUED, datetime.now(UTC), self.settings, queued=queued)

    def called(self, run: Run) -> Run | None:
        """Return a run that waited as it should be next; None if it waits on as it does. Raises redis errors."""
        limits = Limits.of(self.settings)
        queued = admission.place(self.redis, self.boards, limits, run.capture_id)
        if queued is None:
            following = self.alone(run)
        elif datetime.now(UTC) >= run.due_at:
            following = not_planned(
                run, QueuedTooLongError(f"It has waited for too long: {queued.why}."), self.settings
            )
        else:
            following = self.in_line(run, queued)
        return None if following == run else following

    def _begin_session(self, capture_id: str) -> None:
        """Raise EndedBeforeError if there was one of a run of this id that Redis has lost, and nothing was sealed in it."""
        session = self.repository.sessions.begin(capture_id, sessions.PROGRAM, self.runs.installation())
        if session.state is SessionState.FAILED:
            raise EndedBeforeError(f"Capture {capture_id} was asked for before, and has ended.")

    def _check_clocks(self, run: Run) -> None:
        """Raise ClockError, RequestDateError. Raises redis errors."""
        redis_now = clocks.redis_time(self.redis.time())
        clocks.check_own(datetime.now(UTC), redis_now)
        if run.state is RunState.ASKED:  # one that has waited is older than it may be when it is asked for
            newest = next(iter(self.repository.capture_ids()), None)
            clocks.check_request(run.capture_id, redis_now, newest)

    def _admitted(self, request: CaptureRequest, found: Found) -> tuple[Found, Queued | None]:
        """Return who takes part, and the place in line if it has to wait. Raises GuestWantedError."""
        limits = Limits.of(self.settings)
        while True:
            wanted = admission.Wanted.of(found.hosts, waits_for_guests=request.wait_for_guests)
            answer = admission.ask(self.redis, self.boards, limits, request.capture_id, wanted)
            if not isinstance(answer, admission.Rivals):
                return found, answer
            found = without_rivals(request, found, answer.captures)  # fewer each time

    def _plan(self, request: CaptureRequest, found: Found) -> tuple[Plan, tuple[str, ...]]:
        """Return the plan and warnings."""
        guests = frozenset(guest.guest_uuid for host in found.hosts for guest in host.guests)
        full = request.kind is WantedKind.FULL
        with Parents(self.repository, self.redis, self.briefs, guests, full=full) as parents:
            hosts = with_parents(found.hosts, parents.of)
            warnings = parents.warnings()
        plan = Plan(
            capture_id=request.capture_id,
            epoch=self.runs.next_epoch(found.highest_epoch),
            method=request.method,
            chunk_bytes=self.repository.config.chunk_bytes,
            repository_id=str(self.repository.config.id),
            hosts=hosts,
            left_out=found.left_out,
        )
        return plan, warnings


@dataclass(frozen=True)
class Found:
    """Who takes part, by the inventory."""

    hosts: tuple[HostPlan, ...]
    left_out: tuple[LeftOutGuest, ...]
    faults: tuple[Fault, ...]  # what policy `degrade` goes on without
    highest_epoch: int  # that a host has seen


def find(client: redis.Redis, request: CaptureRequest) -> Found:
    """Return who takes part. Raises what the planner raises, and redis errors."""
    missing = unread_hosts(client)
    without = unread.faults(request, missing)
    known = known_hosts(client)
    if without:  # a guest that is not known may be on a host that is done without
        request, strays = without_strays(request, known)
        without += tuple(Fault.of(unread.explained(stray, missing)) for stray in strays)
    try:
        hosts = plan_hosts(request, known)
    except (UnknownGuestError, NoGuestsError) as error:
        raise unread.explained(error, missing) from error
    except SplitGuestError as error:  # or it has just migrated, and its old host has not published itself since
        log.info("a guest is on two hosts", capture=request.capture_id, hosts=error.host_ids)
        known = newer_hosts(lambda: known_hosts(client), error.host_ids)
        hosts = plan_hosts(request, known)
    return Found(
        hosts=hosts,
        left_out=left_out(request, known),
        faults=(*without, *unfit_faults(request, known)),
        highest_epoch=max((host.entry.highest_epoch for host in known), default=0),
    )


def without_rivals(request: CaptureRequest, found: Found, captures: Mapping[str, str]) -> Found:
    """Return who takes part without guests that other captures have. Raises GuestWantedError if the policy is `all`. Pure."""
    troubles = [
        (GuestWantedError(guest.name, captures[guest.guest_uuid]), guest.name, host.host_id)
        for host in found.hosts
        for guest in host.guests
        if guest.guest_uuid in captures
    ]
    hosts = [
        HostPlan(host_id=host.host_id, guests=tuple(one for one in host.guests if one.guest_uuid not in captures))
        for host in found.hosts
    ]
    hosts = [host for host in hosts if host.guests]
    if request.policy is Policy.ALL or not hosts:
        raise troubles[0][0]
    faults = [Fault.of(trouble, guest=guest, host=host) for trouble, guest, host in troubles]
    return replace(found, hosts=tuple(hosts), faults=(*found.faults, *faults))


def not_planned(run: Run, error: Exception, settings: OrchestratorSettings) -> Run:
    """Return a run that cannot be planned."""
    fault = fault_of(error)
    if isinstance(error, FreezeframeError):
        log.info("request refused", capture=run.capture_id, code=fault.code)
    else:
        log.error("planning failed", capture=run.capture_id, exc_info=error)
    return decision.enter(run, RunState.FAILED, datetime.now(UTC), settings, faults=(*run.faults, fault))
