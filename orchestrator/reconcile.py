"""The reconciler: looks at every run that has not ended, every few seconds, by the same calls as the chords' bodies.

It finds what chords lose: orders that were never sent, or were lost with the worker that had taken them, a body that never
came, a host that stays silent past its deadline, a transfer that no longer moves. A look that takes long keeps no other run
waiting (`apart`), and plans have threads of their own (`crew`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

import redis
import structlog

from freezeframe import redis_fault, redis_pool
from freezeframe.contract.fault import Fault
from freezeframe.contract.words import RunState, Step
from freezeframe.errors import FreezeframeError
from orchestrator import admission, clocks, lease, metrics, sessions
from orchestrator.apart import Apart
from orchestrator.look import Orchestrator
from orchestrator.path import STEP_OF
from orchestrator.run import Run
from orchestrator.stall import Stalls
from orchestrator.transfers import Transfer, expected_transfers

log = structlog.get_logger("reconcile")

#: Seconds between two looks for sessions that were left: they keep garbage, and do no other harm.
SESSIONS_S = 600.0

#: Seconds for a look until the next run has its turn: many times what one takes while the repository answers.
LOOK_S = 5.0

#: Seconds for which a run that has left its transfers is asked for signs of life after the last: hosts report each 5 s.
LEFT_S = 20.0

#: Redis does not answer: no run can be looked at, so the others are not tried. What Redis refuses may be one run's key.
AWAY = (redis.ConnectionError, redis.TimeoutError)


class Reconciler:
    """Looks at runs, and remembers from look to look when each host's transfers last moved (`stall`)."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._stalls = Stalls()
        self._transferring: dict[str, Run] = {}
        self._left: list[str] = []  # runs that have left their transfers, which may not have ended on hosts
        self._troubled: dict[str, float] = {}  # runs that cannot be looked at, and since when
        self._sessions_due = 0.0
        self._came_on = time.monotonic()
        self._sessions = sessions.Seen()
        self._apart = Apart()
        #: Seconds after which the loop stands still, beside its pause: a look, or one command to Redis with all its tries.
        self.stands_s = LOOK_S + redis_pool.longest_s(orchestrator.redis)

    def at_work(self) -> bool:
        """Return True if the loop has come on lately. Any thread may ask."""
        return time.monotonic() - self._came_on < self.stands_s + self._orchestrator.settings.reconcile_interval_s

    def run_forever(self, stop: threading.Event) -> None:
        while not stop.wait(self._orchestrator.settings.reconcile_interval_s):
            try:
                self.reconcile()
            except (redis.RedisError, FreezeframeError, OSError) as error:
                log.warning("reconciling was interrupted", why=str(error))
            except Exception:
                log.exception("reconciling failed")  # a defect; the next look may still help other runs

    def reconcile(self) -> None:
        """Look at every run that has not ended. Raises the redis errors that say that Redis is away."""
        try:
            self._reconcile()
        except redis_fault.BusyError:  # which says nothing of Redis
            raise
        except AWAY:
            self._stalls.lose_sight()
            self._orchestrator.sight.lose()
            raise

    def _reconcile(self) -> None:
        self._came_on = time.monotonic()
        active = self._active()
        # of a run whose look goes on counts what was seen of it last: else its hosts' silence would begin anew
        runs = [(self._looked(one) or self._transferring.get(one)) for one in active]
        self._transferring = {run.capture_id: run for run in runs if run and run.state is RunState.TRANSFERRING}
        self._find_stalled(list(self._transferring.values()))
        self._end_sessions()

    def _active(self) -> list[str]:
        """Return the runs that have not ended; those that have, unseen, free their places."""
        client, boards, runs = self._orchestrator.redis, self._orchestrator.boards, self._orchestrator.runs
        try:
            board = boards.read(client)
            active = runs.active()
            admission.sweep(client, boards, board, active)
        except redis.ResponseError as error:  # no reason to look at no run
            log.warning("places of ended runs are not freed yet", why=redis_fault.words_of(error))
            active = runs.active()
        for capture_id in set(self._troubled).difference(active):
            self._troubled.pop(capture_id, None)
        return active

    def _looked(self, capture_id: str) -> Run | None:
        """Return the run as it is after a look; None also while that look goes on."""
        self._came_on = time.monotonic()
        run = self._apart.do(capture_id, partial(self._look, capture_id), LOOK_S)
        if run is None:
            self._apart.do(f"the callers of {capture_id}", partial(self._tell_hanging, capture_id), LOOK_S)
        return run

    def _tell_hanging(self, capture_id: str) -> None:
        with self._alone(capture_id):
            self._orchestrator.tell_hanging(capture_id)

    def _look(self, capture_id: str) -> Run | None:
        """Return the run as it is after a look; None if there is none, or none that can be looked at."""
        run = None
        with self._alone(capture_id):
            run = self._orchestrator.look(capture_id)
            if run is None and self._orchestrator.runs.is_there(capture_id):
                log.error("a run's record is not understood; is a newer orchestrator at work?", capture=capture_id)
            elif run is None:
                log.warning("a run's record is gone", capture=capture_id)
                self._orchestrator.runs.forget_active(capture_id)
            elif not run.state.ended:
                self._push(run)
            self._troubled.pop(capture_id, None)
        return run

    @contextmanager
    def _alone(self, capture_id: str) -> Iterator[None]:
        """Keep one run's trouble from the other runs: it is counted and told, and ends it in time (`decision.give_up`)."""
        try:
            yield
        except redis_fault.BusyError as error:  # it may be looked at in the next round
            metrics.RUN_TROUBLES.inc()
            log.warning("a run cannot be looked at", capture=capture_id, why=str(error))
        except AWAY:  # it is all runs' trouble
            raise
        except Exception as error:
            metrics.RUN_TROUBLES.inc()
            log.exception("a run cannot be looked at", capture=capture_id)
            self._give_up(capture_id, error)

    def _give_up(self, capture_id: str, error: Exception) -> None:
        now = time.monotonic()
        troubled_s = now - self._troubled.setdefault(capture_id, now)
        try:
            self._orchestrator.give_up(capture_id, error, troubled_s)
        except AWAY:
            raise
        except Exception:  # the next look tries again
            log.exception("a run cannot be given up", capture=capture_id)

    def _end_sessions(self) -> None:
        if time.monotonic() >= self._sessions_due:
            self._sessions_due = time.monotonic() + SESSIONS_S
            self._came_on = time.monotonic()
            end_left = partial(
                sessions.end_left, self._orchestrator.repository, self._orchestrator.runs, self._sessions
            )
            self._apart.do("sessions", end_left, LOOK_S)

    def _push(self, run: Run) -> None:
        has_orders = run.state in STEP_OF  # sealing has none
        if has_orders and lease.is_due(run, datetime.now(UTC)):
            log.warning("orders were not sent", capture=run.capture_id, state=str(run.state))
            self._orchestrator.dispatch(run)
        self._orchestrator.send_again(run)

    def _find_stalled(self, runs: list[Run]) -> None:
        """End the transfers that are dead."""
        pulses: dict[str, dict[str, str]] = {}
        for capture_id in dict.fromkeys([*(run.capture_id for run in runs), *self._left]):
            self._came_on = time.monotonic()
            said = self._apart.do(f"the pulse of {capture_id}", partial(self._pulses, capture_id), LOOK_S)
            if said is not None:
                pulses[capture_id] = said
        runs = [run for run in runs if run.capture_id in pulses]
        now = time.monotonic()
        self._stalls.see({run.capture_id: run.members for run in runs if run.dispatched}, pulses, now)
        self._left = [capture_id for capture_id in pulses if self._stalls.speaks(capture_id, LEFT_S, now)]
        for run in runs:
            self._came_on = time.monotonic()
            self._apart.do(run.capture_id, partial(self._end_stalled_alone, run, self._stalls.copy(), now), LOOK_S)

    def _pulses(self, capture_id: str) -> dict[str, str] | None:
        """Return what a run's transfers said last; None if that is trouble of this run alone."""
        found: list[dict[str, str]] = []
        with self._alone(capture_id):
            found.append(self._orchestrator.runs.pulses(capture_id))
        return found[0] if found else None

    def _end_stalled_alone(self, run: Run, stalls: Stalls, now: float) -> None:
        with self._alone(run.capture_id):
            self._end_stalled(run, stalls, now)

    def _end_stalled(self, run: Run, stalls: Stalls, now: float) -> None:
        """`now` is the time of the clock by which `stalls` are dated."""
        at = datetime.now(UTC)
        late = at > clocks.due_at(run, at)
        store, settings = self._orchestrator.repository.address, self._orchestrator.settings
        judged = {one: stalls.trouble(run.capture_id, one, store, settings, now, late=late) for one in run.members}
        faults = {host_id: Fault.of(error, host=host_id) for host_id, error in judged.items() if error is not None}
        stuck = self._stuck(run, stalls, now)
        if not faults and not stuck:  # as a rule, and nobody goes through the disks of all guests
            return
        left = self._unanswered(run)
        unanswered = {one.host_id for one in left}
        faults = {host_id: fault for host_id, fault in faults.items() if host_id in unanswered}
        faults |= {
            one.field: one.stuck(stuck[one.pulse]) for one in left if one.pulse in stuck and one.host_id not in faults
        }
        if faults:
            self._orchestrator.look(run.capture_id, faults)

    def _stuck(self, run: Run, stalls: Stalls, now: float) -> dict[str, float]:
        """Return the seconds of transfers that have begun, not ended, and do nothing any more, by pulse_field."""
        still = stalls.still(run.capture_id, self._orchestrator.settings.transfer_store_s, now)
        if not still:
            return {}
        answered = self._orchestrator.runs.answers(run.capture_id).fields
        return {place: seconds for place, seconds in still.items() if f"{Step.TRANSFER}/{place}" not in answered}

    def _unanswered(self, run: Run) -> list[Transfer]:
        answers = self._orchestrator.runs.answers(run.capture_id)
        return [one for one in expected_transfers(run, answers.prepared) if one.field not in answers.fields]
