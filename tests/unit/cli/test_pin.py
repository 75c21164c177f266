"""`repo pin`: the newest capture is remembered, and an older state of the repository is found (A4)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from uuid import uuid4

import pytest

from freezeframe.access import ConfiguredKey
from freezeframe.errors import EXIT_DAMAGED
from freezeframe.repository import Repository

from .manifests import capture_id, manifest_of
from .run import Ran, Run


@pytest.fixture
def repository(place: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Three captures, of which the newest is pinned; and a copy of the store from before the third."""
    monkeypatch.setenv("FREEZEFRAME_KNOWN_REPOSITORIES", str(place / "state.json"))
    made = Repository.init(place / "repository", chunk_bytes=4096)
    for number in (1, 2):
        made.write_manifest(manifest_of(made, capture_id(number)))
    shutil.copytree(place / "repository", place / "older", copy_function=shutil.copy2)
    made.write_manifest(manifest_of(made, capture_id(3)))
    return made


def put_back(place: Path) -> None:
    """Do what an attacker does, or a file server's backup."""
    (place / "repository").rename(place / "newer")
    (place / "older").rename(place / "repository")


def check_told(ran: Ran, *words: str) -> None:
    assert ran.exit_code == EXIT_DAMAGED
    assert ran.document["error"]["code"] == "repository-rolled-back"
    assert "repo pin --accept" in ran.document["error"]["advice"]
    for word in words:
        assert word in ran.document["error"]["message"]


def test_an_older_state_is_found_by_every_verb_that_looks(run: Run, place: Path, repository: Repository) -> None:
    pinned = run("repo", "pin", "--json")
    assert (pinned.document["pin"]["capture_id"], pinned.document["pin"]["counter"]) == (capture_id(3), 3)
    (place / "kept.json").write_text(pinned.stdout)
    for looks in (("repo", "pin", "--check"), ("repo", "check"), ("repo", "pin")):
        assert run(*looks).exit_code == 0
    put_back(place)
    restore = ("restore", "latest", "--to", str(place / "out"), "--json")
    for verb in (
        ("repo", "pin", "--check", "--json"),
        ("repo", "pin", "--json"),
        ("export", "latest", "--to", str(place / "set"), "--json"),
        restore,
    ):
        check_told(run(*verb), capture_id(3), capture_id(2))
    assert not (place / "out").exists()
    checked = run("repo", "check", "--json")
    assert (checked.exit_code, checked.document["sound"]) == (EXIT_DAMAGED, False)
    assert capture_id(3) in checked.document["rolled_back"][0]
    shown = run("repo", "check")
    assert "rolled back: " in shown.stderr
    assert "all objects sound" in shown.stdout
    assert run("restore", capture_id(1), "--to", str(place / "one")).exit_code == 0
    (place / "state.json").unlink()
    check_told(run("repo", "pin", "--check", "--against", str(place / "kept.json"), "--json"), capture_id(3))


def test_it_is_accepted_on_purpose(run: Run, place: Path, repository: Repository) -> None:
    assert run("repo", "pin").exit_code == 0
    put_back(place)
    told = run("repo", "pin", "--check", "--json").document["error"]["advice"]
    assert f"`FREEZEFRAME_REPOSITORY={repository.address} freezeframe repo pin --accept`" in told
    assert run("repo", "pin", "--accept").exit_code == 0
    assert run("repo", "pin", "--check").exit_code == 0
    assert run("restore", "latest", "--to", str(place / "out")).exit_code == 0


def test_a_capture_that_nobody_has_forgotten_is_missed(run: Run, place: Path, repository: Repository) -> None:
    assert run("forget", capture_id(1)).exit_code == 0
    assert run("repo", "check").exit_code == 0
    (place / "repository" / "manifests" / f"{capture_id(2)}.json").unlink()
    for verb in (("repo", "pin", "--json"), ("repo", "pin", "--check", "--json")):
        check_told(run(*verb), capture_id(2), "nobody has forgotten")
    assert run("repo", "check").exit_code == EXIT_DAMAGED


def test_opening_it_with_a_key_keeps_the_pin(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_KNOWN_REPOSITORIES", str(place / "state.json"))
    key = place / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(key))
    assert run("repo", "init", "--encrypt").exit_code == 0
    assert run("repo", "pin", "--json").document["pin"] is None
    made = Repository.open(place / "repository", ConfiguredKey(key))
    made.write_manifest(manifest_of(made, capture_id(1)))
    assert run("repo", "pin").exit_code == 0
    before = (place / "state.json").read_bytes()
    assert run("captures").exit_code == 0
    assert (place / "state.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "{}", "[]", "[" * 100_000, '{"id": "x"}', '{"id": "\ud800"}'])
def test_a_file_that_is_no_pin_is_refused(run: Run, place: Path, repository: Repository, content: str) -> None:
    (place / "pin.json").write_bytes(content.encode(errors="surrogatepass"))
    for verb in (("--check", "--against", str(place / "pin.json")), ("--against", "x"), ("--check", "--accept")):
        assert run("repo", "pin", *verb).exit_code == 2


def test_a_kept_pin_is_read_however_its_id_is_written_and_by_older_versions(
    run: Run, place: Path, repository: Repository
) -> None:
    kept = run("repo", "pin", "--json").document
    file, check = place / "kept.json", ("repo", "pin", "--check", "--against", str(place / "kept.json"))
    for one in (kept["id"].upper(), f"{{{kept['id']}}}"):
        file.write_text(json.dumps({**kept, "id": one, "more": 1, "pin": {**kept["pin"], "more": 2}}))
        assert run(*check).exit_code == 0
    file.write_text(json.dumps({**kept, "id": str(uuid4())}))
    assert run(*check).exit_code == 2
    file.write_text(json.dumps({**kept, "pin": {**kept["pin"], "more": 2}, "critical": ["more"]}))
    newer = run(*check)
    assert newer.exit_code == 2
    assert "newer version" in newer.stderr
