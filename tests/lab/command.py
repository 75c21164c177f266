"""The `freezeframe` command, as tests use it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any

from ops.system import System


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    answer: dict[str, Any]
    stderr: str

    @property
    def error(self) -> dict[str, Any]:
        """What it says went wrong; fails the test if nothing did."""
        error: dict[str, Any] = self.answer["error"]
        return error


class Command:
    def __init__(self, system: System) -> None:
        self._system = system

    def __call__(self, *arguments: str) -> Outcome:
        """Run to the end, with --json."""
        return self.finish(self.begin(*arguments))

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start, with --json; `finish` waits for it."""
        return subprocess.Popen(
            self._system.command_line(*arguments, "--json"),
            env={**os.environ, **self._system.settings()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Outcome:
        stdout, stderr = process.communicate()
        return Outcome(process.returncode, json.loads(stdout), stderr)
