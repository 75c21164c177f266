"""A pytest plugin that has threads begin late: `-p tests.late.threads`, with FREEZEFRAME_LATE_SEED for the draw.

A loaded machine begins a thread when it likes. A test that is right only while threads begin at once fails there, and seldom.
Half of all threads and of a pool's calls, and half of all guests' holds, begin up to `LATEST_S` late here.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import thread as pool
from functools import wraps
from typing import Any

from workers.steps.guest_in_hold import HeldGuest

#: Seconds. Longer than what tests wait for in passing, shorter than what they give up after.
LATEST_S = 0.1

_draw = random.Random(int(os.environ.get("FREEZEFRAME_LATE_SEED", "0")))  # noqa: S311  no secret


def pytest_configure() -> None:
    for owner, name in ((threading.Thread, "run"), (pool._WorkItem, "run"), (HeldGuest, "take")):
        setattr(owner, name, _late(getattr(owner, name)))


def _late(begin: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(begin)
    def late(*args: Any, **kwargs: Any) -> Any:
        if _draw.random() < 0.5:
            time.sleep(_draw.random() * LATEST_S)
        return begin(*args, **kwargs)

    return late
