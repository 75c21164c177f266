"""A fleet does with orders what real workers do: the same commands of Redis, on the same keys, in the same order.

Both are given the same orders. The real workers are those of a host, processes of their own (`real_worker`); what steps say in
between is compared in `tests/unit/workers/test_made_up_steps.py`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import GuestToHold, HoldOrder, Order, ReleaseOrder
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.words import HoldKind, Step
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings
from ops.fleet.made_up import name_of
from ops.fleet.site import ROOT, FleetProcess, environment
from orchestrator import path
from tests.scale.monitored import monitored
from tests.scale.real_worker import MADE_UP
from tests.unit.orders import prepare_order, transfer_order

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
[HOST] = MADE_UP.host_ids
[GUEST] = MADE_UP.uuids(HOST)
PAUSE = GuestHold(kind=HoldKind.PAUSE)


def orders() -> dict[Step, Sequence[Order]]:
    """Return the orders of a whole capture for the host."""
    usual = {"capture_id": CAPTURE, "epoch": 1, "host_id": HOST, "not_after": datetime.now(UTC) + timedelta(hours=1)}
    plan = GuestPlan(guest_uuid=GUEST, name=name_of(GUEST), hold=PAUSE)
    hold = {
        "repository_id": "r",
        "members": 1,
        "guests": (GuestToHold(guest_uuid=GUEST, hold=PAUSE),),
        "muster_timeout_s": 60,
        "hold_timeout_s": 60,
        "all_or_nothing": True,
    }
    disk = {"guest_uuid": GUEST, "guest_name": name_of(GUEST)}
    return {
        Step.PREPARE: [prepare_order(**usual, guests=(plan,))],
        Step.HOLD: [HoldOrder.model_validate({**usual, **hold})],
        Step.TRANSFER: [
            transfer_order(**usual, **disk, target=one, size_bytes=MADE_UP.size_bytes(GUEST, one))
            for one in MADE_UP.targets
        ],
        Step.RELEASE: [ReleaseOrder.model_validate({**usual, "sealed_guests": (GUEST,)})],
    }


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with bus.connect(bus_settings) as made:
        yield made


@contextmanager
def real_host(directory: Path, settings: BusSettings, client: redis.Redis) -> Iterator[Callable[[], bool]]:
    """Run a host's two workers; yield what tells whether both live."""
    Repository.init(directory / "repository")
    own = {"FREEZEFRAME_HOST_ID": HOST, "FREEZEFRAME_LIBVIRT_URI": "test:///default", "FREEZEFRAME_TRANSFERS": "1"}
    env = environment(directory, settings.redis_url.get_secret_value()) | own
    with ExitStack() as stack:
        found = []
        for role in ("control", "data"):
            command = [sys.executable, "-m", "tests.scale.real_worker", role]
            process = stack.enter_context(subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.DEVNULL))
            stack.callback(process.kill)
            found.append(process)

        def alive() -> bool:
            return all(one.poll() is None for one in found)

        until(alive, lambda: sum(one["cmd"] == "brpop" for one in client.client_list()) == len(found))
        until(alive, lambda: client.exists(names.alive_key(HOST)) == 1)
        yield alive


@contextmanager
def made_up_host(directory: Path, settings: BusSettings) -> Iterator[Callable[[], bool]]:
    env = environment(directory, settings.redis_url.get_secret_value())
    with FleetProcess.started(env, directory, MADE_UP) as fleet:
        fleet.tell("take-orders")
        fleet.tell("publish")
        yield lambda: fleet.process.poll() is None


def until(alive: Callable[[], bool], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def commands(client: redis.Redis, settings: BusSettings, alive: Callable[[], bool]) -> dict[Step, list[str]]:
    """Send each step's orders; return the commands from the first one taken to the chord's body on its queue."""
    found = {}
    with bus.celery_app("orchestrator", settings) as app:
        for number, (step, some) in enumerate(orders().items()):
            with monitored(settings) as told:
                path.send(app, step, some)
                until(alive, lambda: client.llen(names.ORCHESTRATOR_QUEUE) == number + 1)  # noqa: B023
                until(alive, lambda: not client.keys("*.j"))  # the chord has cleaned up behind its last order
            found[step] = told
    return found


#: What goes on beside orders, and that depends on how fast things are: waiting, the inventory, recovery, readings of clocks,
#: the first words of a connection, and what the test itself asks.
BESIDE = (
    *("BRPOP", "TIME", "CLIENT", "HELLO", "PING", "SCRIPT", "ECHO", "KEYS", "INFO", "LLEN"),
    *(f"{verb} freezeframe:{kind}" for verb in ("GET", "SET") for kind in ("host", "alive", "machine", "redis-id")),
    f"HGETALL {names.LEFT_HELD_KEY}",
    f"HKEYS {names.results_key(CAPTURE)}",
    f"HMGET {names.run_key(CAPTURE)}",
    # of scripts and transactions the commands in them count: a script that is not known yet is asked for twice
    *("EVALSHA", "EVAL ", "MULTI", "EXEC"),
    # Flower is told of tasks together if they come together
    "PUBLISH /0.celeryev",
)


#: A transfer reports every half second, so that on a busy machine it may report twice.
REPORTED = (names.events_key(CAPTURE), names.pulse_key(CAPTURE))


def of_orders(told: list[str]) -> list[str]:
    found: list[str] = []
    for one in told:
        is_again = one.endswith(REPORTED) and one in found
        is_binding = " _kombu." in one  # which queues there are is told when a worker starts, and swept now and then
        if not (one.startswith(BESIDE) or is_binding or is_again):
            found.append(one)
    return found


@pytest.fixture
def both(
    client: redis.Redis, bus_settings: BusSettings, tmp_path: Path
) -> tuple[dict[Step, list[str]], dict[Step, list[str]]]:
    with real_host(tmp_path, bus_settings, client) as alive:
        real = commands(client, bus_settings, alive)
    client.flushall()
    with made_up_host(tmp_path, bus_settings) as alive:
        made_up = commands(client, bus_settings, alive)
    return real, made_up


def test_orders_are_answered_by_the_same_commands(
    both: tuple[dict[Step, list[str]], dict[Step, list[str]]],
) -> None:
    real, made_up = both
    for step in Step:
        ours, theirs = of_orders(made_up[step]), of_orders(real[step])
        assert Counter(ours) == Counter(theirs), step
        on_run = [[one for one in some if f"run:{CAPTURE}" in one] for some in (ours, theirs)]
        assert on_run[0], step
        assert on_run[0] == on_run[1], step
        events = [sum(one.startswith("PUBLISH /0.celeryev") for one in some[step]) for some in (made_up, real)]
        assert 1 <= events[1] <= events[0], step
