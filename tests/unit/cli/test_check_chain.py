"""`repo check` shows its report whatever the chain is like, and an old object that is refused stops no restore (A4)."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from freezeframe.errors import EXIT_DAMAGED, EXIT_REPOSITORY
from freezeframe.repository import Repository
from freezeframe.repository.chain import Chain
from freezeframe.repository.document import checked
from freezeframe.repository.errors import RepositoryNotReadable
from freezeframe.repository.store.filesystem import Filesystem

from .manifests import capture_id, manifest_of
from .run import Run

TOMBSTONE = "01M8GCJQRXXC49GY6ZZEC29A89"


@pytest.fixture
def repository(place: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Repository:
    """Three captures, of which the newest is pinned."""
    monkeypatch.setenv("FREEZEFRAME_KNOWN_REPOSITORIES", str(place / "state.json"))
    made = Repository.init(place / "repository", chunk_bytes=4096)
    for number in (1, 2, 3):
        made.write_manifest(manifest_of(made, capture_id(number)))
    assert run("repo", "pin").exit_code == 0
    return made


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parts of the names of files that the disk does not give."""
    names: list[str] = []
    real = Filesystem.open

    def bad_sector(self: Filesystem, path: Path) -> io.RawIOBase:
        if any(one in str(path) for one in names):
            raise OSError(5, "Input/output error", str(path))
        return real(self, path)

    monkeypatch.setattr(Filesystem, "open", bad_sector)
    return names


def lose_a_chunk(repository: Repository) -> str:
    """Lose one of a capture whose manifest is read."""
    index = repository.manifest(capture_id(2)).guests[0].disks[0].index
    with repository.index(index) as opened:
        digest = next(digest for _, digest in opened.used_slots())
    (Path(repository.address) / repository.objects.protection.locate(digest)).unlink()
    return digest.hex()


def add_newer_tombstone(repository: Repository) -> None:
    content = checked({"format": 2, "x": 1})
    (Path(repository.address) / f"lineage/{TOMBSTONE}.json").write_bytes(content)


def test_an_old_manifest_that_is_refused_stops_no_restore_of_the_latest(
    run: Run, place: Path, repository: Repository, refused: list[str]
) -> None:
    refused.append(capture_id(1))
    ran = run("restore", "latest", "--to", str(place / "out"))
    assert ran.exit_code == 0
    assert "warning: " in ran.stderr
    assert capture_id(1) in ran.stderr
    for verb in ("repo check", "repo pin", "repo pin --check"):
        ran = run(*verb.split())
        assert (ran.exit_code, capture_id(1) in ran.stderr) == (EXIT_REPOSITORY, True)
    (place / f"repository/manifests/{capture_id(3)}.json").unlink()  # and a real rollback is found
    told = run("restore", "latest", "--to", str(place / "again"), "--json")
    assert told.document["error"]["code"] == "repository-rolled-back"
    assert run("repo", "check").exit_code == EXIT_DAMAGED


def test_where_the_pinned_manifest_is_refused_that_is_told(
    run: Run, place: Path, repository: Repository, refused: list[str]
) -> None:
    refused.append(capture_id(3))
    told = run("restore", "latest", "--to", str(place / "out"), "--json")
    assert (told.exit_code, told.document["error"]["code"]) == (EXIT_REPOSITORY, "repository-not-readable")
    assert capture_id(3) in told.document["error"]["message"]


@pytest.mark.parametrize("what", ["manifest", "tombstone", "newer tombstone"])
def test_missing_chunks_are_told_though_the_chain_cannot_be_read(
    run: Run, repository: Repository, refused: list[str], what: str
) -> None:
    add_newer_tombstone(repository)
    if what != "newer tombstone":
        refused.append(capture_id(1) if what == "manifest" else TOMBSTONE)
    assert run("repo", "check").exit_code == EXIT_REPOSITORY
    lost = lose_a_chunk(repository)
    shown = run("repo", "check")
    assert shown.exit_code == EXIT_DAMAGED
    assert f"Chunk {lost} is missing." in shown.stderr
    assert TOMBSTONE in shown.stderr
    assert ("newer: " if what != "tombstone" else "unreadable: ") in shown.stderr
    document = run("repo", "check", "--json").document
    assert (document["sound"], document["rolled_back"]) == (False, [])
    assert any(TOMBSTONE in one for one in document["not_compared"])
    assert document["chunks"][0]["digest"] == lost


def test_the_report_is_shown_before_the_chain_is_read(
    run: Run, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = lose_a_chunk(repository)

    def away(_: Repository) -> Chain:
        raise RepositoryNotReadable("The store has gone away.")

    monkeypatch.setattr("freezeframe.cli.check.read_chain", away)
    shown = run("repo", "check")
    assert shown.exit_code == EXIT_DAMAGED
    assert shown.stderr.index(lost) < shown.stderr.index("unreadable: The store has gone away.")


def test_accepting_says_what_was_not_compared(run: Run, repository: Repository) -> None:
    add_newer_tombstone(repository)
    assert run("repo", "pin").exit_code == EXIT_REPOSITORY
    ran = run("repo", "pin", "--accept")
    assert ran.exit_code == 0
    assert "not compared: " in ran.stderr


def test_foreign_names_are_told_on_one_line(run: Run, repository: Repository) -> None:
    for folder in ("manifests", "keys", "tmp"):
        place = Path(repository.address) / folder
        place.mkdir(exist_ok=True)
        (place / "x\nsound: captures: 99, all there").touch()
    lines = run("repo", "check").stdout.splitlines()
    assert [one for one in lines if one.startswith("sound: ")] == [lines[-1]]
    assert "captures: 99" not in lines[-1]
    assert any("x␤sound: captures: 99" in one for one in lines[:-1])


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_foreign_names_that_are_no_utf_8_are_told_in_any_locale(
    place: Path, repository: Repository, options: tuple[str, ...]
) -> None:
    name = os.fsdecode(b"\xff\xfe\xc3\xa4")
    (Path(repository.address) / "manifests" / name).touch()
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))},
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    command = [sys.executable, "-m", "freezeframe", "repo", "check", *options]
    ran = subprocess.run(command, env=env, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"sound" in ran.stdout
    if options:  # the document is what it is in any locale
        assert json.loads(ran.stdout)["garbage"]["strange"] == [
            f"manifests/{os.fsencode(name).decode('ascii', 'surrogateescape')}"
        ]
