"""The orchestrator's Celery app: intake and look, on one queue, in threads; and the reconciler beside them.

    celery -A orchestrator.app worker -Q orchestrator -P threads

`freezeframe orchestrator` starts it with the right options.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import structlog
from celery.signals import worker_ready, worker_shutting_down
from prometheus_client import start_http_server
from pydantic import ValidationError

from freezeframe import bus
from freezeframe.access import open_repository
from freezeframe.contract import names
from freezeframe.contract.request import CaptureRequest
from freezeframe.settings import BusSettings, OrchestratorSettings, load
from orchestrator.intake import take_in_patiently
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Runs

log = structlog.get_logger("orchestrator")

app = bus.celery_app("orchestrator", load(BusSettings))
_stop = threading.Event()


@functools.cache
def orchestrator() -> Orchestrator:
    """What the tasks of this process work with."""
    settings = load(OrchestratorSettings)
    client = bus.connect(load(BusSettings))
    return Orchestrator(
        app=app,
        redis=client,
        runs=Runs(client, settings.run_retention_s),
        settings=settings,
        repository=open_repository(),
    )


@app.task(name=names.INTAKE_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
def intake(payload: dict[str, Any], not_after_us: int | None = None) -> None:
    """Take in a request for a capture, which its caller gives up at `not_after_us` of Redis's clock."""
    try:
        request = CaptureRequest.model_validate(payload)
    except ValidationError as error:
        log.warning("unreadable request", faults=error.error_count())
        return
    take_in_patiently(orchestrator(), request, not_after_us)


@app.task(name=names.LOOK_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
def look(capture_id: str) -> None:
    """Look at a run: the body of every chord."""
    orchestrator().look(capture_id)


@worker_ready.connect  # type: ignore[untyped-decorator]
def _begin(**_: object) -> None:
    settings = load(OrchestratorSettings)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr="127.0.0.1")
    reconciler = Reconciler(orchestrator())
    threading.Thread(target=reconciler.run_forever, args=(_stop,), name="reconciler", daemon=True).start()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _end(**_: object) -> None:
    _stop.set()
