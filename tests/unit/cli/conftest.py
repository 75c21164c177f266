"""A place of its own for each test: settings by the environment, a private Redis, a repository, a terminal of 200 columns."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from freezeframe.cli.private_redis import private_redis
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings, HostSettings

from .run import Run


@pytest.fixture(scope="session")
def private_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis as `freezeframe up` starts it: loopback and a password, since Celery must reach it too."""
    directory = tmp_path_factory.mktemp("up")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREEZEFRAME_RUN_DIR", str(directory))
        host = HostSettings.model_validate({"run_dir": directory, "state_dir": directory})
        with (
            private_redis(host) as own,
            subprocess.Popen(["redis-server", str(own.config)], stdout=subprocess.DEVNULL) as server,
        ):
            try:
                _wait_for(redis.Redis.from_url(own.url), server)
                yield own.url
            finally:
                server.terminate()


def _wait_for(client: redis.Redis, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.01)
            continue
        client.close()
        return
    raise RuntimeError("redis-server did not start")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings that lead nowhere but into the test's own directory; no Redis is named."""
    monkeypatch.setenv("FREEZEFRAME_CONFIG", os.devnull)
    for name in ("repository", "state", "run", "scratch"):
        setting = "REPOSITORY" if name == "repository" else f"{name.upper()}_DIR"
        monkeypatch.setenv(f"FREEZEFRAME_{setting}", str(tmp_path / name))
    monkeypatch.delenv("FREEZEFRAME_REDIS_URL", raising=False)
    monkeypatch.delenv("FREEZEFRAME_DEBUG", raising=False)
    monkeypatch.setenv("FREEZEFRAME_LIBVIRT_URI", "test:///default")
    monkeypatch.setenv("FREEZEFRAME_HOST_ID", "host-a.example")
    return tmp_path


@pytest.fixture
def bus(place: Path, private_url: str, monkeypatch: pytest.MonkeyPatch) -> BusSettings:
    """An empty Redis that the settings name."""
    with redis.Redis.from_url(private_url) as client:
        client.flushall()
    monkeypatch.setenv("FREEZEFRAME_REDIS_URL", private_url)
    return BusSettings.model_validate({"redis_url": private_url})


@pytest.fixture
def no_bus(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis is named, and is not there."""
    monkeypatch.setenv("FREEZEFRAME_REDIS_URL", "redis://:secret@127.0.0.1:1/0")


@pytest.fixture
def repository(place: Path) -> Repository:
    return Repository.init(place / "repository", chunk_bytes=4096)


@pytest.fixture
def run() -> Run:
    return Run()
