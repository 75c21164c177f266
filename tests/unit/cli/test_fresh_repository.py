"""A repository that was just made: verbs say that it is empty, and fail for what would fail later."""

from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.repository import Repository

from .run import Run

pytestmark = pytest.mark.usefixtures("repository", "no_bus")


@pytest.mark.parametrize("verb", [("verify",), ("verify", "latest"), ("captures", "show", "latest")])
def test_the_latest_of_no_captures_is_told_as_that(run: Run, repository: Repository, verb: tuple[str, ...]) -> None:
    ran = run(*verb)
    assert ran.exit_code == 4
    assert f"The repository has no captures: {repository.address}." in ran.stderr
    assert "freezeframe capture" in ran.stderr
    assert "freezeframe captures" not in ran.stderr  # which would show an empty list


@pytest.mark.parametrize(
    "verb", [("gc",), ("gc", "--dry-run"), ("repo", "check"), ("verify", "--all"), ("verify", "--share", "1/30")]
)
def test_temporary_storage_that_cannot_be_used_is_found_before_there_is_anything_to_do(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    assert run(*verb).exit_code == 0
    monkeypatch.setenv("FREEZEFRAME_TMP_DIR", str(place / "gone"))
    ran = run(*verb)
    assert ran.exit_code == 5
    assert "FREEZEFRAME_TMP_DIR" in ran.stderr


def test_what_was_verified_is_shown_without_temporary_storage(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEZEFRAME_TMP_DIR", str(place / "gone"))
    assert run("verify", "--status").exit_code == 0


def test_a_feature_that_init_alone_gives_is_shown_as_such(run: Run) -> None:
    ran = run("repo", "feature")
    assert ran.exit_code == 0
    assert "given by `repo init` only" in " ".join(ran.stdout.split())
    shown = run("repo", "feature", "--json").document["features"]
    assert {one["name"]: (one["state"], one["can_be_enabled"]) for one in shown} == {
        "encryption": ("off", False),
        "authentication": ("off", False),
    }
    for name in ("encryption", "authentication"):
        refused = run("repo", "feature", "enable", name)
        assert refused.exit_code != 0
        assert "given by `freezeframe repo init`" in refused.stderr
    assert "repo init" in run("repo", "feature", "enable", "--help").stdout
