"""`repo copy`: a copy is made, goes on, is used like any repository, and is refused where it would harm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from freezeframe.access import ConfiguredKey
from freezeframe.errors import EXIT_DAMAGED, EXIT_REFUSED, EXIT_REPOSITORY
from freezeframe.repository import Repository
from freezeframe.repository.copying import PROGRAM
from freezeframe.repository.document import checked

from .manifests import capture_id, manifest_of
from .run import Run

ONE, TWO = capture_id(1), capture_id(2)


@pytest.fixture
def repository(place: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Two captures."""
    monkeypatch.setenv("FREEZEFRAME_KNOWN_REPOSITORIES", str(place / "state.json"))
    made = Repository.init(place / "repository", chunk_bytes=4096)
    for number in (1, 2):
        made.write_manifest(manifest_of(made, capture_id(number)))
    return made


def test_a_copy_is_made_and_used_like_its_source(run: Run, place: Path, repository: Repository) -> None:
    pinned = run("repo", "pin", "--json").stdout
    (place / "pin.json").write_text(pinned)
    there = str(place / "copy")
    missing = run("repo", "copy", there, "--json")
    assert missing.exit_code == EXIT_REPOSITORY
    assert "--create" in missing.document["error"]["advice"]
    assert not (place / "copy").exists()
    made = run("repo", "copy", there, "--create", "--json")
    assert (made.exit_code, made.document["created"], made.document["copied"]) == (0, True, [ONE, TWO])
    again = run("repo", "copy", there)
    assert again.exit_code == 0
    assert "captures copied: 0, there before: 2" in again.stdout


def test_every_verb_takes_the_copy_for_its_source(
    run: Run, place: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "pin.json").write_text(run("repo", "pin", "--json").stdout)
    assert run("repo", "copy", str(place / "copy"), "--create").exit_code == 0
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(place / "copy"))
    assert run("repo", "pin", "--check", "--against", str(place / "pin.json")).exit_code == 0
    assert run("repo", "check").exit_code == 0
    assert run("verify", "--all").exit_code == 0
    assert run("restore", "latest", "--to", str(place / "out")).exit_code == 0
    assert run("forget", ONE).exit_code == 0


def test_a_part_is_copied_and_a_pin_tells_what_is_missing(
    run: Run, place: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "pin.json").write_text(run("repo", "pin", "--json").stdout)
    there = str(place / "copy")
    dry = run("repo", "copy", there, "--create", "--capture", ONE, "--dry-run", "--json")
    assert (dry.document["dry_run"], dry.document["copied"], dry.document["destination"]) == (True, [ONE], there)
    assert not (place / "copy").exists()
    assert f"would be copied: {ONE}" in run("repo", "copy", there, "--create", "--capture", ONE, "-n").stdout
    assert run("repo", "copy", there, "--create", "--capture", ONE, "--json").document["copied"] == [ONE]
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", there)
    assert run("repo", "check").exit_code == 0
    told = run("repo", "pin", "--check", "--against", str(place / "pin.json"), "--json")
    assert told.exit_code == EXIT_DAMAGED
    assert "not in this copy" in told.document["error"]["message"]


def test_captures_of_a_guest_are_chosen(run: Run, place: Path, repository: Repository) -> None:
    name = repository.manifest(ONE).guests[0].name
    there = str(place / "copy")
    none = run("repo", "copy", there, "--create", "--guest", "no-such-guest", "--json")
    assert none.document["copied"] == []
    assert run("repo", "copy", there, "--guest", name, "--json").document["copied"] == [ONE, TWO]
    assert run("repo", "copy", there, "--guest", name, "--capture", ONE).exit_code == 2


def test_another_source_than_the_settings(run: Run, place: Path, repository: Repository) -> None:
    shutil.copytree(place / "repository", place / "other")
    assert run("repo", "copy", str(place / "copy"), "--create", "--repository", str(place / "other")).exit_code == 0


@pytest.mark.parametrize("spelling", ["repository", "repository/", "link", "repository/inner", "."])
def test_the_source_itself_is_refused(run: Run, place: Path, repository: Repository, spelling: str) -> None:
    (place / "link").symlink_to(place / "repository")
    before = sorted(place.rglob("*"))
    refused = run("repo", "copy", f"{place}/{spelling}", "--create", "--json")
    assert (refused.exit_code, refused.document["error"]["code"]) == (EXIT_REFUSED, "same-repository")
    assert sorted(place.rglob("*")) == before


