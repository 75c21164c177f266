"""`freezeframe orchestrator`: the control plane's verb, found through the entry points of `freezeframe.commands`."""

from __future__ import annotations

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
    bus.run_worker(app, worker_options(load(HostSettings).host_id))


def worker_options(host_id: str) -> list[str]:
    """Celery's options for the orchestrator on that machine."""
    return [
        *("-P", "threads", "-c", str(THREADS), "-Q", names.ORCHESTRATOR_QUEUE, "-n", f"orchestrator@{host_id}"),
        *("-E", "--without-gossip", "--without-mingle", "--heartbeat-interval", str(HEARTBEAT_S)),
    ]


def _keep_logging(**_: object) -> None:
    """Celery sets up logging of its own unless somebody says that it is done."""
