"""The user of Redis that docs/security.md recommends may do all that Freezeframe does, and no administrator's command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from freezeframe import bus, eviction, presence
from freezeframe.barrier import Gate, gate_client, read_clock
from freezeframe.contract.inventory import HostEntry
from freezeframe.contract.words import Step
from freezeframe.settings import BusSettings
from orchestrator import path
from orchestrator.run import Runs
from tests.unit.orders import prepare_order

from .refusing import PASSWORD, Refusing, refusing_redis

PAGE = Path(__file__).parents[3] / "docs" / "security.md"
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"

pytestmark = pytest.mark.case("S3")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Refusing]:
    with refusing_redis(tmp_path) as found:
        yield found


@pytest.fixture
def settings(server: Refusing) -> BusSettings:
    """The settings of that user; the one without a name is switched off."""
    [line] = [
        line.strip() for line in PAGE.read_text(encoding="utf-8").splitlines() if "ACL SETUSER freezeframe" in line
    ]
    words = line.removeprefix("redis-cli ").replace("'", "").replace("PASSWORD", PASSWORD).split()
    server.admin.execute_command(*words)  # type: ignore[no-untyped-call]
    server.admin.execute_command("ACL", "SETUSER", "default", "off")  # type: ignore[no-untyped-call]
    url = server.url.replace("unix://", f"unix://freezeframe:{PASSWORD}@")
    return BusSettings.model_validate({"redis_url": url})


def test_it_may_capture(server: Refusing, settings: BusSettings) -> None:
    order = prepare_order(capture_id=CAPTURE)
    with bus.celery_app("orchestrator", settings) as app:
        path.send(app, Step.PREPARE, [order])
    env = {**os.environ, "FREEZEFRAME_REDIS_URL": settings.redis_url.get_secret_value()}
    with subprocess.Popen([sys.executable, "-m", "tests.unit.bus.probe", "threads"], env=env) as process:
        try:
            while server.admin.get(CAPTURE) is None:
                assert process.poll() is None
                time.sleep(0.02)
        finally:
            process.kill()


def test_it_may_meet_and_be_known(settings: BusSettings) -> None:
    entry = HostEntry(
        host_id="host-a",
        at=datetime.now(UTC),
        freezeframe_version="0",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=(),
    )
    with bus.connect(settings) as client, gate_client(settings) as gates:
        eviction.check(client)
        presence.publish(client, entry)
        assert [one.entry.host_id for one in presence.known_hosts(client)] == ["host-a"]
        assert Runs(client, 60).next_epoch() > 0
        read_clock(gates)
        gate = Gate(gates, CAPTURE, 1, "held", "a", 1)
        gate.meet(time.monotonic() + 20)
        assert gate.look().state == "released"


@pytest.mark.parametrize(
    "command", ["CONFIG GET maxmemory-policy", "FLUSHALL", "KEYS *", "SHUTDOWN NOSAVE", "ACL LIST"]
)
def test_it_may_do_nothing_else(settings: BusSettings, command: str) -> None:
    with bus.connect(settings) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())
