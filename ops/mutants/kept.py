"""Verdicts of earlier runs: a run of hours that was interrupted continues where it ended, and an account needs no new run.

    verdicts.jsonl      one line a verdict, written as soon as it is known
    reach-DIGEST.json   which tests run which lines, for one state of code and tests

When a verdict still counts, for a file whose content is the same to the byte:

    caught                        while the test that caught it is there
    known to be equivalent        always: it is a property of the code
    survived, unreached           while code and tests are the same as a whole: any new test may catch it
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ops.mutants.mutation import Mutant
from ops.mutants.reach import Reach
from ops.mutants.trial import Outcome, Verdict

#: What decides over a verdict: the code, and the tests with all that they are configured by.
_DECIDES = ("freezeframe", "orchestrator", "workers", "tests", "pyproject.toml")
#: The file's content, and the place and text of the change.
_Key = tuple[str, int, int, str]


@dataclass(frozen=True)
class Record:
    """A verdict, and the state of the project that it was found in."""

    path: str
    content: str  # digest of the mutated file
    start: int
    end: int
    after: str
    key: str
    outcome: Outcome
    by: str
    tests: int
    tree: str  # digest of code and tests
    when: str

    @property
    def place(self) -> _Key:
        return self.content, self.start, self.end, self.after


class Kept:
    """The verdicts of one directory, for the project as it is below `root`."""

    def __init__(self, directory: Path, root: Path, tests: Iterable[str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._root = directory, root
        self._file = directory / "verdicts.jsonl"
        self.tree = digest_of(root, tests)
        self._contents: dict[str, str] = {}
        self._records: dict[_Key, Record] = {}
        self._caught_by: dict[tuple[str, str], str] = {}
        for record in _read(self._file):
            self._note(record)

    def last(self, mutant: Mutant) -> Verdict | None:
        """Return the last verdict on this change to the file as it is now."""
        record = self._records.get(self._place(mutant))
        return None if record is None else Verdict(mutant, record.outcome, record.by, record.tests)

    def counts(self, mutant: Mutant, equivalents: Collection[str]) -> Verdict | None:
        """Return the verdict that makes another try needless."""
        record, verdict = self._records.get(self._place(mutant)), self.last(mutant)
        if record is None or verdict is None:
            return None
        if verdict.outcome is Outcome.CAUGHT:
            return verdict if self._is_there(verdict.by) else None
        return verdict if record.tree == self.tree or mutant.key in equivalents else None

    def hint(self, mutant: Mutant) -> str | None:
        """Return the test that last caught this change in the file, whatever else was in it then: it probably does now."""
        return self._caught_by.get((mutant.path, mutant.key))

    def add(self, verdict: Verdict) -> None:
        mutant, (content, *_) = verdict.mutant, self._place(verdict.mutant)
        when = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
        found = (verdict.outcome, verdict.by, verdict.tests)
        record = Record(
            mutant.path, content, mutant.start, mutant.end, mutant.after, mutant.key, *found, self.tree, when
        )
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")
        self._note(record)

    def _note(self, record: Record) -> None:
        self._records[record.place] = record
        if record.outcome is Outcome.CAUGHT and "::" in record.by:
            self._caught_by[record.path, record.key] = record.by

    def reach(self) -> Reach | None:
        """Return what was measured for code and tests as they are now."""
        if not self._reach_file.exists():
            return None
        document = json.loads(self._reach_file.read_text(encoding="utf-8"))
        tests = {
            path: {int(line): frozenset(names) for line, names in lines.items()}
            for path, lines in document["tests"].items()
        }
        return Reach(tests, document["seconds"])

    def add_reach(self, reach: Reach) -> None:
        tests = {path: {line: sorted(names) for line, names in lines.items()} for path, lines in reach.tests.items()}
        for old in self._directory.glob("reach-*.json"):
            old.unlink()
        self._reach_file.write_text(json.dumps({"tests": tests, "seconds": reach.seconds}), encoding="utf-8")

    @property
    def _reach_file(self) -> Path:
        return self._directory / f"reach-{self.tree}.json"

    def _place(self, mutant: Mutant) -> _Key:
        if mutant.path not in self._contents:
            self._contents[mutant.path] = hashlib.sha256((self._root / mutant.path).read_bytes()).hexdigest()
        return self._contents[mutant.path], mutant.start, mutant.end, mutant.after

    def _is_there(self, test: str) -> bool:
        """Return True unless `test` names a test that has been removed or renamed."""
        path, _, name = test.partition("::")
        if not name:
            return True  # it ended without a test that failed
        file = self._root / path
        return file.exists() and f"def {name.rpartition('::')[2].partition('[')[0]}(" in file.read_text("utf-8")


def digest_of(root: Path, tests: Iterable[str]) -> str:
    """Return a digest of all code and tests, and of which tests are run."""
    command = ["git", "ls-files", "-z", *_DECIDES]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    total = hashlib.sha256("\0".join(tests).encode())
    for name in sorted(filter(None, names)):
        if (root / name).is_file():
            total.update(name.encode() + b"\0" + hashlib.sha256((root / name).read_bytes()).digest())
    return total.hexdigest()


def _read(file: Path) -> list[Record]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    records = []
    for line in lines:
        try:
            document = json.loads(line)
        except ValueError:
            continue  # the line that an interrupted run did not finish
        records.append(Record(**{**document, "outcome": Outcome(document["outcome"])}))
    return records
