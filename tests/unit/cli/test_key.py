"""Encrypted repositories from the command line: made, opened by files or a question, their key slots changed."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from freezeframe.access import ConfiguredKey, open_repository
from freezeframe.cli import secret as cli_secret
from freezeframe.cli.lines import Lines
from freezeframe.repository import Repository
from freezeframe.repository.crypto import KeyFileKdf, ScryptKdf, SecretSort, slots
from freezeframe.repository.errors import KeyNotConfigured
from freezeframe.settings import RepositorySettings, SettingsError, load

from .run import Ran, Run

PASSPHRASE = "correct horse"  # noqa: S105


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a passphrase costs is no business of these tests."""
    made = {SecretSort.PASSPHRASE: ScryptKdf(n=2), SecretSort.KEY_FILE: KeyFileKdf()}
    monkeypatch.setattr(slots, "kdf_for", made.__getitem__)


@pytest.fixture
def key_file(place: Path) -> Path:
    path = place / "key"
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)
    return path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits there; what is typed comes from the test."""
    monkeypatch.setattr(cli_secret, "at_terminal", lambda: True)


def config_of(place: Path) -> bytes:
    return (place / "repository" / "config").read_bytes()


def initialised(run: Run, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encrypted repository that opens with the key file, which the settings name."""
    assert run("repo", "init", "--encrypt", "--key-file", str(key_file)).exit_code == 0
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(key_file))


def error_of(ran: Ran) -> str:
    return str(ran.document["error"]["code"])


def test_init_with_a_key_file(run: Run, place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run("repo", "init", "--encrypt", "--key-file", str(key_file), "--label", "host a", "--json")
    assert (ran.exit_code, ran.document["encrypted"], ran.document["features"]) == (0, True, ["encryption"])
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(key_file))
    shown = run("repo", "info", "--json").document
    assert [(slot["label"], slot["sort"]) for slot in shown["key_slots"]] == [("host a", "key-file")]
    assert "host a (key file)" in run("repo", "info").stdout


def test_init_of_one_that_is_authenticated(
    run: Run, place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("repo", "init", "--encrypt", "--authenticate", "--key-file", str(key_file)).exit_code == 2
    assert not (place / "repository").exists()
    ran = run("repo", "init", "--authenticate", "--key-file", str(key_file))
    assert (ran.exit_code, ran.stdout.endswith(", authenticated.\n")) == (0, True)
    assert error_of(run("repo", "info", "--json")) == "key-not-configured"
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(key_file))
    shown = run("repo", "info", "--json").document
    assert (shown["encrypted"], shown["authenticated"], shown["features"]) == (False, True, ["authentication"])
    assert [slot["label"] for slot in shown["key_slots"]] == ["first"]
    assert "none, but authenticated (AES-256-GMAC); opens with: first (key file)" in run("repo", "info").stdout
    pinned = run("repo", "pin", "--json").document
    assert (pinned["encrypted"], pinned["authenticated"]) == (False, True)
    assert run("repo", "feature", "--json").exit_code == 0


