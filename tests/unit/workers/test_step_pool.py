"""Prepares that hang keep no hold and no release from beginning, however many there are."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.contract.words import Step
from freezeframe.settings import BusSettings
from workers.commands.worker import CONTROL_THREADS
from workers.step_pool import StepPool

HOST = "host-a"
#: More than the threads, and than Celery takes ahead for each.
PREPARES = 3 * CONTROL_THREADS


@pytest.fixture
def worker(redis_url: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, "FREEZEFRAME_REDIS_URL": redis_url, "FREEZEFRAME_HOST_ID": HOST}
    with subprocess.Popen([sys.executable, "-m", "tests.unit.workers.step_probe", str(tmp_path)], env=env) as process:
        try:
            yield process
        finally:
            (tmp_path / "go-on").touch()
            process.kill()


def test_a_hold_and_a_release_begin_while_every_prepare_hangs(
    worker: subprocess.Popen[bytes], bus_settings: BusSettings, tmp_path: Path
) -> None:
    def until(reached: Callable[[], bool]) -> None:
        while not reached():
            assert worker.poll() is None
            time.sleep(0.05)

    def send(step: Step, argument: object) -> None:
        app.send_task(
            names.STEP_TASKS[step], args=[argument], queue=names.step_queue(step, HOST), connection=connection
        )

    app = bus.celery_app("orchestrator", bus_settings)
    with app.connection_for_write() as connection, bus.connect(bus_settings) as client:
        for number in range(PREPARES):
            send(Step.PREPARE, number)
        until(lambda: len(list(tmp_path.glob("prepare-*"))) == CONTROL_THREADS)
        until(lambda: client.llen(names.control_queue(HOST)) == 0)  # a worker with a bound would not read on
        for step in (Step.HOLD, Step.RELEASE):
            send(step, str(step))
            until((tmp_path / str(step)).exists)
        assert len(list(tmp_path.glob("prepare-*"))) == CONTROL_THREADS
        (tmp_path / "go-on").touch()
        until(lambda: len(list(tmp_path.glob("prepare-*"))) == PREPARES)


def test_the_tasks_in_hand_end_before_the_pool_does() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def target(_name: str) -> None:
        begun.set()
        go_on.wait()
        ended.set()

    pool = StepPool(limit=1, app=None)
    pool.on_apply(target, (names.STEP_TASKS[Step.HOLD],))
    dropped = pool.on_apply(target, (names.STEP_TASKS[Step.HOLD],))
    begun.wait()
    threading.Timer(0.01, go_on.set).start()
    pool.on_stop()
    assert ended.is_set()
    assert dropped.f.cancelled()
