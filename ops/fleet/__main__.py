"""A fleet as a process of its own: `python -m ops.fleet REDIS_URL DIRECTORY HOSTS GUESTS_A_HOST DISKS`.

It prints a line when it is ready, and another when it has done what a line of its input says:

| take-orders  | all workers wait for orders; each wait lasts until one comes, so that waiting costs nothing that is counted |
| take-control | those for all but transfers do                                                                              |
| publish      | each host puts itself into the inventory, once, and counts as up from then on                               |
| recover      | each host looks once for captures that nobody will release                                                  |
| live         | each host does both from now on, and tells Flower that it lives                                             |
| idle         | the same, and workers wait for orders as real ones do, two seconds at a time                                |

It ends with its input.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from freezeframe import log
from freezeframe.contract.words import Step
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings
from freezeframe.transport import POLL_S
from ops.fleet import indexes
from ops.fleet.fleet import Fleet
from ops.fleet.made_up import MadeUp
from ops.fleet.steps import MadeUpSteps

#: Seconds after which a thread lets another one run: a thousand threads share one lock, and most only pass a message on.
SWITCH_S = 0.0005
CONTROL = (Step.PREPARE, Step.HOLD, Step.RELEASE)
#: BRPOP's time-out for none.
FOR_EVER = 0


def main(redis_url: str, directory: str, *numbers: str) -> None:
    log.configure(logging.WARNING)
    sys.setswitchinterval(SWITCH_S)
    made_up = MadeUp(*map(int, numbers))
    repository = Repository.open(Path(directory) / "repository")
    steps = MadeUpSteps(made_up, indexes.store(repository, made_up.sizes()))
    settings = BusSettings.model_validate({"redis_url": redis_url})
    with Fleet(settings, Path(directory) / "hosts", steps) as fleet:
        verbs = verbs_of(fleet)
        print("ready", flush=True)
        for line in sys.stdin:
            verbs[line.strip()]()
            print("done", flush=True)
        os._exit(0)  # threads may wait for a gate that nobody comes to


def verbs_of(fleet: Fleet) -> Mapping[str, Callable[[], None]]:
    """Return what a fleet can be told."""

    def take_orders(poll_s: int) -> None:
        fleet.open_lines(*CONTROL, poll_s=poll_s)
        fleet.open_lines(Step.TRANSFER, poll_s=poll_s)

    def publish() -> None:
        fleet.publish()
        fleet.stay_up()  # who waits for an orchestrator to start and to plan may wait for longer than a host may be silent

    def idle() -> None:
        take_orders(POLL_S)
        fleet.live()

    return {
        "take-orders": partial(take_orders, FOR_EVER),
        "take-control": partial(fleet.open_lines, *CONTROL, poll_s=FOR_EVER),
        "publish": publish,
        "recover": fleet.recover,
        "live": fleet.live,
        "idle": idle,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
