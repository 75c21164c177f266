"""How many connections to Redis a host and an orchestrator hold, idle and in a burst; a burst waits and does not fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from pydantic import SecretStr

from freezeframe import bus, redis_pool
from freezeframe.contract import names
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.words import Method, Step
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings
from orchestrator import path
from tests.unit.orders import transfer_order

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
HOST = "host-a.example"
#: Connections of an idle host: each of its two workers waits for orders, waits for what is broadcast, and has one besides.
IDLE_HOST = 6
IDLE_ORCHESTRATOR = 3
#: A burst adds what the control worker's pool may have besides the one.
BURST_HOST = IDLE_HOST + redis_pool.MOST - 1
ORDERS = 60


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with bus.connect(bus_settings) as made:
        yield made


@pytest.fixture
def env(tmp_path: Path, redis_url: str) -> dict[str, str]:
    Repository.init(tmp_path / "repository")
    own = {f"FREEZEFRAME_{name.upper()}_DIR": str(tmp_path / name) for name in ("state", "run", "scratch")}
    return (
        os.environ
        | own
        | {
            "FREEZEFRAME_CONFIG": os.devnull,
            "FREEZEFRAME_REPOSITORY": str(tmp_path / "repository"),
            "FREEZEFRAME_REDIS_URL": redis_url,
            "FREEZEFRAME_HOST_ID": HOST,
            "FREEZEFRAME_LIBVIRT_URI": "test:///default",
            "FREEZEFRAME_TRANSFERS": "2",
        }
    )


@contextmanager
def running(env: dict[str, str], *verbs: tuple[str, ...]) -> Iterator[Callable[[], bool]]:
    """Run verbs of freezeframe, each in a process of its own. Yields what tells whether all still run."""
    with ExitStack() as stack:
        found = []
        for verb in verbs:
            process = stack.enter_context(subprocess.Popen([sys.executable, "-m", "freezeframe", *verb], env=env))
            stack.callback(process.kill)
            found.append(process)
        yield lambda: all(process.poll() is None for process in found)


class Connections:
    """The connections to Redis, but for those that there were when this was made."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._before = {one["id"] for one in client.client_list()}

    def all(self) -> list[dict[str, str]]:
        return [one for one in self._client.client_list() if one["id"] not in self._before]

    def are_settled(self, workers: int, most: int) -> bool:
        """Return True if so many workers wait for orders and broadcasts, and no more than `most` connections are open.

        They have told Flower twice each that they are there, so their pools have the one that they keep.
        """
        stats = cast("dict[str, dict[str, int]]", self._client.info("commandstats"))
        told = stats.get("cmdstat_publish", {"calls": 0})["calls"] >= 2 * workers
        found = self.all()
        waiting = sum(one["cmd"] == "brpop" for one in found)
        listening = sum(one["psub"] != "0" for one in found)
        return told and waiting == listening == workers and len(found) <= most


def until(alive: Callable[[], bool], reached: Callable[[], bool]) -> None:
    while not reached():
        assert alive()
        time.sleep(0.05)


def orders() -> list[PrepareOrder]:
    return [
        PrepareOrder(
            capture_id=CAPTURE,
            epoch=1,
            host_id=HOST,
            not_after=datetime.now(UTC) + timedelta(minutes=5),
            method=Method.BACKUP_PULL,
            repository_id="r",
            chunk_bytes=4096,
            guests=(),
            round=number,
        )
        for number in range(ORDERS)
    ]


def test_a_host_holds_six_connections_and_a_bounded_number_in_a_burst(
    env: dict[str, str], client: redis.Redis, bus_settings: BusSettings
) -> None:
    client.config_resetstat()
    found = Connections(client)
    with running(env, ("worker", "control"), ("worker", "data")) as alive:
        until(alive, lambda: client.exists(names.alive_key(HOST)) == 1)
        until(alive, lambda: found.are_settled(2, IDLE_HOST))
        app = bus.celery_app("orchestrator", bus_settings)
        transfers = [transfer_order(capture_id=CAPTURE, host_id=HOST, target=f"vd{letter}") for letter in "abcdef"]
        path.send(app, Step.TRANSFER, transfers)
        until(alive, lambda: client.hlen(names.results_key(CAPTURE)) == len(transfers))
        until(alive, lambda: found.are_settled(2, IDLE_HOST + 1))  # and the one that has sent the orders
        path.send(app, Step.PREPARE, orders())
        most = 0

        def answered() -> bool:
            nonlocal most
            most = max(most, len(found.all()))
            return client.hlen(names.results_key(CAPTURE)) == ORDERS + len(transfers)

        until(alive, answered)
        assert most <= BURST_HOST + 1


