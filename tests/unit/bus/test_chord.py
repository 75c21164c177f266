"""Orders leave nothing behind in the process that sends them, and their chord's body runs."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import cast

import pytest
import redis
from celery import Celery
from celery.result import ResultBase

from freezeframe import bus
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.words import Step
from freezeframe.settings import BusSettings
from orchestrator import path
from tests.unit.orders import prepare_order

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ORDERS = 50


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with bus.connect(bus_settings) as made:
        yield made


@pytest.fixture
def app(bus_settings: BusSettings) -> Iterator[Celery]:
    with bus.celery_app("orchestrator", bus_settings) as made:
        yield made


def orders(count: int) -> list[PrepareOrder]:
    return [prepare_order(capture_id=CAPTURE, round=number) for number in range(count)]


def commands(client: redis.Redis) -> Counter[str]:
    """Return how often Redis has carried out each command so far, those of scripts included."""
    found = cast("dict[str, dict[str, int]]", client.info("commandstats"))
    return Counter({name.removeprefix("cmdstat_"): one["calls"] for name, one in found.items()})


def results_alive() -> int:
    gc.collect()
    return sum(isinstance(one, ResultBase) for one in gc.get_objects())


def test_orders_leave_no_subscription_and_no_result(app: Celery, client: redis.Redis) -> None:
    before = results_alive()
    path.send(app, Step.PREPARE, orders(ORDERS))
    assert client.pubsub_channels() == []
    assert [one["cmd"] for one in client.client_list() if int(one["sub"]) + int(one["psub"])] == []
    assert results_alive() == before


def test_an_order_takes_two_commands_and_a_chord_two_more(app: Celery, client: redis.Redis) -> None:
    path.send(app, Step.PREPARE, orders(1))  # which connects and declares the queue
    seen = commands(client)
    path.send(app, Step.PREPARE, orders(ORDERS))
    sent = commands(client) - seen - Counter(["info"])
    assert sent == {"lpush": ORDERS, "publish": ORDERS, "del": 1, "set": 1}


def test_orders_are_sent_by_one_client(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """To make one for each command would take as long as the commands do."""
    path.send(app, Step.PREPARE, orders(1))
    made: list[object] = []
    make = redis.Redis.__init__

    def noted(self: redis.Redis, *args: object, **named: object) -> None:
        made.append(self)
        make(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(redis.Redis, "__init__", noted)
    path.send(app, Step.PREPARE, orders(ORDERS))
    assert len(made) < 5


def test_the_body_runs_when_all_orders_are_done(app: Celery, client: redis.Redis, redis_url: str) -> None:
    path.send(app, Step.PREPARE, orders(ORDERS))
    env = {**os.environ, "FREEZEFRAME_REDIS_URL": redis_url}
    with subprocess.Popen([sys.executable, "-m", "tests.unit.bus.probe", "threads"], env=env) as process:
        try:
            while client.get(CAPTURE) is None:
                assert process.poll() is None
                time.sleep(0.02)
        finally:
            process.kill()
    assert client.get("prepared") == str(ORDERS)
