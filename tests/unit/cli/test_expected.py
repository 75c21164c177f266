"""A repository that was put in another's place is refused: by what is set, by what is remembered, or by a question (R9)."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from freezeframe import known_repositories
from freezeframe.errors import EXIT_REFUSED, EXIT_REPOSITORY
from freezeframe.known_repositories import Known, KnownRepositoriesError
from freezeframe.repository import Repository
from freezeframe.repository.config import Config
from freezeframe.repository.crypto import ScryptKdf, Secret, Suite
from freezeframe.repository.document import checked
from freezeframe.repository.errors import NotEncrypted, WrongRepository
from freezeframe.repository.expected import ANYTHING, Expected
from freezeframe.repository.store.address import create_store, is_same_place

from .manifests import capture_id, manifest_of
from .pseudo_terminal import Shown, at_terminal
from .run import Run

pytestmark = pytest.mark.case("R9")

PASSPHRASE = "correct horse"  # noqa: S105


def encrypted_in(path: Path, suite: Suite = Suite.ENCRYPTED) -> Repository:
    """A repository with keys, and with a capture. Its scrypt is a cheap one."""
    store, secret = create_store(path, authenticated=True), Secret.passphrase(PASSPHRASE)
    made = Repository.init_in(store, chunk_bytes=4096, secret=secret, suite=suite, kdf=ScryptKdf(n=2))
    made.write_manifest(manifest_of(made, capture_id(1)))
    return made


def plain_in(path: Path) -> Repository:
    made = Repository.init(path, chunk_bytes=4096)
    made.write_manifest(manifest_of(made, capture_id(2)))
    return made


def replaced(place: Path) -> Repository:
    """Put a whole repository without encryption in the place of this one, as an attacker who can write to the store."""
    (place / "repository").rename(place / f"kept-{uuid4()}")
    return plain_in(place / "repository")


class Person:
    """Somebody at a terminal of a machine, which remembers in a file of its own."""

    def __init__(self, place: Path, machine: str) -> None:
        self.place = place
        self.state = place / f"{machine}.json"
        self.env: dict[str, str] = {}

    def types(self, *arguments: str, **answers: str) -> Shown:
        """Run a verb; `passphrase` and `go_on` are typed when they are asked for, and must be."""
        asked = {"passphrase": f"Passphrase of {self.place / 'repository'}: ", "go_on": "Go on? [y/N]: "}
        given = [(asked[what], answer) for what, answer in answers.items()]
        return at_terminal(
            arguments, given, {**self.env, "FREEZEFRAME_KNOWN_REPOSITORIES": str(self.state), "COLUMNS": "500"}
        )

    def restores(self, name: str, *more: str, **answers: str) -> Shown:
        return self.types("restore", "latest", "--to", str(self.place / name), "--format", "raw", *more, **answers)

    def has(self, name: str) -> bool:
        return any((self.place / name).glob("*.raw"))


def test_a_passphrase_restore_from_a_repository_that_was_replaced(place: Path) -> None:
    right = encrypted_in(place / "repository")
    person = Person(place, "known")
    assert person.restores("first", passphrase=PASSPHRASE).exit_code == 0
    assert person.has("first")
    assert person.state.stat().st_mode & 0o777 == 0o600
    replaced(place)
    refused = person.restores("second")
    assert (refused.exit_code, person.has("second")) == (EXIT_REPOSITORY, False)
    assert str(right.config.id) in refused.text
    assert "freezeframe repo pin --accept" in refused.text
    assert "Passphrase" not in refused.text
    assert person.types("repo", "pin", "--accept").exit_code == 0
    assert person.restores("second").exit_code == 0
    assert person.has("second")


@pytest.mark.parametrize("suite", [*Suite], ids=str)
def test_a_repository_with_keys_that_was_replaced_by_one_without_is_found_by_what_is_remembered(
    place: Path, suite: Suite
) -> None:
    """Its id is no proof: everybody who can read the store can copy it."""
    right = encrypted_in(place / "repository", suite)
    person = Person(place, "known")
    assert person.restores("first", passphrase=PASSPHRASE).exit_code == 0
    remembered = json.loads(person.state.read_bytes())
    assert remembered.get("critical") == (["authenticated"] if suite is Suite.AUTHENTICATED else None)
    replaced(place)
    (place / "repository" / "config").unlink()
    (place / "repository" / "config").write_bytes(Config(id=right.config.id, chunk_bytes=4096).to_json())
    refused = person.restores("second")
    assert (refused.exit_code, person.has("second")) == (EXIT_REPOSITORY, False)
    assert "remembered in" in refused.text


def test_an_encrypted_repository_that_was_replaced_by_an_authenticated_one_is_found(place: Path) -> None:
    encrypted_in(place / "repository")
    person = Person(place, "known")
    assert person.restores("first", passphrase=PASSPHRASE).exit_code == 0
    (place / "repository").rename(place / "old")
    encrypted_in(place / "repository", Suite.AUTHENTICATED)
    refused = person.restores("second")
    assert (refused.exit_code, "is not encrypted" in refused.text) == (EXIT_REPOSITORY, True)
    new = Person(place, "new")
    assert new.restores("second", "--encrypted").exit_code == EXIT_REPOSITORY
    assert new.restores("second", "--authenticated", passphrase=PASSPHRASE).exit_code == 0


def test_a_plain_repository_is_refused_where_an_authenticated_one_is_expected(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_in(place / "repository")
    restore = ("restore", "latest", "--to", str(place / "out"), "--json")
    assert run(*restore, "--authenticated").document["error"]["code"] == "not-authenticated"
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_AUTHENTICATED", "yes")
    for verb in (restore, ("captures", "--json"), ("gc", "--json"), ("repo", "info", "--json")):
        ran = run(*verb)
        assert ran.document["error"]["code"] == "not-authenticated"
        assert "FREEZEFRAME_REPOSITORY_AUTHENTICATED" in ran.document["error"]["advice"]
    assert not (place / "out").exists()
    assert run("repo", "init", str(place / "repository") + "/").exit_code == 2


def test_a_restore_on_a_new_machine_asks_once_before_it_believes_a_plain_repository(place: Path) -> None:
    right = encrypted_in(place / "repository")
    replaced(place)
    person = Person(place, "new")
    refused = person.restores("first", go_on="n")
    assert (refused.exit_code, person.has("first")) == (EXIT_REFUSED, False)
    for more in (("--encrypted",), ("--repository-id", str(right.config.id))):
        told = person.restores("first", *more)
        assert (told.exit_code in {EXIT_REPOSITORY, EXIT_REFUSED}, person.has("first")) == (True, False)
        assert "the options expect" in told.text
    person.env = {"FREEZEFRAME_REPOSITORY_ENCRYPTED": "yes"}
    assert person.restores("first").exit_code == EXIT_REPOSITORY
    person.env = {"FREEZEFRAME_REPOSITORY_ID": str(right.config.id)}
    assert person.restores("first").exit_code == EXIT_REFUSED
    assert not person.has("first")
    person.env = {}
    assert person.restores("first", go_on="y").exit_code == 0
    assert person.restores("second").exit_code == 0
    replaced(place)
    assert person.restores("third").exit_code == EXIT_REFUSED


@pytest.mark.parametrize("verb", [("export", "latest", "--to", "out"), ("verify", "--all")])
def test_what_reads_captures_asks_too(place: Path, verb: tuple[str, ...]) -> None:
    plain_in(place / "repository")
    arguments = [str(place / one) if one == "out" else one for one in verb]
    person = Person(place, "new")
    assert person.types(*arguments, go_on="n").exit_code == EXIT_REFUSED
    assert not (place / "out").exists()
    assert person.types(*arguments, go_on="y").exit_code == 0


def test_without_a_terminal_what_is_expected_is_a_setting(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = plain_in(place / "repository")
    restore = ("restore", "latest", "--to", str(place / "out"), "--json")
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_ENCRYPTED", "yes")
    for verb in (restore, ("captures", "--json"), ("gc", "--json"), ("repo", "info", "--json")):
        ran = run(*verb)
        assert ran.document["error"]["code"] == "not-encrypted"
        assert "FREEZEFRAME_REPOSITORY_ENCRYPTED" in ran.document["error"]["advice"]
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_ENCRYPTED", "no")
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_ID", str(uuid4()))
    assert run(*restore).document["error"]["code"] == "wrong-repository"
    assert not (place / "out").exists()
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_ID", str(repository.config.id))
    assert run(*restore).exit_code == 0


def test_the_settings_expect_nothing_of_another_address(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_in(place / "other")
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_ID", str(uuid4()))
    assert run("restore", "latest", "--to", str(place / "out"), "--repository", str(place / "other")).exit_code == 0


def spelled(place: Path, how: str) -> str:
    """The repository of `place`, as somebody may write it."""
    (place / "link").symlink_to(place / "repository")
    return how.format(place)


#: One directory.
SPELLINGS = [
    "{}/repository",
    "{}/repository/",
    "file://{}/repository",
    "/{}/repository",
    "{0}/x/../repository",
    "{}/link",
]


@pytest.mark.parametrize("how", SPELLINGS)
def test_the_settings_expect_it_however_the_address_is_written(
    run: Run, place: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = plain_in(place / "repository")
    (place / "x").mkdir()
    address = spelled(place, how)
    out = place / "out"
    restore = ("restore", "latest", "--to", str(out), "--json", "--repository", address)
    for name, value, code in (
        ("FREEZEFRAME_REPOSITORY_ENCRYPTED", "yes", "not-encrypted"),
        ("FREEZEFRAME_REPOSITORY_ID", str(uuid4()), "wrong-repository"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            for more in ((), ("--repository-id", str(repository.config.id))):
                assert run(*restore, *more).document["error"]["code"] == code
            patch.setenv("FREEZEFRAME_REPOSITORY", address)
            given = ("--repository", str(place / "repository"))
            assert run("restore", "latest", "--to", str(out), "--json", *given).document["error"]["code"] == code
    assert not out.exists()
    assert run(*restore).exit_code == 0


@pytest.mark.parametrize("verb", ["restore", "export"])
def test_an_option_adds_to_what_the_settings_expect(
    run: Run, place: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody who can read the store knows the id, and can give it to a repository of his own."""
    own = str(plain_in(place / "repository").config.id)
    arguments = (verb, "latest", "--to", str(place / "out"), "--json", "--repository-id")
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_ENCRYPTED", "yes")
    ran = run(*arguments, own)
    assert (ran.exit_code, ran.document["error"]["code"]) == (EXIT_REPOSITORY, "not-encrypted")
    assert "the settings expect" in ran.document["error"]["message"]
    monkeypatch.delenv("FREEZEFRAME_REPOSITORY_ENCRYPTED")
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_ID", str(uuid4()))
    assert run(*arguments, own).document["error"]["code"] == "wrong-repository"
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_ID", own)
    refused = run(*arguments, str(uuid4())).document["error"]
    assert (refused["code"], "the options expect" in refused["message"]) == ("wrong-repository", True)
    assert not (place / "out").exists()


