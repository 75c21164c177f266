"""Send a step's orders under a lease, and note in the run's record that they were sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import redis
from celery import Celery

from freezeframe.contract.order import Order
from orchestrator import lease
from orchestrator.path import STEP_OF, send
from orchestrator.run import Lease, Run, Runs


def dispatch(app: Celery, runs: Runs, run: Run, orders: Sequence[Order], sent_to: Mapping[str, str]) -> None:
    """Send the orders; do nothing if the run has changed, or another look sends them. Raises what sending them raises."""
    taken = lease.take(len(orders), datetime.now(UTC))
    if not _take(runs, run, taken):
        return
    try:
        send(app, STEP_OF[run.state], orders)
    except Exception:
        with suppress(redis.RedisError):  # the lease runs out by itself
            _end(runs, run, taken)
        raise
    _end(runs, run, taken, dispatched=True, sent_to=dict(sent_to))


def _take(runs: Runs, run: Run, taken: Lease) -> bool:
    """Return True if the run has that lease now; False if its orders are others by now, or another look sends them."""
    while (loaded := runs.load(run.capture_id)) is not None:
        found, version = loaded
        if _orders_of(found) != _orders_of(run) or lease.is_held(found, taken.since):
            return False
        if runs.change(found.model_copy(update={"lease": taken}), version, tell=False):
            return True
    return False


def _orders_of(run: Run) -> tuple[object, ...]:
    """Return what tells the orders of one state of a run from those of another."""
    return run.state, run.round, run.sealed, run.dispatched


def _end(runs: Runs, run: Run, taken: Lease, **changes: object) -> None:
    """Note what became of a dispatch, unless the run has come to another state since, or another look has sent again."""
    while (loaded := runs.load(run.capture_id)) is not None:
        found, version = loaded
        if (found.state, found.lease) != (run.state, taken):
            return
        if runs.change(found.model_copy(update={"lease": None, **changes}), version, tell=False):
            return