def test_init_makes_the_directory_above_the_default_place_and_above_no_other(
    run: Run, place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the README has it, on a fresh machine."""
    field = RepositorySettings.model_fields["repository"]
    monkeypatch.setattr(field, "default", str(place / "fresh" / "repository"))
    RepositorySettings.model_rebuild(force=True)
    monkeypatch.delenv("FREEZEFRAME_REPOSITORY")
    assert run("repo", "init", str(place / "mount" / "repository"), "--json").document["error"]
    assert not (place / "mount").exists()
    assert not (place / "fresh").exists()
    assert run("repo", "init", "--encrypt", "--key-file", str(key_file), "--json").document["encrypted"]
    assert (place / "fresh").stat().st_mode & 0o777 == 0o711
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(place / "mount" / "repository"))
    assert run("repo", "init", "--json").document["error"]
    assert not (place / "mount").exists()
    monkeypatch.undo()
    RepositorySettings.model_rebuild(force=True)


def test_init_with_what_the_settings_name(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "passphrase").write_text(PASSPHRASE + "\n")
    (place / "passphrase").chmod(0o600)
    monkeypatch.setenv("FREEZEFRAME_PASSPHRASE_FILE", str(place / "passphrase"))
    assert run("repo", "init", "--encrypt").exit_code == 0
    assert open_repository().config.encrypted
    assert run("captures").stdout == "The repository has no captures.\n"


def test_init_asks_for_a_passphrase_twice_and_shows_none(run: Run, place: Path, terminal: None) -> None:
    ran = run("repo", "init", "--encrypt", typed=[PASSPHRASE, "other", PASSPHRASE, PASSPHRASE])
    assert ran.exit_code == 0
    assert PASSPHRASE not in ran.stdout + ran.stderr
    assert run("repo", "info", "--json", typed=[PASSPHRASE]).document["encrypted"]
    assert error_of(run("repo", "info", "--json", typed=["wrong"])) == "wrong-key"


def test_without_a_terminal_nobody_is_asked(run: Run, place: Path) -> None:
    ran = run("repo", "init", "--encrypt", "--json", typed=[PASSPHRASE, PASSPHRASE])
    assert error_of(ran) == "secret-unusable"
    assert not (place / "repository").exists()


def test_a_repository_without_encryption_says_so(run: Run, repository: Repository) -> None:
    shown = run("repo", "info", "--json").document
    assert (shown["encrypted"], shown["key_slots"]) == (False, [])
    assert error_of(run("key", "list", "--json")) == "not-encrypted"


@pytest.mark.parametrize("arguments", [["--key-file", "KEY"], []])
def test_a_plain_repository_is_not_made_by_mistake(
    run: Run, place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Somebody who names a key means it."""
    if not arguments:
        monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(key_file))
    ran = run("repo", "init", *(str(key_file) if one == "KEY" else one for one in arguments))
    assert ran.exit_code == 2
    assert "--encrypt" in ran.stderr
    assert not (place / "repository").exists()


def test_a_key_file_that_others_may_read_makes_no_repository(run: Run, place: Path, key_file: Path) -> None:
    key_file.chmod(0o604)
    ran = run("repo", "init", "--encrypt", "--key-file", str(key_file))
    assert ran.exit_code == 5
    assert f"chmod 600 {key_file}" in ran.stderr
    assert not (place / "repository").exists()


def test_a_key_file_that_is_too_short_makes_no_repository(run: Run, place: Path) -> None:
    (place / "short").write_bytes(b"x" * 31)
    (place / "short").chmod(0o600)
    ran = run("repo", "init", "--encrypt", "--key-file", str(place / "short"))
    assert ran.exit_code == 5
    assert "31 bytes" in ran.stderr
    assert "/dev/urandom" in ran.stderr
    assert not (place / "repository").exists()


