"""A worker with tasks of no consequence, set up as every worker of Freezeframe is: `python -m tests.unit.bus.probe POOL`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.contract.words import Step
from freezeframe.settings import BusSettings, load

QUEUE = "host.host-a.control"
TASK = "probe"
SLOW_TASK = "slow"

app = bus.celery_app("host.host-a", load(BusSettings))


@app.task(name=TASK)  # type: ignore[untyped-decorator]
def probe(key: str) -> str:
    """Set a key in Redis, which shows that the task was done."""
    bus.connect(load(BusSettings)).set(key, "done")
    return key


@app.task(name=SLOW_TASK)  # type: ignore[untyped-decorator]
def slow(begun: str, until: str) -> str:
    """Create one file, and return when there is the other."""
    Path(begun).touch()
    while not Path(until).exists():
        time.sleep(0.02)
    return until


# not shared: the apps of other tests in this process have tasks of these names themselves
@app.task(name=names.STEP_TASKS[Step.PREPARE], shared=False)  # type: ignore[untyped-decorator]
def prepare(order: dict[str, object]) -> str:
    """Count an order of a chord."""
    bus.connect(load(BusSettings)).incr("prepared")
    return str(order["host_id"])


@app.task(name=names.LOOK_TASK, shared=False)  # type: ignore[untyped-decorator]
def look(capture_id: str) -> None:
    """Set a key that is named like the capture, as the body of its chord."""
    bus.connect(load(BusSettings)).set(capture_id, "done")


def main() -> None:
    """Run the worker. With `fragile` its first refusal ends it, as Celery's default has it."""
    pool, *rest = sys.argv[1:]
    if "fragile" in rest:
        app.conf.broker_channel_error_retry = False
    options = ["-P", pool, "-c", "2", "-Q", f"{QUEUE},{names.ORCHESTRATOR_QUEUE}", "-n", "control@host-a"]
    bus.run_worker(app, [*options, "-E", "--without-gossip", "--without-mingle", "--heartbeat-interval", "1"])


if __name__ == "__main__":
    main()
