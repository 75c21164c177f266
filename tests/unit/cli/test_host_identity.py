"""A worker starts on the machine that its host's id is bound to, and on no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from freezeframe import bus as bus_module
from freezeframe.contract import names
from freezeframe.contract.machine import Machine
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings, HostSettings
from workers import binding

from .run import Run
from .test_supervise import until

HOST = "host-a.example"


@pytest.fixture
def first(bus: BusSettings, repository: Repository) -> Iterator[subprocess.Popen[bytes]]:
    """A control worker of this machine, that is up."""
    command = [sys.executable, "-m", "freezeframe", "worker", "control"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, env=environment, start_new_session=True) as worker:
        try:
            client = bus_module.connect(bus)
            until(lambda: worker.poll() is not None or bool(client.exists(names.alive_key(HOST))))
            assert worker.poll() is None
            client.close()
            yield worker
        finally:
            worker.send_signal(signal.SIGKILL)


@pytest.mark.case("I4")
@pytest.mark.parametrize("arguments", [["control"], ["data"], ["control", "--take-host-id"]])
@pytest.mark.usefixtures("first")
def test_a_second_machine_with_the_id_does_not_start_and_names_the_setting(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    clone = Machine(machine_id="2" * 32, name="clone")
    monkeypatch.setattr(binding, "this_machine", lambda _settings: clone)
    monkeypatch.setenv("FREEZEFRAME_STATE_DIR", os.environ["FREEZEFRAME_STATE_DIR"] + ".clone")
    ran = run("worker", *arguments)
    assert ran.exit_code == 3
    assert f"The host id {HOST} is in use on machine" in ran.stderr
    assert "set FREEZEFRAME_HOST_ID" in ran.stderr


def test_a_worker_whose_id_another_machine_has_taken_ends(first: subprocess.Popen[bytes], bus: BusSettings) -> None:
    """As after a FLUSHALL, when the other was the first to bind it again."""
    client = bus_module.connect(bus)
    client.set(names.machine_key(HOST), Machine(machine_id="2" * 32, name="other").model_dump_json())
    assert first.wait(60) == 0
    client.close()


@pytest.mark.case("I4")
@pytest.mark.parametrize("role", ["control", "data"])
def test_a_machine_that_is_called_as_every_other_needs_an_id_of_its_own(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.delenv("FREEZEFRAME_HOST_ID")
    monkeypatch.setattr(binding, "EVERYBODYS", frozenset({HostSettings().host_id}))
    ran = run("worker", role)
    assert ran.exit_code == 3
    assert "no host id is set" in ran.stderr
    assert "Set FREEZEFRAME_HOST_ID" in ran.stderr
