"""Look at a run: read its record and the results that have come, do what they call for, until there is nothing to do.

Called by the body of every chord and by the reconciler, any number of times and from anywhere: each change of state is a
compare-and-set, and whoever wins it sends the orders of the new state. That they were sent is a second change; a run that
stays without it is found by the reconciler, which sends them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import redis
import structlog
from celery import Celery

from freezeframe import redis_fault
from freezeframe.bounded import answered
from freezeframe.contract.definition import Definition
from freezeframe.contract.fault import Fault
from freezeframe.contract.order import Order
from freezeframe.contract.words import RunState
from freezeframe.presence import known_hosts
from freezeframe.repository import Manifest, Repository
from freezeframe.repository.errors import (
    CaptureNotFound,
    IndexDamaged,
    ManifestUnreadable,
    RepositoryDamaged,
    RepositoryUnsupported,
    is_store_trouble,
)
from freezeframe.settings import OrchestratorSettings
from orchestrator import (
    admission,
    again,
    clocks,
    decision,
    metrics,
    planning,
    refused,
    seal_state,
    seal_wait,
    sessions,
    touched,
    unsealable,
)
from orchestrator.answers import Answers, Unread
from orchestrator.board import Boards
from orchestrator.crew import Crew
from orchestrator.defect import fault_of
from orchestrator.dispatch import dispatch
from orchestrator.inherited import warnings_of
from orchestrator.parents import Briefs
from orchestrator.path import STEP_OF, orders_of
from orchestrator.receipt import receipt_of
from orchestrator.run import Run, Runs
from orchestrator.seal import definition_fields, manifest_of
from orchestrator.search import lost_guests
from orchestrator.sight import Sight
from orchestrator.transfers import expected_transfers

log = structlog.get_logger("look")

ResultT = TypeVar("ResultT")

#: Seconds that a seal gets at least once it has begun: it reads the header of each index, thousands in slow storage too.
SEAL_S = 600.0


@dataclass(frozen=True)
class Orchestrator:
    """What looking takes."""

    app: Celery
    redis: redis.Redis
    runs: Runs
    settings: OrchestratorSettings
    repository: Repository
    briefs: Briefs = field(default_factory=Briefs)
    sight: Sight = field(default_factory=Sight)
    boards: Boards = field(default_factory=Boards)
    at_work: planning.AtWork = field(default_factory=planning.AtWork)
    plans: Crew | None = None  # without one a look plans itself

    def look(self, capture_id: str, stalled: Mapping[str, Fault] = decision.NO_STALLS) -> Run | None:
        """Bring a run as far as it can go now; return the run as it then is, None if there is none.

        `stalled` are hosts and transfers that do not move any more, which the reconciler alone knows.
        """
        while (loaded := self.runs.load_with_answers(capture_id)) is not None:
            run, version, answers = loaded
            now = datetime.now(UTC)
            self.sight.find(now)
            if self._dated_anew(run, version, now):
                continue
            following = self._next(run, answers, now, stalled)
            if following is None:
                self._keep_places(run, version, answers)
                return run
            following = seal_state.doubted(run, following)
            if self.runs.change(following, version, tell=_is_news(run, following)):
                self._follow(following, answers)
        return None

    def _keep_places(self, run: Run, version: str, answers: Answers) -> None:
        """Have the run's places and guests be those that it has now. What Redis refuses is tried again by the next look."""
        try:
            admission.follow(self.redis, self.boards, run, version, answers.prepared)
        except redis.ResponseError as error:  # no reason to keep the run from its orders
            log.warning("places do not follow a run yet", capture=run.capture_id, why=redis_fault.words_of(error))

    def _dated_anew(self, run: Run, version: str, now: datetime) -> bool:
        """Return True if the clock was set or Redis was away, so that the run has to be loaded again, with its new dates."""
        anew, why = clocks.dated_anew(run, now), "the clock was set"
        if anew is None:
            anew, why = self.sight.excused(run, now), "Redis was away"
        if anew is not None:
            log.warning(why, capture=run.capture_id, due=str(run.due_at), due_now=str(anew.due_at))
            self.runs.change(anew, version, tell=False)
        return anew is not None

    def _follow(self, run: Run, answers: Answers) -> None:
        """Do what comes with a run's new record."""
        log.info("run goes on", capture=run.capture_id, state=str(run.state), round=run.round)
        if run.state.ended:
            admission.leave(self.redis, self.boards, run.capture_id)
            metrics.ended(run)
            metrics.audited(answers.transferred)
        if not run.dispatched:
            self.dispatch(run, answers)

    def give_up(self, capture_id: str, error: Exception, troubled_s: float = 0.0) -> None:
        """Take a run on that cannot be looked at because of `error`, if its time is over: no run stays for ever.

        `troubled_s`: since when no look at it has succeeded.
        """
        loaded = self.runs.load(capture_id)
        if loaded is None:  # there is none, or a newer orchestrator's
            return
        run, version = loaded
        now = datetime.now(UTC)
        following = decision.give_up(run, fault_of(error), now, self.settings, troubled_s)
        if self._dated_anew(run, version, now) or following is None:
            return
        log.error("a run is given up", capture=capture_id, state=str(run.state))
        if following.state.ended:
            following = self._known(following, Answers(), wait=False) or following
            sessions.end(self.repository, following)
            following = touched.failed(following, ())
            following = following.model_copy(update={"receipt": receipt_of(following, now, None, ())})
        following = seal_state.doubted(run, following)
        if self.runs.change(following, version):
            self._follow(following, Answers())

    def dispatch(self, run: Run, answers: Answers | None = None) -> None:
        """Send the orders of the state that the run is in, and note that they were sent, unless another look is at it.

        A run that was given up is held against the repository first: hosts must not undo what a sealed capture needs.
        """
        answers = answers or self.runs.answers(run.capture_id)
        asked = self._asked(run, answers)
        if asked is None:  # another look has asked, and sends them
            return
        run = asked
        orders = self._orders(run, answers)
        if not orders:
            return
        step = STEP_OF[run.state]
        sent_to = again.instances(self.redis, step, {order.host_id for order in orders})  # before they are sent
        dispatch(self.app, self.runs, run, orders, sent_to)

    def _asked(self, run: Run, answers: Answers) -> Run | None:
        """Return a run as the repository knows it, and store that; None if another look was faster."""
        if run.sealed is not None:
            return run
        known = seal_state.settled(run, self._seal_state(run, answers))
        if known == run:
            return run
        loaded = self.runs.load(run.capture_id)
        if loaded is None or loaded[0] != run or not self.runs.change(known, loaded[1], tell=False):
            return None
        return known

    def _known(self, run: Run, answers: Answers, *, wait: bool) -> Run | None:
        """Return a run that ends as the repository knows it; None if it has to wait for that."""
        if run.sealed is not None:
            return run
        return seal_state.ended(run, self._seal_state(run, answers), wait=wait)

    def _seal_state(self, run: Run, answers: Answers) -> seal_state.SealState:
        return seal_state.ask(self.repository, run, was_refused=refused.in_prepare(run, answers.prepared))

    def tell_hanging(self, capture_id: str) -> None:
        """Warn the callers of a run if its seal does not come back. Raises redis errors."""
        loaded = self.runs.load(capture_id)
        text = loaded and seal_wait.hanging(loaded[0], self.repository.address, datetime.now(UTC))
        if loaded and text:
            seal_wait.tell(self.runs, loaded[0], text)

    def send_again(self, run: Run) -> None:
        """Send those orders again that a worker was killed with before it had begun them."""
        if not run.dispatched or run.state not in STEP_OF:
            return
        step = STEP_OF[run.state]
        now = again.changed(run, again.instances(self.redis, step, again.hosts_of(run)))
        if not now:  # as a rule: the orders of all guests are made only if some may be lost
            return
        answers = self.runs.answers(run.capture_id)
        lost = again.lost_orders(step, self._orders(run, answers), answers.fields, run.sent_to, now)
        if lost:
            log.warning("orders may be lost with a worker", capture=run.capture_id, hosts=[one.host_id for one in lost])
            sent_to = run.sent_to | {one.host_id: now[one.host_id] for one in lost}
            dispatch(self.app, self.runs, run, lost, sent_to)

    def _orders(self, run: Run, answers: Answers) -> list[Order]:
        release_until = run.entered_at + timedelta(seconds=self.settings.release_validity_s)
        return orders_of(run, answers.prepared, release_until)

    def _next(self, run: Run, answers: Answers, now: datetime, stalled: Mapping[str, Fault]) -> Run | None:
        """Return the run as it should be next; None if it has to wait. `now` is the moment by which it is dated."""
        following = decision.cancelled(run, now, self.settings) or self._following(run, answers, now, stalled)
        if following is None:
            return None
        if following.state is RunState.TRANSFERRING:  # it was cancelled while guests were held
            following = decision.cancelled(following, now, self.settings) or following
        if following.state.ended:
            known = self._known(following, answers, wait=now < run.due_at)
            return known and self._ended(known, answers, now)
        return following

    def _following(self, run: Run, answers: Answers, now: datetime, stalled: Mapping[str, Fault]) -> Run | None:
        """Return what the answers and the repository call for; None if the run has to wait, or has ended."""
        match run.state:
            case RunState.ASKED:
                following = self._planner().alone(run)
            case RunState.QUEUED:
                following = self._planner().called(run)
            case RunState.PREPARING:
                # the inventory is read only if somebody has to be looked for in it
                hosts = known_hosts(self.redis) if lost_guests(run, answers.prepared) else ()
                following = decision.after_prepare(run, answers.prepared, now, self.settings, hosts)
            case RunState.HOLDING:
                following = decision.after_hold(run, answers.held, now, self.settings, answers.prepared)
            case RunState.TRANSFERRING:
                expected = expected_transfers(run, answers.prepared)
                following = decision.after_transfer(
                    run, answers.transferred, expected, now, self.settings, stalled, answers.prepared, answers.seen
                )
            case RunState.SEALING:
                following = self._seal(run, answers, now)
            case RunState.RELEASING:
                following = decision.after_release(run, answers.released, now, self.settings)
            case _:
                following = None  # it has ended
        return following

    def _planner(self) -> planning.Planner:
        return planning.Planner(
            self.redis,
            self.runs,
            self.repository,
            self.settings,
            self.briefs,
            self.boards,
            self.at_work,
            self.sight,
            self.plans,
        )

    def _seal(self, run: Run, answers: Answers, now: datetime) -> Run | None:
        """Write the manifest: the commit. None: the storage is in trouble, and there is time to wait for it."""
        definitions = self.runs.definitions(run.capture_id, definition_fields(run, answers.prepared))
        made = partial(_manifest, answers, definitions)
        try:
            self._answered(lambda: self.repository.seal(made(run)), _seal_s(run, now))
        except Exception as error:  # noqa: BLE001  also a defect: the next look would meet it again
            return self._not_sealed(run, made, error)
        # the seal may have taken longer than the hosts have for their release
        return decision.enter(run, RunState.RELEASING, datetime.now(UTC), self.settings, sealed=True)

    def _not_sealed(self, run: Run, made: Callable[[Run], Manifest], error: Exception) -> Run | None:
        """Wait, go on without the guests that cannot be sealed, or give the run up."""
        now = datetime.now(UTC)
        run = clocks.dated_anew(run, now) or run  # the clock may have been set right while the seal hung
        in_time = now < run.due_at
        error = seal_wait.passing(error)
        guests: list[tuple[str, Fault]] = []
        trouble = is_store_trouble(error)
        if not (trouble and in_time):
            try:
                guests = self._unsealable(run, made, error, now)
                trouble = trouble or isinstance(error, IndexDamaged)  # which is whole now: it is tried again
            except Exception as found:  # noqa: BLE001  the storage, as a rule: no guest's fault
                error = seal_wait.passing(found)
                trouble = is_store_trouble(error)
        now = datetime.now(UTC)
        if guests:
            log.error("some guests are not sealed", capture=run.capture_id, guests=[uuid for uuid, _ in guests])
            return decision.without_unsealable(run, guests, now, self.settings)
        if trouble and in_time:
            seal_wait.tell(self.runs, run, seal_wait.trouble(error, self.repository.address, run.due_at))
            return None
        log.error("not sealed", capture=run.capture_id, exc_info=error)
        faults = (*run.faults, fault_of(error))
        return decision.enter(run, RunState.RELEASING, now, self.settings, faults=faults, kept=())

    def _unsealable(
        self, run: Run, made: Callable[[Run], Manifest], error: Exception, now: datetime
    ) -> list[tuple[str, Fault]]:
        def find() -> list[tuple[str, Fault]]:
            return unsealable.find(self.repository, run, error, made, in_time=now < run.due_at)

        return self._answered(find, _seal_s(run, now))

    def _answered(self, call: Callable[[], ResultT], patience_s: float) -> ResultT:
        """Return what the repository does, or raise. Raises RepositoryNotReadable if it takes longer than that."""
        return answered(f"The repository at {self.repository.address}", patience_s, call)

    def _ended(self, run: Run, answers: Answers, now: datetime) -> Run:
        sessions.end(self.repository, run)
        manifest, lost = self._sealed_manifest(run)
        found = [*lost, *(text for _, text in warnings_of(answers.prepared, answers.transferred))]
        run = touched.failed(run.model_copy(update={"warnings": (*run.warnings, *found)}), answers.held)
        return run.model_copy(update={"receipt": receipt_of(run, now, manifest, answers.transferred)})

    def _sealed_manifest(self, run: Run) -> tuple[Manifest | None, tuple[str, ...]]:
        """Return the manifest of a sealed run; none, and a warning, if it is gone or cannot be understood any more.

        Raises RepositoryError while the repository is away.
        """
        if not run.sealed:
            return None, ()
        try:
            return self._answered(lambda: self.repository.manifest(run.capture_id), sessions.PATIENCE_S), ()
        except CaptureNotFound:
            gone = "The capture was sealed, and has been forgotten since: nothing of it is left to restore."
            return None, (gone,)
        except (RepositoryDamaged, RepositoryUnsupported, ManifestUnreadable) as error:
            return None, (f"The capture was sealed, and its manifest cannot be read now: {error.message} {error.hint}",)


def _manifest(answers: Answers, definitions: Mapping[str, Definition | Unread], run: Run) -> Manifest:
    return manifest_of(run, answers.prepared, answers.held, answers.transferred, answers.seen, definitions)


def _seal_s(run: Run, now: datetime) -> float:
    """Return seconds for a seal that has begun: no answer must come for the run to end all the same. Pure."""
    return max((run.due_at - now).total_seconds(), SEAL_S)


def _is_news(before: Run, following: Run) -> bool:
    """Return True if callers are told of a change. Pure."""
    return following.state is not before.state or following.queued != before.queued
