"""The orchestrator's Celery app: intake and look, on one queue, in threads; the crews and the reconciler beside them.

    celery -A orchestrator.app worker -Q orchestrator -P threads

`freezeframe orchestrator` starts it with the right options.
"""

from __future__ import annotations

import functools
import threading

import structlog
from celery.signals import worker_ready, worker_shutting_down
from prometheus_client import start_http_server

from freezeframe import bus, heartbeat, known_run
from freezeframe.access import open_repository
from freezeframe.contract import names
from freezeframe.printable import one_line
from freezeframe.settings import BusSettings, OrchestratorSettings, load
from orchestrator import unread_request
from orchestrator.crew import Crew
from orchestrator.intake import cancel_patiently, refuse_patiently, take_in_patiently
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Runs

log = structlog.get_logger("orchestrator")

#: Characters of a name that a request to cancel gives.
LONGEST_WHO = 200

app = bus.celery_app("orchestrator", load(BusSettings))
_stop = threading.Event()

#: Threads that plan, look and cancel. Each plan reads 32 manifests at once; of looks most take milliseconds.
_plans, _looks, _cancels = _crews = Crew("plan", 8), Crew("look", 16), Crew("cancel", 4)


@functools.cache
def orchestrator() -> Orchestrator:
    """What the tasks of this process work with."""
    settings = load(OrchestratorSettings)
    client = bus.shared_client(load(BusSettings))
    made = Orchestrator(
        app=app,
        redis=client,
        runs=Runs(client, settings.run_retention_s),
        settings=settings,
        repository=open_repository(),
        plans=_plans,
    )
    made.sight.lose()  # this machine may have been away together with its Redis
    return made


# what a caller asks for is acknowledged once it is recorded: twice is once, so a process that ends meanwhile loses nothing
@app.task(name=names.INTAKE_TASK, ignore_result=True, acks_late=True)  # type: ignore[untyped-decorator]
def intake(payload: object = None, not_after_us: object = None, *more: object, **named: object) -> None:
    """Take in a request for a capture, which its caller gives up at `not_after_us` of Redis's clock.

    One that this version cannot read, whatever its message consists of, is refused: its caller waits for an answer.
    """
    try:
        request, until_us = unread_request.parsed(payload, not_after_us, more=bool(more or named))
    except unread_request.UnreadableRequestError as error:
        refuse_patiently(orchestrator(), payload, error)
        return
    take_in_patiently(orchestrator(), request, until_us)


@app.task(name=names.LOOK_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
def look(capture_id: str) -> None:
    """Have a run looked at: the body of every chord."""
    _looks.soon(capture_id)


@app.task(name=names.CANCEL_TASK, ignore_result=True, acks_late=True)  # type: ignore[untyped-decorator]
def cancel(capture_id: object = None, who: object = "", *_: object, **__: object) -> None:
    """Have a run end without a capture, for `who`, unless it is too late."""
    if not isinstance(capture_id, str) or not known_run.is_id(capture_id):
        log.warning("a request to cancel that names no capture")
        return
    cancel_patiently(orchestrator(), capture_id, one_line(str(who))[:LONGEST_WHO] or "somebody", _cancels.soon)


@worker_ready.connect  # type: ignore[untyped-decorator]
@bus.ends_if_it_fails
def _begin(**_: object) -> None:
    settings = load(OrchestratorSettings)
    for crew in _crews:
        crew.start(lambda capture_id: orchestrator().look(capture_id))
    reconciler = Reconciler(orchestrator())
    bus.start_beside("reconciler", lambda: reconciler.run_forever(_stop))
    heartbeat.beat_while(lambda: reconciler.at_work() and all(crew.is_whole() for crew in _crews))
    if settings.metrics_port:
        _serve_metrics(settings.metrics_port)


def _serve_metrics(port: int) -> None:
    """Serve metrics on this machine; a port that is taken, say, keeps the orchestrator from nothing else."""
    try:
        start_http_server(port, addr="127.0.0.1")
    except (OSError, RuntimeError) as error:
        log.error("metrics are not served", port=port, why=str(error), setting="FREEZEFRAME_METRICS_PORT")  # noqa: TRY400


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _end(**_: object) -> None:
    _stop.set()
    for crew in _crews:
        crew.end()
