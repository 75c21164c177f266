"""Nothing waits for ever on a connection that is dead without a word; a worker that waits for orders is not disturbed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import redis

from freezeframe import bus, redis_fault
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.words import Step
from freezeframe.settings import BusSettings
from orchestrator import path
from tests.unit.orders import prepare_order

from . import probe
from .proxy import Proxy, proxy_to

#: Less than the second for which kombu has Redis wait for a message.
SHORT_S = 0.3
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    with proxy_to(Path(redis_url.removeprefix("unix://"))) as made:
        yield made


@pytest.fixture
def settings(proxy: Proxy) -> BusSettings:
    return BusSettings.model_validate({"redis_url": proxy.url, "redis_timeout_s": SHORT_S})


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    """A client that does not go through the proxy."""
    with bus.connect(bus_settings) as made:
        yield made


def orders() -> list[PrepareOrder]:
    order = prepare_order(capture_id=CAPTURE)
    return [order]


def test_orders_on_a_dead_connection_fail_and_are_sent_when_redis_is_back(
    proxy: Proxy, settings: BusSettings, client: redis.Redis
) -> None:
    with bus.celery_app("orchestrator", settings) as app:
        path.send(app, Step.PREPARE, orders())
        proxy.swallows.set()
        with pytest.raises(redis_fault.TROUBLE) as caught:  # without a time-out it would never come
            path.send(app, Step.PREPARE, orders())
        assert not redis_fault.is_refusal(caught.value)
        proxy.swallows.clear()
        path.send(app, Step.PREPARE, orders())
    assert client.llen(probe.QUEUE) == 2


def test_own_commands_and_results_on_a_dead_connection_fail(proxy: Proxy, settings: BusSettings) -> None:
    app = bus.celery_app("orchestrator", settings)
    shared = bus.shared_client(settings)
    assert shared.ping()
    proxy.swallows.set()
    with pytest.raises(redis.TimeoutError):
        shared.ping()
    with pytest.raises(redis.TimeoutError):
        app.backend.client.ping()


def brpop(client: redis.Redis) -> tuple[int, list[str]]:
    """Return how often a message was waited for so far, and the connections that wait."""
    stats = cast("dict[str, dict[str, int]]", client.info("commandstats"))
    waiting = [one["id"] for one in client.client_list() if one["cmd"] == "brpop"]
    return stats.get("cmdstat_brpop", {"calls": 0})["calls"], waiting


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_waits_for_orders_longer_than_the_time_out(
    settings: BusSettings, client: redis.Redis, pool: str
) -> None:
    env = {
        **os.environ,
        "FREEZEFRAME_REDIS_URL": settings.redis_url.get_secret_value(),
        "FREEZEFRAME_REDIS_TIMEOUT_S": str(SHORT_S),
    }
    with subprocess.Popen([sys.executable, "-m", "tests.unit.bus.probe", pool], env=env) as process:
        try:
            while not brpop(client)[1]:
                assert process.poll() is None
                time.sleep(0.05)
            times, waiting = brpop(client)
            while brpop(client)[0] < times + 4:  # each is a second, three times the time-out
                assert process.poll() is None
                time.sleep(0.05)
            assert brpop(client)[1] == waiting  # the connection of then
            with bus.celery_app("orchestrator", settings) as app, app.connection_for_write() as connection:
                app.send_task(probe.TASK, args=("after",), queue=probe.QUEUE, connection=connection)
            while client.get("after") != "done":
                assert process.poll() is None
                time.sleep(0.05)
        finally:
            process.kill()
