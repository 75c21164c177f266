"""A control worker whose prepares hang: `python -m tests.unit.workers.step_probe DIRECTORY`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.contract.words import Step
from freezeframe.settings import BusSettings, HostSettings, load
from workers.commands.worker import Role, configure, worker_options


def main() -> None:
    """Run the worker; each task leaves a file in the directory."""
    settings = load(HostSettings)
    directory = Path(sys.argv[1])
    app = bus.celery_app(f"host.{settings.host_id}", load(BusSettings))

    @app.task(name=names.STEP_TASKS[Step.PREPARE], shared=False)  # type: ignore[untyped-decorator]
    def prepare(number: int) -> None:
        (directory / f"prepare-{number}").touch()
        while not (directory / "go-on").exists():
            time.sleep(0.05)

    for step in (Step.HOLD, Step.RELEASE):

        @app.task(name=names.STEP_TASKS[step], shared=False)  # type: ignore[untyped-decorator]
        def done(name: str) -> None:
            (directory / name).touch()

    configure(app, Role.CONTROL)
    bus.run_worker(app, worker_options(Role.CONTROL, settings))


if __name__ == "__main__":
    main()
