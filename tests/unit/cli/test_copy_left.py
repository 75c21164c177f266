"""`repo copy` names what is not whole in the copy, whatever was chosen, with advice that works as it is printed."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

import pytest

from freezeframe.cli.unwinding import unwinding
from freezeframe.errors import EXIT_DAMAGED, EXIT_REFUSED, EXIT_REPOSITORY
from freezeframe.repository import Repository
from freezeframe.repository.copying.capture import CaptureCopier
from freezeframe.repository.document import checked
from freezeframe.repository.session import SessionState

from .manifests import capture_id, manifest_of
from .run import Ran, Run

ONE, TWO = capture_id(1), capture_id(2)


@pytest.fixture
def repository(place: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Two captures."""
    monkeypatch.setenv("FREEZEFRAME_KNOWN_REPOSITORIES", str(place / "state.json"))
    made = Repository.init(place / "repository", chunk_bytes=4096)
    for number in (1, 2):
        made.write_manifest(manifest_of(made, capture_id(number)))
    return made


@pytest.fixture
def copy(run: Run, repository: Repository, place: Path) -> Path:
    where = place / "the copy"
    assert run("repo", "copy", str(where), "--create").exit_code == 0
    return where


def paste(run: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Run a command as a shell would that it is pasted into."""
    words = shlex.split(command)
    with monkeypatch.context() as patch:
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            patch.setenv(name, value)
        assert words.pop(0) == "freezeframe"
        return run(*words)


def test_a_damaged_manifest_in_the_copy_is_told_and_copied_again_as_is_advised(
    run: Run, place: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "manifests" / f"{ONE}.json").write_bytes(b"{}")
    ran = run("repo", "copy", str(copy), "--json")
    assert (ran.exit_code, ran.document["whole"], ran.document["there"]) == (EXIT_DAMAGED, False, [TWO])
    told = run("repo", "copy", str(copy))
    assert f"damaged: {ONE} is in the copy, and is not whole there." in told.stderr
    commands = re.findall("`([^`]*)`", ran.document["left"][0]["advice"])
    assert ran.document["left"][0]["advice"] in told.stderr
    assert len(commands) == 2
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(place / "elsewhere"))
    assert [paste(run, one, monkeypatch).exit_code for one in commands] == [0, 0]
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(copy))
    assert run("repo", "check").exit_code == 0
    assert run("restore", ONE, "--to", str(place / "out")).exit_code == 0


@pytest.mark.parametrize("chosen", [("--guest", "NAME"), ("--group", "no-such-group"), ("--tag", "none")], ids=" ".join)
def test_a_manifest_that_cannot_be_read_is_told_though_nobody_knows_whether_it_was_chosen(
    run: Run, place: Path, repository: Repository, chosen: tuple[str, str]
) -> None:
    name = repository.manifest(ONE).guests[0].name
    (place / "repository" / "manifests" / f"{ONE}.json").write_bytes(b"{}")
    option = [name if one == "NAME" else one for one in chosen]
    ran = run("repo", "copy", str(place / "copy"), "--create", *option, "--json")
    assert (ran.exit_code, ran.document["whole"]) == (EXIT_DAMAGED, False)
    assert [one["capture_id"] for one in ran.document["left"]] == [ONE]
    assert ran.document["copied"] == ([TWO] if chosen[0] == "--guest" else [])
    newer = checked({"format": 9})
    (place / "repository" / "manifests" / f"{ONE}.json").write_bytes(newer)
    ran = run("repo", "copy", str(place / "copy"), *option, "--json")
    assert (ran.exit_code, ran.document["left"][0]["why"]) == (EXIT_REPOSITORY, "newer")


def test_the_advice_about_damage_names_the_repository_that_has_it(
    run: Run, place: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "repository" / "manifests" / f"{ONE}.json").write_bytes(b"{}")
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(place / "elsewhere"))
    ran = run("repo", "copy", str(place / "copy"), "--create", "--repository", str(place / "repository"), "--json")
    (command,) = re.findall("`([^`]*)`", ran.document["left"][0]["advice"])
    pasted = paste(run, command, monkeypatch)
    assert (pasted.exit_code, ONE in pasted.stdout + pasted.stderr) == (EXIT_DAMAGED, True)


def test_nothing_is_replaced_in_the_repository_from_which_this_machine_takes_nothing_away(
    run: Run, place: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_DELETES", "no")
    assert run("repo", "copy", str(copy)).exit_code == 0  # it is another one
    source = str(place / "repository")
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(copy))
    before = {one: one.read_bytes() for one in copy.rglob("*") if one.is_file()}
    for spelling in (str(copy), f"{copy}/", f"file://{copy}"):
        refused = run("repo", "copy", spelling, "--repository", source, "--json")
        assert (refused.exit_code, refused.document["error"]["code"]) == (EXIT_REFUSED, "deletes-refused")
    assert {one: one.read_bytes() for one in copy.rglob("*") if one.is_file()} == before
    assert run("repo", "copy", str(copy), "--repository", source, "--dry-run").exit_code == 0


def test_a_source_that_is_an_older_state_gets_back_what_the_copy_has_as_is_advised(
    run: Run, place: Path, repository: Repository, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = place / "repository" / "manifests" / f"{TWO}.json"
    manifest.rename(place / "newer state")
    refused = run("repo", "copy", str(copy), "--json")
    assert (refused.exit_code, refused.document["error"]["code"]) == (EXIT_REFUSED, "copy-diverged")
    check, back = re.findall("`([^`]*)`", refused.document["error"]["advice"])
    assert "repo pin --check" in check
    assert paste(run, back, monkeypatch).exit_code == 0
    assert manifest.read_bytes() == (place / "newer state").read_bytes()
    assert run("repo", "copy", str(copy)).exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_a_copy_that_is_told_to_end_leaves_no_session_open(
    run: Run, place: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Else nothing that is condemned could be deleted for a week."""

    def deaf(*_: object) -> None:  # or a failure of this test would end all tests
        pass

    before = signal.signal(number, deaf)
    monkeypatch.setattr(CaptureCopier, "copy", lambda *_: signal.raise_signal(number))
    try:
        assert run("repo", "copy", str(place / "copy"), "--create").exit_code == 128 + number
        assert signal.getsignal(number) is deaf
    finally:
        signal.signal(number, before)
    for side in ("repository", "copy"):
        (session,) = Repository.open(place / side).sessions.all()
        assert session.state is SessionState.FAILED


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with unwinding():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("verb", [("repo", "feature"), ("repo", "feature", "enable", "any")], ids=" ".join)
def test_errors_of_verbs_within_verbs_are_json_too(run: Run, place: Path, verb: tuple[str, ...]) -> None:
    ran = run(*verb, "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (EXIT_REPOSITORY, "repository-not-found")


@pytest.mark.parametrize("verb", [("repo", "init", "COPY"), ("repo", "copy", "COPY", "--create")], ids=" ".join)
def test_a_place_that_has_lost_its_config_is_no_empty_one(run: Run, copy: Path, verb: tuple[str, ...]) -> None:
    (copy / "config").unlink()
    ran = run(*(str(copy) if word == "COPY" else word for word in verb), "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (EXIT_REPOSITORY, "repository-exists")
    assert "has lost its config" in ran.document["error"]["message"]
