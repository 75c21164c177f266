"""A machine that takes nothing away (`FREEZEFRAME_REPOSITORY_DELETES=no`): its verbs say so at once, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.errors import EXIT_REFUSED
from freezeframe.repository import Repository

from .manifests import capture_id, manifest_of
from .run import Run


@pytest.fixture
def keeping(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository with a capture, on such a machine."""
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_DELETES", "no")
    return repository


def files(root: Path) -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in root.rglob("*") if one.is_file()}


@pytest.mark.parametrize(
    "verb",
    [
        ("forget", "latest"),
        ("forget", "--keep-last", "1"),
        ("gc",),
        ("verify", "--all"),
        ("verify", "--share", "1/30"),
    ],
    ids=" ".join,
)
def test_what_takes_away_is_refused_with_where_to_run_it(
    run: Run, keeping: Repository, place: Path, verb: tuple[str, ...]
) -> None:
    before = files(place / "repository")
    ran = run(*verb, "--json")
    error = ran.document["error"]
    assert (ran.exit_code, error["code"]) == (EXIT_REFUSED, "deletes-refused")
    assert "on the machine that does retention" in error["advice"]
    assert ("--no-set-aside" in error["advice"]) is (verb[0] == "verify")
    assert files(place / "repository") == before


def test_no_feature_is_switched_on(run: Run, keeping: Repository, place: Path) -> None:
    before = files(place / "repository")
    ran = run("repo", "feature", "enable", "encryption")
    assert (ran.exit_code, "takes objects" in " ".join(ran.stderr.split())) == (EXIT_REFUSED, True)
    assert files(place / "repository") == before


@pytest.mark.parametrize(
    "verb",
    [
        ("captures",),
        ("restore", "latest", "--to", "OUT"),
        ("verify", "--all", "--no-set-aside"),
        ("repo", "check"),
        ("repo", "info"),
        ("repo", "pin"),
        ("forget", "latest", "--dry-run"),
        ("gc", "--dry-run"),
    ],
    ids=" ".join,
)
def test_what_takes_nothing_away_is_done(run: Run, keeping: Repository, place: Path, verb: tuple[str, ...]) -> None:
    assert run(*(str(place / "out") if one == "OUT" else one for one in verb)).exit_code == 0
    assert keeping.capture_ids() == [capture_id(1)]
