"""A host's Celery app: its tasks, on its own three queues.

    control   prepare         ┐ one process, threads for each step (`step_pool`), a warm libvirt connection; and the
    hold      hold, release   ┘ inventory beside them
    data      transfer          a process for each, so that hashing and compressing have a core each

`freezeframe worker control` and `freezeframe worker data` start it with the right options.
"""

from __future__ import annotations

import threading
from typing import Any

import structlog
from celery.signals import task_failure, task_postrun, worker_process_init, worker_ready, worker_shutting_down

from freezeframe import bus, redis_pool
from freezeframe.contract import names
from freezeframe.contract.words import Step
from freezeframe.settings import BusSettings, HostSettings, load
from workers import instance, inventory, recovery, writers
from workers.host import Host, this_host
from workers.scratch import watcher
from workers.steps import table
from workers.steps.frame import StepCode, run_step
from workers.steps.interruption import settle_interrupted

log = structlog.get_logger("worker")

_host_id = load(HostSettings).host_id
app = bus.celery_app(f"host.{_host_id}", load(BusSettings))
_stop = threading.Event()

Payload = dict[str, Any]


@app.task(name=names.STEP_TASKS[Step.PREPARE])  # type: ignore[untyped-decorator]
def prepare_task(order: Payload) -> Payload:
    """Everything slow or doubtful, before any guest is touched."""
    return run_step(this_host(), table.PREPARE, order)


@app.task(name=names.STEP_TASKS[Step.HOLD])  # type: ignore[untyped-decorator]
def hold_task(order: Payload) -> Payload:
    """Hold, begin, meet the other hosts, let go."""
    return run_step(this_host(), table.HOLD, order)


@app.task(name=names.STEP_TASKS[Step.TRANSFER])  # type: ignore[untyped-decorator]
def transfer_task(order: Payload) -> Payload:
    """One disk into the repository."""
    return run_step(this_host(), table.TRANSFER, order)


@app.task(name=names.STEP_TASKS[Step.RELEASE])  # type: ignore[untyped-decorator]
def release_task(order: Payload) -> Payload:
    """Leave every guest as it was found."""
    return run_step(this_host(), table.RELEASE, order)


@worker_ready.connect  # type: ignore[untyped-decorator]
@bus.ends_if_it_fails
def _begin(sender: Any, **_: object) -> None:
    """Answer for what an earlier worker of this kind left unanswered; the control worker also recovers and publishes.

    Orders and the inventory do not wait for that: whatever is odd about one capture, the host is there for the others.
    """
    host = this_host()
    if names.control_queue(_host_id) not in sender.app.amqp.queues.consume_from:
        _settle(host, table.DATA_STEPS)
        instance.begin(host.settings.state_dir, instance.DATA)
        return
    looks = recovery.Looks()
    for name, work in {
        "inventory": lambda: inventory.publish_forever(host, _stop, looks),
        "recovery": lambda: _recover_forever(host, looks),
        "scratch": lambda: watcher.watch_forever(host, _stop),
        "writers": lambda: writers.watch_forever(host, _stop),
    }.items():
        bus.start_beside(name, work)


def _recover_forever(host: Host, looks: recovery.Looks) -> None:
    _settle(host, (table.PREPARE, table.HOLD))
    instance.begin(host.settings.state_dir, instance.CONTROL)
    _settle(host, (table.RELEASE,))
    recovery.sweep(host)
    recovery.recover_forever(host, _stop, looks)


def _settle(host: Host, codes: tuple[StepCode[Any, Any], ...]) -> None:
    try:
        settle_interrupted(host, codes)
    except Exception:  # a defect; recovery must begin all the same
        log.exception("interrupted steps were not answered")


@task_failure.connect  # type: ignore[untyped-decorator]
def _lost(**_: object) -> None:
    """Tasks never raise, so one that failed has lost its process; what it was at work on is answered here."""
    settle_interrupted(this_host(), table.DATA_STEPS)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _forked(**_: object) -> None:
    """A process that was forked opens connections of its own, and waits for its next transfer without one to Redis."""
    this_host.cache_clear()
    task_postrun.connect(_close_connections)


def _close_connections(**_: object) -> None:
    redis_pool.shared(load(BusSettings)).disconnect()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _end(**_: object) -> None:
    _stop.set()