def test_keys_are_added_listed_and_removed(
    run: Run, place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialised(run, key_file, monkeypatch)
    (place / "passphrase").write_text(PASSPHRASE)
    (place / "passphrase").chmod(0o600)
    added = run("key", "add", "safe", "--passphrase-file", str(place / "passphrase"), "--json").document
    listed = run("key", "list", "--json").document
    assert [(one["label"], one["sort"]) for one in listed["slots"]] == [("first", "key-file"), ("safe", "passphrase")]
    assert listed["slots"][1]["id"] == added["id"]
    assert listed["damaged"] == []
    text = run("key", "list").stdout
    assert added["id"] in text
    assert "safe" in text
    assert run("key", "remove", "first", "--json").document["removed"]["label"] == "first"
    assert error_of(run("key", "list", "--json")) == "wrong-key"
    monkeypatch.delenv("FREEZEFRAME_KEY_FILE")
    monkeypatch.setenv("FREEZEFRAME_PASSPHRASE_FILE", str(place / "passphrase"))
    assert [one["label"] for one in run("key", "list", "--json").document["slots"]] == ["safe"]
    assert error_of(run("key", "remove", added["id"][:6], "--json")) == "last-key-slot"


def test_an_added_passphrase_is_asked_for(
    run: Run, place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch, terminal: None
) -> None:
    initialised(run, key_file, monkeypatch)
    ran = run("key", "add", "mine", typed=[PASSPHRASE, PASSPHRASE])
    assert ran.exit_code == 0
    assert PASSPHRASE not in ran.stdout + ran.stderr
    monkeypatch.delenv("FREEZEFRAME_KEY_FILE")
    assert run("captures", typed=[PASSPHRASE]).exit_code == 0


def test_a_question_leaves_stdout_to_the_document(run: Run, place: Path, terminal: None) -> None:
    run("repo", "init", "--encrypt", typed=[PASSPHRASE, PASSPHRASE])
    ran = run("key", "list", "--json", typed=[PASSPHRASE])
    assert len(ran.document["slots"]) == 1
    assert "Passphrase of" in ran.stderr


@pytest.mark.parametrize(
    "verb", [["captures"], ["verify"], ["repo", "info"], ["key", "list"], ["captures", "show", "x"]]
)
def test_without_a_key_every_verb_says_what_to_set(
    run: Run, place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    initialised(run, key_file, monkeypatch)
    monkeypatch.delenv("FREEZEFRAME_KEY_FILE")
    ran = run(*verb)
    assert ran.exit_code == 5
    assert "FREEZEFRAME_KEY_FILE" in ran.stderr


def test_a_damaged_slot_is_named(run: Run, place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    initialised(run, key_file, monkeypatch)
    second = run("key", "add", "second", "--key-file", str(key_file), "--json").document["id"]
    damaged = place / "repository" / "keys" / f"{second}.json"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    shown = run("repo", "info", "--json").document
    assert [slot["label"] for slot in shown["key_slots"]] == ["first"]
    assert [second in one for one in shown["damaged_key_slots"]] == [True]
    assert second in run("key", "list").stderr
    (first,) = [path for path in damaged.parent.iterdir() if path != damaged]
    first.write_bytes(b"")
    ran = run("key", "list", "--json")
    assert (ran.exit_code, error_of(ran)) == (7, "key-slot-damaged")


@pytest.mark.parametrize("label", ["", "x" * 101, "two\nlines"])
def test_a_label_is_one_line(
    run: Run, place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    initialised(run, key_file, monkeypatch)
    assert run("key", "add", label, "--key-file", str(key_file)).exit_code == 2


def test_a_downgraded_repository_is_refused(
    run: Run, place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialised(run, key_file, monkeypatch)
    plain = Repository.init(place / "plain")
    (place / "repository" / "config").write_bytes(plain.config.to_json())
    assert error_of(run("captures", "--json")) == "not-encrypted"


# settings, for services


def test_services_ask_nobody(run: Run, place: Path, terminal: None) -> None:
    run("repo", "init", "--encrypt", typed=[PASSPHRASE, PASSPHRASE])
    with pytest.raises(KeyNotConfigured):
        open_repository()


def test_up_makes_an_encrypted_repository_where_a_key_is_configured(
    place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(key_file))
    up = importlib.import_module("freezeframe.cli.up")
    for _ in range(2):
        up._ensure_repository(Lines([]))
        assert open_repository().config.encrypted


def test_a_key_file_and_a_passphrase_file_are_one_too_many(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", "/a")
    monkeypatch.setenv("FREEZEFRAME_PASSPHRASE_FILE", "/b")
    with pytest.raises(SettingsError, match="passphrase_file"):
        load(RepositorySettings)


def test_no_setting_has_the_secret_in_it(place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(key_file))
    settings = load(RepositorySettings)
    secret = ConfiguredKey.of(settings).secret()
    assert secret is not None
    for shown in (repr(settings), repr(secret), settings.model_dump_json()):
        assert repr(key_file.read_bytes())[2:-1] not in shown
        assert key_file.read_bytes().hex() not in shown
