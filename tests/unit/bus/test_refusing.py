"""Workers on a Redis that answers and refuses: they stay, and do their tasks when it is well again (case S3)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from freezeframe import bus
from freezeframe.settings import BusSettings

from . import probe
from .refusing import WAYS, Refusing, refusing_redis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Refusing]:
    with refusing_redis(tmp_path) as found:
        yield found


@contextmanager
def worker(server: Refusing, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker with the settings of every worker of Freezeframe, in a process of its own."""
    env = {**os.environ, "FREEZEFRAME_REDIS_URL": server.url, "FREEZEFRAME_REDIS_TIMEOUT_S": "2"}
    with subprocess.Popen([sys.executable, "-m", "tests.unit.bus.probe", *words], env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(server: Refusing, *args: str, task: str = probe.TASK) -> None:
    app = bus.celery_app("orchestrator", BusSettings.model_validate({"redis_url": server.url}))
    with app.connection_for_write() as connection:
        app.send_task(task, args=args, queue=probe.QUEUE, connection=connection)


def done(server: Refusing, process: subprocess.Popen[bytes], key: str) -> bool:
    return _reached(process, lambda: server.admin.get(key) == "done")


def _reached(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> bool:
    """Wait until it is so; False if the worker has ended."""
    while process.poll() is None:
        if reached():
            return True
        time.sleep(0.02)
    return False


def refusals(server: Refusing) -> int:
    """How many commands Redis has refused so far."""
    return int(server.admin.info("stats")["total_error_replies"])


@pytest.mark.case("S3")
@pytest.mark.parametrize(("how", "pool"), [*((how, "threads") for how in WAYS), ("MISCONF", "prefork")])
def test_a_worker_outlives_a_redis_that_refuses(server: Refusing, how: str, pool: str) -> None:
    with worker(server, pool) as process:
        ask(server, "before")
        assert done(server, process, "before")
        with server.refusing(how):
            seen = refusals(server)
            assert _reached(process, lambda: refusals(server) > seen + 3)
        ask(server, "after")
        assert done(server, process, "after")


@pytest.mark.case("S3")
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_task_in_hand_may_end_while_redis_refuses(server: Refusing, pool: str, tmp_path: Path) -> None:
    """Its result cannot be stored and its message not be acknowledged; the worker goes on all the same."""
    begun, until = tmp_path / "begun", tmp_path / "until"
    with worker(server, pool) as process:
        ask(server, str(begun), str(until), task=probe.SLOW_TASK)
        assert _reached(process, begun.exists)
        with server.refusing("READONLY"):
            seen = refusals(server)
            until.touch()
            assert _reached(process, lambda: refusals(server) > seen + 3)
        ask(server, "after")
        assert done(server, process, "after")


@pytest.mark.case("S3")
def test_a_worker_that_ends_by_itself_says_so_to_its_supervisor(server: Refusing) -> None:
    with worker(server, "threads", "fragile") as process:
        ask(server, "before")
        assert done(server, process, "before")
        with server.refusing("READONLY"):
            assert process.wait() == 1


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_that_is_told_to_end_ends_well(server: Refusing, pool: str) -> None:
    with worker(server, pool) as process:
        ask(server, "before")
        assert done(server, process, "before")
        process.terminate()
        assert process.wait() == 0
