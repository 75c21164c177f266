"""`ops/try`'s path, run by the command that was installed from the wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.install import Environment
from ops.lab import Lab, LabSpec
from ops.program import Program
from ops.system import System
from ops.trial.story import Trial


@pytest.mark.lab
@pytest.mark.case("G10")
def test_the_installed_command_captures_and_restores(whole: Environment, tmp_path: Path) -> None:
    """In full, incrementally, and back: two guests on two hosts, every byte compared."""
    program = Program.installed_in(whole.directory)
    with (
        Lab.up(LabSpec.of(hosts=2, guests=2, disks=1), tmp_path / "lab") as lab,
        System(lab, tmp_path / "system", program=program) as system,
    ):
        account = Trial(system, tmp_path / "trial", print).run(boot=False)
    assert account.ok, account.model_dump_json(indent=2)
    assert [guest.identical for capture in account.captures for guest in capture.guests] == [True] * 4