def test_an_id_does_not_answer_the_question_and_encryption_does(place: Path) -> None:
    own = str(plain_in(place / "repository").config.id)
    person = Person(place, "new")
    refused = person.restores("first", "--repository-id", own, go_on="n")
    assert (refused.exit_code, person.has("first")) == (EXIT_REFUSED, False)
    assert "FREEZEFRAME_REPOSITORY_ENCRYPTED=no" in refused.text
    person.env = {"FREEZEFRAME_REPOSITORY_ID": own}
    assert person.restores("first", go_on="n").exit_code == EXIT_REFUSED
    person.env = {"FREEZEFRAME_REPOSITORY_ENCRYPTED": "no"}
    assert person.restores("first").exit_code == 0
    person.env = {}
    assert person.restores("second", "--repository-id", own, go_on="y").exit_code == 0
    assert person.restores("third", "--repository-id", own).exit_code == 0


@pytest.mark.parametrize("how", SPELLINGS)
def test_memory_holds_however_the_address_is_written(
    run: Run, place: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_in(place / "repository")
    (place / "x").mkdir()
    address = spelled(place, how)
    with monkeypatch.context() as patch:
        patch.setenv("FREEZEFRAME_REPOSITORY", address)
        assert run("repo", "pin").exit_code == 0
    assert run("restore", "latest", "--to", str(place / "first"), "--json").exit_code == 0
    replaced(place)
    for more in ((), ("--repository", address)):
        ran = run("restore", "latest", "--to", str(place / "out"), "--json", *more)
        assert ran.document["error"]["code"] == "wrong-repository"


def test_the_printed_command_accepts_the_repository_that_was_refused(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of the settings; and it can be pasted."""
    other = place / "a copy"
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(other))
    first = plain_in(other)
    assert run("repo", "pin").exit_code == 0
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(place / "repository"))
    other.rename(place / "old")
    second = plain_in(other)
    restore = ("restore", "latest", "--to", str(place / "out"), "--json", "--repository", str(other))
    error = run(*restore).document["error"]
    assert str(first.config.id) in error["message"]
    command = error["advice"].split("`")[1]
    script = f'freezeframe() {{ {shlex.quote(sys.executable)} -m freezeframe "$@"; }}\n{command}'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert shell.returncode == 0, shell.stderr
    assert str(second.config.id) in shell.stdout
    assert run(*restore).exit_code == 0


def test_no_repository_is_made_where_another_id_is_expected(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_ID", str(uuid4()))
    for address in ((), (f"{place}/repository/",)):
        assert run("repo", "init", *address).exit_code == 2
    assert not (place / "repository").exists()
    assert run("repo", "init", str(place / "other")).exit_code == 0


def test_addresses_of_object_storage_are_compared_as_places() -> None:
    assert is_same_place("s3://bucket/a/b", "s3://bucket//a/b/")
    assert not is_same_place("s3://bucket/a/b", "s3://bucket/a/c")
    assert not is_same_place("s3://bucket/a", "/bucket/a")
    assert not is_same_place("/nowhere/a", "/nowhere/b")
    assert is_same_place("/nowhere/./a", "file:///nowhere/a/")


def test_a_repository_that_is_made_is_known(run: Run, place: Path) -> None:
    assert run("repo", "init").exit_code == 0
    first = run("repo", "pin", "--json").document
    assert first["encrypted"] is False
    (place / "repository").rename(place / "old")
    Repository.init(place / "repository")
    ran = run("repo", "info", "--json")
    assert ran.document["error"]["code"] == "wrong-repository"
    assert first["id"] in ran.document["error"]["message"]
    accepted = run("repo", "pin", "--accept", "--json").document
    assert accepted["id"] == run("repo", "info", "--json").document["id"] != first["id"]


def test_no_repository_is_made_that_is_not_the_expected_one(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_ENCRYPTED", "yes")
    assert run("repo", "init").exit_code == 2
    assert not (place / "repository").exists()


def test_a_file_that_cannot_be_read_is_not_taken_for_none(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_in(place / "repository")
    file = place / "state.json"
    monkeypatch.setenv("FREEZEFRAME_KNOWN_REPOSITORIES", str(file))
    assert run("repo", "pin").exit_code == 0
    sound = file.read_bytes()
    for data in (b"", sound[:-9], sound.replace(b"false", b"true"), checked({**json.loads(sound), "format": 2})):
        file.write_bytes(data)
        assert run("captures", "--json").document["error"]["code"] == "known-repositories"
        assert file.read_bytes() == data
    file.unlink()
    file.mkdir()
    assert run("captures", "--json").document["error"]["code"] == "known-repositories"


def test_where_nothing_can_be_remembered_the_verb_goes_on(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEZEFRAME_KNOWN_REPOSITORIES", "/proc/none/state.json")
    ran = run("repo", "init")
    assert (ran.exit_code, "not remembered" in ran.stderr) == (0, True)


def test_what_is_known_of_other_repositories_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "new" / "state.json"
    one, two = (Known(id=uuid4(), encrypted=bool(number)) for number in range(2))
    known_repositories.remember(file, "/a", one)
    content = {**json.loads(file.read_bytes()), "more": 1}
    content["repositories"]["/a"]["more"] = 2
    file.write_bytes(checked(content))
    known_repositories.remember(file, "/b", two)
    stored = json.loads(file.read_bytes())
    assert (stored["more"], stored["repositories"]["/a"]["more"]) == (1, 2)
    assert known_repositories.known(file, "/a") == (one,)
    assert known_repositories.known(file, "/b") == (two,)
    assert known_repositories.known(file, "/c") == ()
    assert file.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(KnownRepositoriesError):
        known_repositories.known(file.parent, "/a")


def test_the_default_file_is_in_the_users_state_directory(tmp_path: Path) -> None:
    for env, where in (
        ({}, tmp_path / ".local/state"),
        ({"XDG_STATE_HOME": "/state"}, Path("/state")),
        ({"XDG_STATE_HOME": "here"}, tmp_path / ".local/state"),
    ):
        assert known_repositories.default_file(env, tmp_path) == where / "freezeframe" / "repositories.json"


def test_what_is_expected_is_compared_with_the_config() -> None:
    plain = Config(id=uuid4())
    ANYTHING.check(plain, "there")
    right = Expected(plain.id, encrypted=False)
    right.check(plain, "there")
    with pytest.raises(NotEncrypted, match="there"):
        replace(right, encrypted=True).check(plain, "there")
    with pytest.raises(WrongRepository, match=str(plain.id)):
        replace(right, id=uuid4()).check(plain, "there")
    encrypted = plain.model_copy(update={"features": ("encryption",), "mac": "ab" * 32})
    Expected(plain.id, encrypted=True).check(encrypted, "there")
    with pytest.raises(WrongRepository, match="is encrypted"):
        right.check(encrypted, "there")
