"""`freezeframe orchestrator`: the control plane's verb, found through the entry points of `freezeframe.commands`."""

from __future__ import annotations

import gc
import warnings

from celery.platforms import SecurityWarning
from celery.signals import setup_logging

from freezeframe import bus, eviction, log
from freezeframe.access import open_repository
from freezeframe.contract import names
from freezeframe.settings import BusSettings, HostSettings, load

#: Requests taken in at once: each is a few exchanges with Redis. What may wait for the repository is done by crews (`crew`).
THREADS = 8
#: Seconds between two heartbeats to Flower; Celery's 2 s is chatter.
HEARTBEAT_S = 10
#: Objects that are made until Python looks for cycles among the young ones; such looks until it looks among older ones; and of
#: these until it looks among all. Records and answers have no cycles, and 10,000 guests are some million objects: with Python's
#: own 700, 10 and 10 the looks take a fifth of the orchestrator's time.
GC_THRESHOLDS = (10_000, 20, 100)


def orchestrator() -> None:
    """Run the orchestrator: it plans captures, orders them from the hosts, and seals them in the repository."""
    log.configure()
    setup_logging.connect(_keep_logging)
    # running as root is usual here; that JSON is all a worker accepts is why this is no danger
    warnings.filterwarnings("ignore", category=SecurityWarning)
    open_repository()  # without one no capture can be sealed: say so at the start
    # it reads the settings, which is for this verb only; and a package that is missing is told before Redis is waited for
    from orchestrator.app import app  # noqa: PLC0415

    with bus.connect(load(BusSettings)) as client:
        eviction.check(client)
    bus.give_back(app)  # what one that was killed had taken
    gc.freeze()  # what was imported stays
    gc.set_threshold(*GC_THRESHOLDS)
    bus.run_worker(app, worker_options(load(HostSettings).host_id))


def worker_options(host_id: str) -> list[str]:
    """Celery's options for the orchestrator on that machine."""
    return [
        *("-P", "threads", "-c", str(THREADS), "-Q", names.ORCHESTRATOR_QUEUE, "-n", f"orchestrator@{host_id}"),
        *("-E", "--without-gossip", "--without-mingle", "--heartbeat-interval", str(HEARTBEAT_S)),
    ]


def _keep_logging(**_: object) -> None:
    """Celery sets up logging of its own unless somebody says that it is done."""
