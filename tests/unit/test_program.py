"""A system of the lab runs the command that it was told to, and no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ops.program import Program

_ROOT = Path(__file__).resolve().parents[2]


def _where(program: Program, python: str, directory: Path) -> Path:
    """The directory that `freezeframe` is imported from, by a process like a part of the system."""
    ask = "import freezeframe; print(freezeframe.__file__)"
    done = subprocess.run(
        [python, "-c", ask], env={**program.env}, cwd=directory, check=True, capture_output=True, text=True
    )
    return Path(done.stdout.strip()).parents[1]


def test_the_checkouts_command_is_that_of_the_checkout_of_ops(tmp_path: Path) -> None:
    """Wherever the part is started: a host's parts are started in `/`, and another checkout may be installed there."""
    assert _where(Program.of_checkout(), sys.executable, tmp_path) == _ROOT


def test_an_installed_command_imports_nothing_of_the_checkout(tmp_path: Path) -> None:
    program = Program.installed_in(tmp_path)
    assert program.argv == (str(tmp_path / "bin/freezeframe"),)
    assert program.env["PYTHONPATH"] == ""  # which Python takes for unset
