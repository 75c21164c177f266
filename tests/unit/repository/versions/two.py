"""Two versions of the program on one repository: a kept one in processes of its own, and this one in the test's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freezeframe.repository import Repository

from . import program

HERE = Path(program.__file__).parent

#: The last version that refuses every unknown key.
REFUSING = "8ee6b35"

#: The version that landed before the one in this tree: it keeps unknown keys, and has lineages.
LANDED = "de9f8dd"


def archive(version: str) -> Path:
    """Return the archive of a kept version."""
    return HERE / f"{version}.zip"


def run_as(version: str, *command: str) -> str:
    """Run a Python of a kept version, outside the tree, and return its output."""
    env = {**os.environ, "PYTHONPATH": str(archive(version))}
    return subprocess.run(
        [sys.executable, *command], env=env, capture_output=True, text=True, check=True, cwd="/"
    ).stdout


class Older:
    """A process of a kept version, that does steps in any repository."""

    def __init__(self, version: str, log: Path) -> None:
        self._log = log
        self._stderr = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, program.__file__],
            env={**os.environ, "PYTHONPATH": str(archive(version))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            cwd="/",
        )

    def answer(self, *step: str) -> Any:
        """Have it do a step; its answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(step) + "\n")
        stdin.flush()
        for line in stdout:
            if line.startswith("{"):  # the rest is its log
                return json.loads(line)
        raise AssertionError(self._log.read_text())

    def end(self) -> None:
        self._process.communicate()
        self._stderr.close()


@dataclass(frozen=True)
class Two:
    """A repository that two versions use."""

    older: Older
    root: Path
    key: str  # a key file, or `-`

    def old(self, *steps: str) -> list[Any]:
        """Have the older version do some steps; what each gave."""
        return [self.older.answer(str(self.root), self.key, one) for one in steps]

    def this(self, *steps: str) -> list[Any]:
        """Have this version do some steps; what each gave."""
        return [json.loads(program.answer(str(self.root), self.key, one)) for one in steps]

    def new(self) -> Repository:
        return Repository.open(self.root, program.Key(None if self.key == "-" else Path(self.key)))

    def objects(self) -> dict[str, bytes]:
        return {str(one.relative_to(self.root)): one.read_bytes() for one in self.root.rglob("*") if one.is_file()}


@contextmanager
def running(version: str, folder: Path) -> Iterator[Older]:
    """Have a process of a kept version for as long as the block lasts."""
    older = Older(version, folder / "log")
    try:
        yield older
    finally:
        older.end()


def two_of(older: Older, folder: Path, *, encrypted: bool) -> Two:
    """Return a place for a repository, with a key file for it if it is to be encrypted."""
    if not encrypted:
        return Two(older, folder / "repository", "-")
    return Two(older, folder / "repository", str(new_key(folder / "key", bytes(range(32)))))


def new_key(file: Path, key: bytes) -> Path:
    """Return the file, with a key in it."""
    file.write_bytes(key)
    file.chmod(0o600)
    return file