def test_another_repository_is_refused(run: Run, place: Path, repository: Repository) -> None:
    Repository.init(place / "other", chunk_bytes=4096)
    refused = run("repo", "copy", str(place / "other"), "--create", "--json")
    assert (refused.exit_code, refused.document["error"]["code"]) == (EXIT_REFUSED, "not-a-copy")
    (place / "full").mkdir()
    (place / "full" / "letter").write_text("mine")
    assert run("repo", "copy", str(place / "full"), "--create").exit_code == EXIT_REPOSITORY


def test_a_copy_that_was_captured_into_is_refused_with_a_way_on(run: Run, place: Path, repository: Repository) -> None:
    assert run("repo", "copy", str(place / "copy"), "--create").exit_code == 0
    copy = Repository.open(place / "copy")
    copy.write_manifest(manifest_of(copy, capture_id(7)))
    refused = run("repo", "copy", str(place / "copy"), "--json")
    assert (refused.exit_code, refused.document["error"]["code"]) == (EXIT_REFUSED, "copy-diverged")
    assert capture_id(7) in refused.document["error"]["message"]
    assert (
        f"FREEZEFRAME_REPOSITORY={repository.address} freezeframe repo pin --check"
        in refused.document["error"]["advice"]
    )


def test_a_damaged_capture_is_named_and_others_are_copied(run: Run, place: Path, repository: Repository) -> None:
    file = place / "repository" / "manifests" / f"{ONE}.json"
    file.write_bytes(file.read_bytes()[:-9])
    ran = run("repo", "copy", str(place / "copy"), "--create")
    assert ran.exit_code == EXIT_DAMAGED
    assert f"damaged: {ONE} was left out" in ran.stderr
    assert Repository.open(place / "copy").capture_ids() == [TWO]


def test_a_newer_capture_is_no_damage(run: Run, place: Path, repository: Repository) -> None:
    file = place / "repository" / "manifests" / f"{ONE}.json"
    content = json.loads(file.read_bytes())
    file.write_bytes(checked({**content, "more": 1, "critical": ["more"]}))
    ran = run("repo", "copy", str(place / "copy"), "--create")
    assert ran.exit_code == EXIT_REPOSITORY
    assert f"newer: {ONE}" in ran.stderr
    assert "Update freezeframe" in ran.stderr


@pytest.mark.parametrize(("how", "refusal"), [("--encrypt", "not-encrypted"), ("--authenticate", "not-authenticated")])
def test_a_copy_of_one_with_keys_opens_with_the_same_key_and_is_remembered(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, how: str, refusal: str
) -> None:
    monkeypatch.setenv("FREEZEFRAME_KNOWN_REPOSITORIES", str(place / "state.json"))
    key = place / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(key))
    assert run("repo", "init", how).exit_code == 0
    made = Repository.open(place / "repository", ConfiguredKey(key))
    made.write_manifest(manifest_of(made, ONE))
    assert run("repo", "copy", str(place / "copy"), "--create").exit_code == 0
    assert str(place / "copy") in (place / "state.json").read_text()
    assert Repository.open(place / "copy", ConfiguredKey(key)).capture_ids() == [ONE]
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(place / "copy"))
    assert run("repo", "check").exit_code == 0
    # at that address another repository is expected then
    shutil.rmtree(place / "copy")
    monkeypatch.delenv("FREEZEFRAME_KEY_FILE")
    Repository.init(place / "plain", chunk_bytes=4096)
    (place / "copy").mkdir()
    ran = run("repo", "copy", str(place / "copy"), "--create", "--repository", str(place / "plain"), "--json")
    assert ran.document["error"]["code"] == refusal


def test_garbage_collection_tells_a_copy_that_is_under_way(run: Run, repository: Repository) -> None:
    session = repository.sessions.begin("01JZ0000000000000000000001", PROGRAM)
    assert f"under way: copy {session.session_id}, begun" in run("gc").stderr
