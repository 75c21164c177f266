"""`ops/bench orchestrate`: what the control plane costs, with hosts that one process plays (`ops/fleet`) over a real Redis.

| part    | the orchestrator                      | the hosts                                                            |
|---------|---------------------------------------|----------------------------------------------------------------------|
| rows    | captures all guests, from the request | take orders, meet at the gates, answer; their transfers read nothing |
|         | to the end                            |                                                                      |
| idle    | looks for runs every 2 s              | publish themselves, recover, wait for orders, tell Flower            |
| at_work | the same, and at the run of all       | the same; each has orders to read that nobody takes yet              |
|         | guests while it transfers             |                                                                      |
| history | a process of its own plans a capture  | none                                                                 |
|         | of 20 guests as it does (`history`)   |                                                                      |

The reconciler rests while a capture of `rows` is counted: its cost depends on how long guests are read, and is in `at_work`.
Every row has a Redis, a repository and an orchestrator of its own. CPU seconds are of the process, user and system.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from freezeframe.contract.words import Consistency, RunState
from ops.fleet.counts import Counts
from ops.fleet.made_up import MadeUp
from ops.fleet.site import Site, cpu_s
from ops.measure import history
from ops.measure.barrier import redis_server

GUESTS_A_HOST: Final = 10
DISKS: Final = 2
#: Seconds until idleness has settled, at most.
SETTLE_S: Final = 15.0
#: The reconciler's interval while a capture is counted.
NEVER_S: Final = "3600"


@dataclass(frozen=True)
class Sizes:
    """How much is measured. Of the most hosts idleness and work are, for so many seconds each."""

    hosts: tuple[int, ...]
    manifests: tuple[int, ...]
    delays_ms: tuple[int, ...] = history.DELAYS_MS
    seconds: float = 30.0


WHOLE: Final = Sizes((1, 10, 100, 1000), (1500, 15_000))
QUICK: Final = Sizes((1, 10), (100,), (0,), 5.0)


def run(directory: Path, sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure a row for each number of hosts, the largest of them idle and at work, and plans for each number of manifests."""
    rows = []
    for count in sizes.hosts:
        rows.append(row(directory / f"hosts-{count}", MadeUp(count, GUESTS_A_HOST, DISKS)))
        say(_words(rows[-1]))
    idle = at_rest(directory / "idle", MadeUp(max(sizes.hosts), GUESTS_A_HOST, DISKS), sizes.seconds)
    say("idle: " + _words(idle))
    reading = at_work(directory / "at-work", MadeUp(max(sizes.hosts), GUESTS_A_HOST, DISKS), sizes.seconds)
    say("at work: " + _words(reading))
    plans = []
    for count in sizes.manifests:
        for one in history.rows(directory / f"history-{count}", count, sizes.delays_ms):
            plans.append(one)
            say(_words(one))
    return {
        "bench": "orchestrate",
        "rows": rows,
        "largestover_100_guests": over_100(rows),
        "idle": idle,
        "at_work": reading,
        "history": plans,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def row(directory: Path, made_up: MadeUp) -> dict[str, Any]:
    """Capture all guests; return what one of them cost."""
    with _site(directory, FREEZEFRAME_RECONCILE_INTERVAL_S=NEVER_S) as site, site.fleet(made_up) as fleet:
        fleet.tell("take-orders")
        fleet.tell("publish")
        before = Counts.of(site.redis)
        course = site.capture()
        counts = Counts.of(site.redis) - before
    receipt = course.receipt
    assert receipt is not None
    assert (receipt.state, receipt.consistency) == (RunState.DONE, Consistency.GROUP), receipt.faults
    held, sealed, ended = (course.states[state] for state in (RunState.TRANSFERRING, RunState.RELEASING, RunState.DONE))
    guests = made_up.guests
    return {
        "guests": guests,
        "hosts": made_up.hosts,
        "redis_commands_per_guest": round(counts.commands.total() / guests, 1),
        "redis_bytes_per_guest": round((counts.bytes_in + counts.bytes_out) / guests),
        "redis_bytes_kept_per_guest": round(counts.bytes_kept / guests),
        "messages_per_guest": round(counts.messages / guests, 2),
        "orchestrator_cpu_ms_per_guest": round(
            (ended.orchestrator_cpu_s - course.asked.orchestrator_cpu_s) * 1000 / guests, 2
        ),
        "orchestrator_cpu_to_held_s": round(held.orchestrator_cpu_s - course.asked.orchestrator_cpu_s, 2),
        "to_held_s": round(held.at - course.asked.at, 1),
        "to_sealed_s": round(sealed.at - course.asked.at, 1),
    }


def at_rest(directory: Path, made_up: MadeUp, seconds: float) -> dict[str, Any]:
    """Return how much of a core Redis and the orchestrator take while no capture is asked for."""
    with _site(directory) as site, site.fleet(made_up) as fleet:
        fleet.tell("idle")
        return {"hosts": made_up.hosts, **shares(site, seconds)}


def shares(site: Site, seconds: float) -> dict[str, Any]:
    """Return how much of a core Redis and the orchestrator take from now on, and how many commands a second Redis has."""
    time.sleep(min(SETTLE_S, seconds))
    before, redis_before, cpu_before, began = (
        Counts.of(site.redis),
        _redis_cpu_s(site),
        _orchestrator_cpu_s(site),
        time.monotonic(),
    )
    time.sleep(seconds)
    took = time.monotonic() - began
    redis_cpu_s, cpu = _redis_cpu_s(site) - redis_before, _orchestrator_cpu_s(site) - cpu_before
    counts = Counts.of(site.redis) - before
    return {
        "redis_cpu_share": round(redis_cpu_s / took, 3),
        "orchestrator_cpu_share": round(cpu / took, 3),
        "redis_commands_per_s": round(counts.commands.total() / took),
    }


def at_work(directory: Path, made_up: MadeUp, seconds: float) -> dict[str, Any]:
    """Return the same while all guests are being read, for as long as that takes."""
    with _site(directory) as site, site.fleet(made_up) as fleet:
        fleet.tell("take-control")
        fleet.tell("publish")  # all are known before they are asked for
        fleet.tell("live")
        site.begin(RunState.TRANSFERRING)
        return {"hosts": made_up.hosts, "guests": made_up.guests, **shares(site, seconds)}


def _redis_cpu_s(site: Site) -> float:
    found = site.redis.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def _orchestrator_cpu_s(site: Site) -> float:
    return cpu_s(site.process.pid)


@contextmanager
def _site(directory: Path, **variables: str) -> Iterator[Site]:
    directory.mkdir()
    with redis_server() as url, Site(directory, url, **variables) as site:
        yield site


def over_100(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return each figure a guest of the largest capture over that of the one of 100 guests; empty without both. Pure."""
    small = next((one for one in rows if one["guests"] == 100), None)
    if small is None or rows[-1] is small:
        return {}
    return {name: round(rows[-1][name] / small[name], 2) for name in small if name.endswith("_per_guest")}


def _words(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in figures.items())