def test_an_idle_orchestrator_holds_three_connections_and_tells_flower_about_itself(
    env: dict[str, str], client: redis.Redis, bus_settings: BusSettings
) -> None:
    client.config_resetstat()
    found = Connections(client)
    with running(env, ("orchestrator",)) as alive:
        until(alive, lambda: found.are_settled(1, IDLE_ORCHESTRATOR))
        app = bus.celery_app("probe", bus_settings)
        with app.connection_for_write() as connection:
            asked = app.control.inspect(timeout=20, limit=1, connection=connection)
            assert list(asked.stats()) == [f"orchestrator@{HOST}"]


@pytest.fixture
def pool(bus_settings: BusSettings) -> Iterator[redis_pool.Pool]:
    with redis_pool.make(bus_settings) as made:
        yield made


def take(pool: redis_pool.Pool) -> Any:
    return pool.get_connection()


def test_a_burst_waits_for_a_connection_and_does_not_fail(pool: redis_pool.Pool, client: redis.Redis) -> None:
    found = Connections(client)
    everyone = threading.Barrier(4 * redis_pool.MOST)

    def work() -> bool:
        with redis.Redis(connection_pool=pool) as own:
            everyone.wait()
            return all(own.ping() for _ in range(20))

    with ThreadPoolExecutor(4 * redis_pool.MOST) as threads:
        assert all(one.result() for one in [threads.submit(work) for _ in range(4 * redis_pool.MOST)])
    assert 1 <= len(found.all()) <= redis_pool.MOST


def test_what_a_burst_has_opened_is_closed_again(pool: redis_pool.Pool, client: redis.Redis) -> None:
    found = Connections(client)
    taken = [take(pool) for _ in range(redis_pool.MOST)]
    assert len(found.all()) == redis_pool.MOST
    for one in taken:
        pool.release(one)
    assert len(found.all()) == redis_pool.MOST  # they may be needed again at once
    last = take(pool)
    pool.close_idle(time.monotonic())
    assert len(found.all()) == 1
    last.send_command("PING")
    assert last.read_response() == "PONG"
    pool.release(last)
    again = [take(pool) for _ in range(redis_pool.MOST)]
    assert len(found.all()) == redis_pool.MOST
    for one in again:
        pool.release(one)


def test_a_process_has_one_pool_for_each_redis(bus_settings: BusSettings) -> None:
    pool = redis_pool.shared(bus_settings)
    other = bus_settings.model_copy(update={"redis_timeout_s": 1.0})
    assert redis_pool.shared(bus_settings.model_copy()) is pool
    assert redis_pool.shared(other) is not pool
    app = bus.celery_app("orchestrator", bus_settings)
    assert app.backend.client.connection_pool is pool
    with app.connection_for_write() as connection:
        assert connection.default_channel.pool is pool
    assert bus.shared_client(bus_settings).connection_pool is pool


def test_options_can_be_told_and_tell_no_password(bus_settings: BusSettings) -> None:
    settings = bus_settings.model_copy(update={"redis_url": SecretStr("redis://user:secret@127.0.0.1:1/0")})
    told = json.dumps(bus.celery_app("orchestrator", settings).conf.broker_transport_options)
    assert "secret" not in told


def test_a_channel_that_is_closed_leaves_the_pool_of_the_others_alone(
    bus_settings: BusSettings, client: redis.Redis
) -> None:
    pool = redis_pool.shared(bus_settings)
    held = take(pool)
    app = bus.celery_app("orchestrator", bus_settings)
    with app.connection_for_write() as connection:
        connection.default_channel.close()
    held.send_command("PING")
    assert held.read_response() == "PONG"
    pool.release(held)
