"""Try one mutant: change the file in a copy of the project, run the tests that reach it, put the file back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from ops.mutants.mutation import Mutant, lines
from ops.mutants.reach import BaselineError, Reach
from ops.mutants.runner import TOOL, Runner, RunnerError

#: Tests that are run before all others, and their seconds.
LIKELY_TESTS, LIKELY_S = 25, 3.0
#: Seconds of tests that are run next: most mutants are caught by a quick test.
QUICK_S = 15.0
#: Tests that hang are ended after three times what they take, and seconds for the start and for each file to import.
SLOWER, START_S, FILE_S = 3.0, 10.0, 2.0
#: One test that hangs is ended after so much, and so many times what the slowest beside it takes.
TEST_S, TEST_SLOWER = 5.0, 5.0
#: Tests of one command line; the kernel bounds its length.
TESTS_AT_ONCE = 400


#: What caught a mutant that ended pytest without a test that failed.
BROKE = "pytest broke"


class Outcome(StrEnum):
    CAUGHT = "caught"
    SURVIVED = "survived"
    UNREACHED = "unreached"


@dataclass(frozen=True)
class Verdict:
    mutant: Mutant
    outcome: Outcome
    by: str = ""  # the test that failed, or how the tests ended without one
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
        self._catches: Counter[tuple[str, str]] = Counter()  # file, test

    def close(self) -> None:
        self._runner.close()

    @classmethod
    def of(cls, root: Path, directory: Path) -> Self:
        directory.mkdir(parents=True)
        return cls(root, directory)

    def compile(self, tests: Sequence[str]) -> None:
        """Have Python keep what it compiles: later runs write nothing, lest they keep a mutant's."""
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *tests]
        env = {**os.environ, "PYTHONPATH": f"{self.root}{os.pathsep}{TOOL}"}
        subprocess.run(
            command, cwd=self.root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )

    def check(self, reach: Reach) -> None:
        """Raise BaselineError if a test fails here without a mutant: every mutant would count as caught."""
        quickest = sorted(reach.seconds, key=lambda test: (reach.seconds[test], test))[:1]
        if (by := self._failed(quickest, reach)) is not None:
            raise BaselineError(f"a test fails in the copy without a mutant, and passed before: {by}")

    def tried(self, mutant: Mutant, reach: Reach, hint: str | None = None) -> Verdict:
        """Run the tests that reach the mutant until one fails: first `hint`, if it is one of them, then the quick ones."""
        tests = _reaching(mutant, reach)
        if not tests:
            return Verdict(mutant, Outcome.UNREACHED)
        first = [test for test in tests if test == hint]
        likely = [test for test in self._likely(mutant.path, tests, reach) if test != hint]
        rest = [test for test in tests if test not in first and test not in likely]
        for part in filter(None, [first, likely, *_parts(rest, reach)]):
            if (by := self._failed_with(mutant, part, reach)) is not None:
                self._catches[mutant.path, by] += 1
                return Verdict(mutant, Outcome.CAUGHT, by, len(tests))
        return Verdict(mutant, Outcome.SURVIVED, tests=len(tests))

    def _likely(self, path: str, tests: Sequence[str], reach: Reach) -> list[str]:
        """Return a few tests that probably fail: those that caught most other mutants of the file, then its own tests."""
        stem = Path(path).stem
        own = [test for test in tests if stem in Path(test.partition("::")[0]).stem]
        best = sorted(
            (test for test in tests if self._catches[path, test]), key=lambda test: -self._catches[path, test]
        )
        found: list[str] = []
        spent_s = 0.0
        for test in dict.fromkeys([*best, *own]):
            spent_s += reach.seconds.get(test, 0.0)
            if spent_s > LIKELY_S or len(found) >= LIKELY_TESTS:
                break
            found.append(test)
        return found

    def _failed_with(self, mutant: Mutant, tests: Sequence[str], reach: Reach) -> str | None:
        """Return the first test that fails with the mutant in place.

        A pytest that ends without naming a test counts only if the same tests pass without the mutant: a mutant may break
        pytest itself (a leak that it makes an error of, a process that ends), and so may a tool that is wrong.
        """
        path = self.root / mutant.path
        source = path.read_bytes()
        path.write_bytes(mutant.applied(source))
        try:
            return self._failed(tests, reach)
        except RunnerError:
            path.write_bytes(source)
            if self._failed(tests, reach) is not None:
                raise
            return BROKE
        finally:
            path.write_bytes(source)

    def _failed(self, tests: Sequence[str], reach: Reach) -> str | None:
        files = {test.partition("::")[0] for test in tests}
        taken = [reach.seconds.get(test, 1.0) for test in tests]
        limit_s = START_S + FILE_S * len(files) + SLOWER * sum(taken)
        return self._runner.run(tests, limit_s, TEST_S + TEST_SLOWER * max(taken, default=0.0))


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
