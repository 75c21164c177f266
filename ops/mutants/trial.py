"""Try one mutant: change the file in a copy of the project, run the tests that reach it, put the file back."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from ops.mutants.mutation import Mutant, lines
from ops.mutants.reach import BaselineError, Reach
from ops.mutants.runner import Runner

#: Seconds of tests that are run first: most mutants are caught by a quick test.
QUICK_S = 15.0
#: A test that hangs is ended after so much: three times what it takes, and the start of Python.
SLOWER, START_S = 3.0, 40.0
#: Tests of one command line; the kernel bounds its length.
TESTS_AT_ONCE = 400


class Outcome(StrEnum):
    CAUGHT = "caught"
    SURVIVED = "survived"
    UNREACHED = "unreached"


@dataclass(frozen=True)
class Verdict:
    mutant: Mutant
    outcome: Outcome
    by: str = ""  # the test that failed, or that the tests did not end
    tests: int = 0


class Copy:
    """A copy of the project's files in a directory of its own, in which one mutant at a time is tried."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.root = directory
        names = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            if (root / name).is_file():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, directory / name)
        self._runner = Runner(directory)

    def close(self) -> None:
        self._runner.close()

    @classmethod
    def of(cls, root: Path, directory: Path) -> Self:
        directory.mkdir(parents=True)
        return cls(root, directory)

    def check(self, reach: Reach) -> None:
        """Raise BaselineError if a test fails here without a mutant: every mutant would count as caught."""
        quickest = sorted(reach.seconds, key=lambda test: (reach.seconds[test], test))[:1]
        if (by := self._failed(quickest, reach)) is not None:
            raise BaselineError(f"a test fails in the copy without a mutant, and passed before: {by}")

    def tried(self, mutant: Mutant, reach: Reach) -> Verdict:
        """Run the tests that reach the mutant until one fails: the quick ones first."""
        tests = _reaching(mutant, reach)
        if not tests:
            return Verdict(mutant, Outcome.UNREACHED)
        path = self.root / mutant.path
        source = path.read_bytes()
        path.write_bytes(mutant.applied(source))
        try:
            for part in _parts(tests, reach):
                if (by := self._failed(part, reach)) is not None:
                    return Verdict(mutant, Outcome.CAUGHT, by, len(tests))
        finally:
            path.write_bytes(source)
        return Verdict(mutant, Outcome.SURVIVED, tests=len(tests))

    def _failed(self, tests: Sequence[str], reach: Reach) -> str | None:
        limit_s = START_S + SLOWER * sum(reach.seconds.get(test, 1.0) for test in tests)
        return self._runner.run(tests, limit_s)


def _reaching(mutant: Mutant, reach: Reach) -> list[str]:
    """A script in Lua has no lines that coverage sees: the tests of the module beside it are its own."""
    if mutant.path.endswith(".lua"):
        return reach.of_file(mutant.path.removesuffix(".lua") + ".py")
    return reach.of(mutant.path, lines(mutant))


def _parts(tests: Sequence[str], reach: Reach) -> list[list[str]]:
    """The tests in parts: those of the first seconds, then the rest."""
    parts: list[list[str]] = [[]]
    spent_s = 0.0
    for test in tests:
        spent_s += reach.seconds.get(test, 0.0)
        if parts[-1] and (len(parts[-1]) >= TESTS_AT_ONCE or (len(parts) == 1 and spent_s > QUICK_S)):
            parts.append([])
        parts[-1].append(test)
    return parts
