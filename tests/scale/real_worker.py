"""A real worker of a real host whose steps are made up: `python -m tests.scale.real_worker control|data`.

It is all that a worker is, from Celery's consumer to the journal, but for what it does with an order.
"""

from __future__ import annotations

import sys

from freezeframe import bus, log
from freezeframe.settings import HostSettings, load
from ops.fleet.made_up import SIZE_STEP_BYTES, MadeUp
from ops.fleet.steps import MadeUpSteps
from workers.commands.worker import Role, configure, worker_options
from workers.steps import table

MADE_UP = MadeUp(1, 1, 1)
STEPS = MadeUpSteps(MADE_UP, {SIZE_STEP_BYTES: "a" * 64})


def main() -> None:
    """Run the worker until it is killed."""
    log.configure()
    role = Role(sys.argv[1])
    for step, code in STEPS.codes().items():
        setattr(table, step.name, code)
    from workers.app import app  # noqa: PLC0415  reads the settings, and is for this program only

    configure(app, role)
    bus.run_worker(app, worker_options(role, load(HostSettings)))


if __name__ == "__main__":
    main()
