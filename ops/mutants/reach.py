"""Which tests run which lines, measured once over all unit tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import coverage

from ops.mutants.reach_plugin import DURATIONS_ENV
from ops.mutants.runner import SAME, TOOL

_RC = """\
[run]
data_file = {data}
source = freezeframe, orchestrator, workers
concurrency = thread
"""


class BaselineError(RuntimeError):
    """The unit tests fail without a mutant, so a failure would say nothing."""


@dataclass(frozen=True)
class Reach:
    """Tests by line of each file, and the seconds that each test takes."""

    tests: dict[str, dict[int, frozenset[str]]]
    seconds: dict[str, float]

    def of(self, path: str, lines: Iterable[int]) -> list[str]:
        """Return the tests that run any of these lines, the quickest first."""
        by_line = self.tests.get(path, {})
        found = {test for line in lines for test in by_line.get(line, ())}
        return sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))

    def of_file(self, path: str) -> list[str]:
        """Return all tests that run any line of the file."""
        return self.of(path, self.tests.get(path, {}))


def measure(root: Path, directory: Path, tests: Iterable[str]) -> Reach:
    """Run the tests below `root` once under coverage; `directory` keeps what was measured.

    Raise BaselineError if one fails.
    """
    settings, data, durations = directory / "coveragerc", directory / "coverage", directory / "durations.json"
    settings.write_text(_RC.format(data=data), encoding="utf-8")
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", "-m", "pytest"]
    command += ["-q", "-p", "no:cacheprovider", "-p", "ops.mutants.reach_plugin", "-m", "not lab and not long", *tests]
    env = {**os.environ, DURATIONS_ENV: str(durations), "PYTHONPATH": f"{root}{os.pathsep}{TOOL}", **SAME}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BaselineError(f"the unit tests fail without a mutant:\n{(done.stdout + done.stderr)[-3000:]}")
    return _read(root, data, durations)


def _read(root: Path, data: Path, durations: Path) -> Reach:
    measured = coverage.CoverageData(str(data))
    measured.read()
    tests = {}
    for name in measured.measured_files():
        contexts = measured.contexts_by_lineno(name)
        tests[str(Path(name).relative_to(root))] = {
            line: frozenset(test for test in names if test) for line, names in contexts.items()
        }
    return Reach(tests, json.loads(durations.read_text(encoding="utf-8")))
