"""The version before this one, and this one, on one repository: the older one in a process of its own, from an archive (R4).

The older one knows no keys that may be ignored: to it each document with one more key is newer. So it names this version's
captures, restores its own, and deletes nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.chain import read_chain
from freezeframe.repository.check import check
from freezeframe.repository.freshness import holes
from freezeframe.repository.garbage import collect

from .versions import old_program
from .versions.old_program import capture_id

pytestmark = pytest.mark.case("R4")

#: The last version that refuses every unknown key.
BEFORE = Path(old_program.__file__).with_name("8ee6b35.zip")


@dataclass(frozen=True)
class Two:
    """A repository that two versions use."""

    root: Path
    key: str

    def old(self, *steps: str) -> list[Any]:
        """Have the older version do some steps."""
        command = [sys.executable, old_program.__file__, str(self.root), self.key, *steps]
        env = {**os.environ, "PYTHONPATH": str(BEFORE)}
        ran = subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd=self.root.parent)
        return [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]  # the rest is its log

    def new(self) -> Repository:
        return Repository.open(self.root, old_program.Key(None if self.key == "-" else Path(self.key)))

    def objects(self) -> dict[str, bytes]:
        return {str(one.relative_to(self.root)): one.read_bytes() for one in self.root.rglob("*") if one.is_file()}


@pytest.fixture(params=["plain", "encrypted"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Two:
    if request.param == "plain":
        return Two(tmp_path / "repository", "-")
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    return Two(tmp_path / "repository", str(key))


def test_the_archive_is_the_older_version(two: Two) -> None:
    program = "import freezeframe.repository.document as one; print(one.__file__, hasattr(one, 'Document'))"
    env = {**os.environ, "PYTHONPATH": str(BEFORE)}
    ran = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True, cwd="/")
    assert ran.stdout == f"{BEFORE}/freezeframe/repository/document.py False\n"


def test_this_version_uses_what_the_older_one_has_written(two: Two) -> None:
    _, first, second = two.old("init", "capture 1 abc", "capture 2 abd")
    repository = two.new()
    texts = {capture_id(1): "abc", capture_id(2): "abd"}
    assert old_program.read(repository) == {"captures": texts, "unreadable": []}
    old_program.write(repository, 3, "xbd", second["gave"])
    assert first["gave"] != second["gave"]
    repository.forget(capture_id(1))
    repository.forget(capture_id(2))
    collect(repository, grace=timedelta(0))
    assert collect(repository, grace=timedelta(0)).deleted.objects == 0
    assert old_program.read(repository) == {"captures": {capture_id(3): "xbd"}, "unreadable": []}
    assert verify(repository, repository.manifests(), Tier.REHASHED).sound
    found = check(repository)
    assert (found.sound, found.garbage.count) == (True, 0)
    assert holes(read_chain(repository)) == []


def test_the_older_version_names_this_ones_captures_restores_its_own_and_deletes_nothing(two: Two) -> None:
    _, first = two.old("init", "capture 1 abc")
    repository = two.new()
    old_program.write(repository, 2, "xbc", first["gave"])
    two.old("capture 3 def", "forget 3")
    before = two.objects()
    read, collected = two.old("read", "gc")
    assert read["gave"]["captures"] == {capture_id(1): "abc"}
    (unreadable,) = read["gave"]["unreadable"]
    for told in (unreadable, collected["error"]):
        assert told["code"] in {"manifest-newer", "newer-format"}
        assert "newer version of freezeframe" in told["message"]
        assert "Update freezeframe" in told["advice"]
        assert "forget" not in told["advice"]
    assert two.objects() == before
    collect(two.new(), grace=timedelta(0))  # this version frees what the older one would not
    texts = {capture_id(1): "abc", capture_id(2): "xbc"}
    assert old_program.read(two.new()) == {"captures": texts, "unreadable": []}


def test_the_older_version_works_in_a_repository_that_this_one_has_made(two: Two) -> None:
    key = old_program.Key(None if two.key == "-" else Path(two.key))
    Repository.init(two.root, chunk_bytes=old_program.CHUNK, secret=key.secret(), label="first")
    written, read, _, collected = two.old("capture 1 abc", "read", "forget 1", "gc")
    assert "gave" in written
    assert read["gave"]["captures"] == {capture_id(1): "abc"}
    assert collected["gave"] > 0


def test_the_older_version_collects_nothing_while_this_one_has_a_session(two: Two) -> None:
    """This version's sessions have a key that the older one does not know."""
    two.old("init", "capture 1 abc", "forget 1")
    two.new().sessions.begin(capture_id(9), "this version")
    before = two.objects()
    (collected,) = two.old("gc")
    assert collected["error"]["code"] == "newer-format"
    assert "newer version of freezeframe" in collected["error"]["message"]
    assert two.objects() == before
    two.new().sessions.end(capture_id(9), sealed=False)
    assert collect(two.new(), grace=timedelta(0)).deleted.objects > 0
