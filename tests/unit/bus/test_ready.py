"""A worker tells its supervisor when it takes orders, on the machine and over no bus."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from freezeframe import bus
from freezeframe.heartbeat import Pulse
from freezeframe.settings import BusSettings

from . import probe

SLOW_S = 60.0


@pytest.fixture
def client(bus_settings: BusSettings) -> redis.Redis:
    return bus.connect(bus_settings)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_tells_that_it_is_ready_and_takes_orders_then(
    client: redis.Redis, bus_settings: BusSettings, redis_url: str, pool: str
) -> None:
    directory = Path(os.environ.get("PYTEST_TMPDIR", "/tmp")) / f"ff-ready-{os.getpid()}-{pool}"  # noqa: S108  a short path
    pulse = Pulse(directory, None)
    env = os.environ | {"FREEZEFRAME_CONFIG": os.devnull, "FREEZEFRAME_REDIS_URL": redis_url} | pulse.env
    try:
        with subprocess.Popen([sys.executable, "-m", "tests.unit.bus.probe", pool], env=env) as process:
            try:
                deadline = time.monotonic() + SLOW_S
                while not pulse.lost() and not pulse.is_ready:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                app = bus.celery_app("client", bus_settings)
                with app.connection_for_write() as connection:
                    app.send_task(probe.TASK, args=["key"], queue=probe.QUEUE, connection=connection)
                while client.get("key") is None:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            finally:
                process.terminate()
    finally:
        pulse.close()
