"""The lease of a dispatch: which process sends the orders of a run's state, since when, and for how long at most. Pure.

    new state ─▶ lease ─▶ orders on their queues ─▶ dispatched, no lease
                   │                │
                   │                └─ Redis refuses: no lease, and the reconciler sends them at its next look
                   └─ the process ends: the reconciler sends them when the lease has run out

The lease is taken by compare-and-set, so of two looks one sends. Without it a dispatch that took longer than the reconciler
waits was sent a second time beside the first.
"""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta

from orchestrator.run import Lease, Run

#: Time that a run may stay in a state before another look sends the orders: a look takes the lease right after the change.
GRACE = timedelta(seconds=10)
#: Seconds for a dispatch, and for each of its orders. Sending one takes 2 ms of CPU and two exchanges with Redis; with all
#: threads of the orchestrator at work and a Redis a few milliseconds away, 20 ms.
DISPATCH_S = 10.0
ORDER_S = 0.02


def take(orders: int, now: datetime) -> Lease:
    """Return this process's lease for sending that many orders."""
    return Lease(by=f"{socket.gethostname()}/{os.getpid()}", since=now, seconds=DISPATCH_S + orders * ORDER_S)


def is_held(run: Run, now: datetime) -> bool:
    """Return True while the orders are being sent. A clock that is set back ends a lease: orders that come twice do no harm."""
    lease = run.lease
    return lease is not None and lease.since <= now < lease.since + timedelta(seconds=lease.seconds)


def is_due(run: Run, now: datetime) -> bool:
    """Return True if the orders of the run's state were not sent, and no process is sending them."""
    if run.dispatched or is_held(run, now):
        return False
    return run.lease is not None or now > run.entered_at + GRACE
