"""What tests of every kind share: a real Redis of their own."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import structlog

from freezeframe.settings import BusSettings

from .long import LONG, LongAccount


def pytest_configure(config: pytest.Config) -> None:
    _log_plainly()
    # no test may remember its repositories where those of the user are remembered
    state = tempfile.TemporaryDirectory(prefix="ff-known-")
    config.add_cleanup(state.cleanup)
    os.environ["FREEZEFRAME_KNOWN_REPOSITORIES"] = f"{state.name}/repositories.json"
    if LONG:
        config.pluginmanager.register(LongAccount())


def _log_plainly() -> None:
    """Have tracebacks in logs as the product has them: structlog's own default takes seconds for one, with all variables."""
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, plain],
    )


@pytest.hookimpl(tryfirst=True)  # before a lab is made for it
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that needs the machine for itself and shares it with others of the same run."""
    if hasattr(item.config, "workerinput") and any(item.get_closest_marker(name) for name in ("lab", "install")):
        pytest.fail("runs alone on its machine: leave out --numprocesses", pytrace=False)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis on a Unix socket; its URL. It dies with the session."""
    directory: Path = tmp_path_factory.mktemp("redis")
    socket = directory / "s"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        url = f"unix://{socket}"
        try:
            _wait_for(redis.Redis.from_url(url), server)
            yield url
        finally:
            server.terminate()


def _wait_for(client: redis.Redis, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.01)
            continue
        return
    raise RuntimeError("redis-server did not start")


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty Redis."""
    redis.Redis.from_url(redis_server).flushall()
    return redis_server


@pytest.fixture
def bus_settings(redis_url: str) -> BusSettings:
    return BusSettings.model_validate({"redis_url": redis_url})
