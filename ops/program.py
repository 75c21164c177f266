"""The `freezeframe` command that a system runs: the checkout's, or one that was installed from the wheel."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Program:
    """How to run the command, and the environment variables that belong to it."""

    argv: tuple[str, ...]
    env: Mapping[str, str]

    @classmethod
    def of_checkout(cls) -> Program:
        """Return the command of this very checkout, wherever the interpreter's own installation points."""
        return cls((sys.executable, "-m", "freezeframe"), {"PYTHONPATH": str(_ROOT)})

    @classmethod
    def installed_in(cls, environment: Path) -> Program:
        """Return the command of a virtual environment, which imports nothing from the checkout."""
        return cls((str(environment / "bin/freezeframe"),), {"PYTHONPATH": ""})
