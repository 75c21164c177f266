"""Two hosts with one id: the second does not start, says which setting is meant, and takes no order of the first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from freezeframe.errors import EXIT_REFUSED
from ops.lab import Lab
from ops.system import System

from .command import Command


@pytest.mark.case("I4")
@pytest.mark.parametrize("role", ["control", "data"])
def test_a_second_host_with_an_id_that_is_in_use_refuses_to_start(
    lab: Lab, system: System, command: Command, tmp_path: Path, role: str
) -> None:
    second = lab.host("host-b")
    env = {**system.settings(second), "FREEZEFRAME_HOST_ID": "host-a", "FREEZEFRAME_STATE_DIR": str(tmp_path)}
    done = second.run(system.command_line("worker", role), env=env, check=False, timeout_s=60.0)
    assert done.returncode == EXIT_REFUSED, done.stderr
    assert "host-a is in use on machine host-a" in done.stderr
    assert "FREEZEFRAME_HOST_ID" in done.stderr
    assert not (tmp_path / "machine.json").exists()
    outcome = command("capture", "alpha", "gamma")
    assert outcome.code == 0, outcome.stderr
    assert {guest["host"] for guest in outcome.answer["guests"]} == {"host-a", "host-b"}


def test_each_host_is_bound_to_its_own_machine(lab: Lab, system: System) -> None:
    keys = [f"freezeframe:machine:{name}" for name in lab.hosts]
    found = [json.loads(str(text)) for text in system.redis.mget(keys)]
    assert len({one["machine_id"] for one in found}) == len(lab.hosts)
