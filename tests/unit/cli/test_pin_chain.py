"""`repo pin` and `repo check` on a chain that cannot be followed: no pin goes back by itself, and advice helps (A4)."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from freezeframe.errors import EXIT_DAMAGED, EXIT_FAILED, EXIT_NOT_FOUND
from freezeframe.known_repositories import Known, known, remember, remember_pinned
from freezeframe.repository import Repository
from freezeframe.repository.document import checked
from freezeframe.repository.errors import RepositoryRolledBack
from freezeframe.repository.freshness import Accepted, Pin, Pinned

from .manifests import capture_id, manifest_of
from .run import Run


@pytest.fixture
def repository(place: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Five captures."""
    monkeypatch.setenv("FREEZEFRAME_KNOWN_REPOSITORIES", str(place / "state.json"))
    made = Repository.init(place / "repository", chunk_bytes=4096)
    for number in range(1, 6):
        made.write_manifest(manifest_of(made, capture_id(number)))
    return made


def manifest(repository: Repository, number: int) -> Path:
    return Path(repository.address) / f"manifests/{capture_id(number)}.json"


def empty(repository: Repository, *numbers: int) -> None:
    for number in numbers:
        file = manifest(repository, number)
        file.chmod(0o600)
        file.write_bytes(b"")


def take(repository: Repository, *numbers: int) -> None:
    for number in numbers:
        manifest(repository, number).unlink()


def codes(run: Run, *verbs: str) -> list[int]:
    return [run(*verb.split()).exit_code for verb in verbs]


def test_emptied_manifests_do_not_hide_what_was_taken_away(run: Run, place: Path, repository: Repository) -> None:
    assert run("repo", "pin").exit_code == 0
    empty(repository, 4, 5)
    take(repository, 1, 2, 3)
    assert codes(run, "repo pin --check", "repo pin", "repo check") == [EXIT_DAMAGED] * 3
    restored = run("restore", "latest", "--to", str(place / "out"), "--json")
    assert restored.document["error"]["code"] == "repository-rolled-back"


def test_a_pin_does_not_go_back_by_itself(run: Run, place: Path, repository: Repository) -> None:
    """The pin is renewed daily, and once between two steps of whoever takes captures away."""
    assert run("repo", "pin").exit_code == 0
    before = (place / "state.json").read_bytes()
    empty(repository, 4, 5)
    assert run("repo", "pin").exit_code == EXIT_DAMAGED
    assert (place / "state.json").read_bytes() == before
    take(repository, 4, 5)
    assert codes(run, "repo pin", "repo pin --check", "repo check") == [EXIT_DAMAGED] * 3
    assert capture_id(5) in run("repo", "pin", "--check").stderr


def test_it_goes_back_when_the_newest_was_forgotten(run: Run, repository: Repository) -> None:
    assert run("repo", "pin").exit_code == 0
    assert run("forget", capture_id(5)).exit_code == 0
    assert run("repo", "pin", "--json").document["pin"]["capture_id"] == capture_id(4)
    assert run("repo", "pin", "--check").exit_code == 0


def accepted_with(run: Run, repository: Repository) -> list[str]:
    """Accept the repository as it is; see it accepted for good; return what was accepted."""
    assert run("repo", "pin", "--check").exit_code == EXIT_DAMAGED
    shown = run("repo", "pin", "--accept", "--json")
    assert shown.exit_code == 0
    again = ("repo pin --check", "repo pin", "repo pin --check", "repo check", "repo pin")
    assert codes(run, *again) == [0] * len(again)
    assert run("repo", "pin", "--json").document["accepted"] == shown.document["accepted"]
    return [one["name"] for one in shown.document["accepted"]]


def test_what_was_accepted_is_accepted_for_good_and_nothing_else(run: Run, place: Path, repository: Repository) -> None:
    assert run("repo", "pin").exit_code == 0
    take(repository, 3)
    assert accepted_with(run, repository) == [capture_id(3)]
    assert capture_id(3) in run("repo", "pin").stdout
    (place / "kept.json").write_text(run("repo", "pin", "--json").stdout)
    assert run("repo", "pin", "--check", "--against", str(place / "kept.json")).exit_code == 0
    take(repository, 2)
    assert codes(run, "repo pin --check", "repo pin", "repo check") == [EXIT_DAMAGED] * 3


def test_a_damaged_tombstone_can_be_accepted(run: Run, repository: Repository) -> None:
    assert codes(run, "repo pin", f"forget {capture_id(2)}") == [0, 0]
    (tombstone,) = (Path(repository.address) / "lineage").iterdir()
    tombstone.chmod(0o600)
    tombstone.write_bytes(b"")
    assert f"lineage/{tombstone.name}" in accepted_with(run, repository)


def test_the_newest_may_be_accepted_as_lost(run: Run, repository: Repository) -> None:
    assert run("repo", "pin").exit_code == 0
    empty(repository, 5)
    assert run("repo", "pin", "--accept").exit_code == 0
    assert codes(run, "repo pin --check", "repo pin") == [0, 0]
    assert run("repo", "check").exit_code == EXIT_DAMAGED  # a manifest is damaged, whoever has accepted it
    repository.write_manifest(manifest_of(repository, capture_id(6)))
    assert codes(run, "repo pin", "repo pin --check") == [0, 0]


def test_what_is_as_it_was_again_is_accepted_no_more(run: Run, repository: Repository) -> None:
    assert run("repo", "pin").exit_code == 0
    data = manifest(repository, 3).read_bytes()
    take(repository, 3)
    assert run("repo", "pin", "--accept").exit_code == 0
    manifest(repository, 3).write_bytes(data)
    assert run("repo", "pin", "--json").document["accepted"] == []
    take(repository, 3)
    assert run("repo", "pin").exit_code == EXIT_DAMAGED


def test_an_empty_repository_can_be_accepted(run: Run, repository: Repository) -> None:
    assert run("repo", "pin").exit_code == 0
    take(repository, 1, 2, 3, 4, 5)
    assert run("repo", "pin").exit_code == EXIT_DAMAGED
    assert run("repo", "pin", "--accept", "--json").document["pin"] is None
    assert codes(run, "repo pin", "repo check") == [0, 0]
    assert run("repo", "pin", "--check").exit_code == EXIT_NOT_FOUND  # there is no capture to compare with


def test_the_advice_for_a_kept_pin_writes_it_anew(run: Run, place: Path, repository: Repository) -> None:
    kept = place / "my pin.json"
    kept.write_text(run("repo", "pin", "--json").stdout)
    take(repository, 3)
    told = run("repo", "pin", "--check", "--against", str(kept), "--json").document["error"]["advice"]
    assert f"freezeframe repo pin --accept --json >'{kept}'`" in told
    kept.write_text(run("repo", "pin", "--accept", "--json").stdout)
    assert run("repo", "pin", "--check", "--against", str(kept)).exit_code == 0


def test_without_a_pin_nothing_is_called_as_new_as_it_was(
    run: Run, place: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("repo", "pin").exit_code == 0
    take(repository, 4, 5)
    monkeypatch.setenv("FREEZEFRAME_KNOWN_REPOSITORIES", str(place / "another user's"))
    told = run("repo", "pin", "--check", "--json")
    assert (told.exit_code, told.document["error"]["code"]) == (EXIT_NOT_FOUND, "not-pinned")
    assert "another user's" in told.document["error"]["message"]
    assert "`freezeframe repo pin`" in told.document["error"]["advice"]
    (place / "kept.json").write_text(json.dumps({"id": str(repository.config.id)}))
    told = run("repo", "pin", "--check", "--against", str(place / "kept.json"), "--json")
    assert (told.exit_code, told.document["error"]["code"]) == (EXIT_NOT_FOUND, "not-pinned")


@pytest.mark.parametrize("options", [(), ("--json",), ("--accept",)])
def test_a_pin_that_cannot_be_remembered_is_an_error(
    run: Run, place: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    damaged = place / "damaged.json"
    damaged.write_bytes(b"{")
    for file in ("/proc/none/state.json", str(damaged)):
        monkeypatch.setenv("FREEZEFRAME_KNOWN_REPOSITORIES", file)
        ran = run("repo", "pin", *options)
        assert ran.exit_code == EXIT_FAILED
        assert f"error: {file}" in ran.stderr
        assert "remembered in" not in ran.stdout
    assert damaged.read_bytes() == b"{"


ONE, FIVE = (Pin(counter=number, capture_id=capture_id(number), digest=f"{number}" * 64) for number in (1, 5))


@pytest.mark.parametrize("seen", [ONE, None])
def test_a_lower_counter_is_not_remembered_unless_it_may_be(tmp_path: Path, seen: Pin | None) -> None:
    file, first = tmp_path / "state.json", Known(id=uuid4(), encrypted=True, pin=FIVE)
    remember_pinned(file, "/a", first, Pinned(), lambda _: False)
    lower = first.model_copy(update={"pin": seen})
    with pytest.raises(RepositoryRolledBack, match="number 5"):
        remember_pinned(file, "/a", lower, first.pinned, lambda _: False)
    assert known(file, "/a") == (first,)
    remember_pinned(file, "/a", lower, first.pinned, lambda pin: pin == FIVE)
    assert known(file, "/a") == (lower,)


def test_a_newer_pin_of_another_verb_at_the_same_time_stays(tmp_path: Path) -> None:
    file, first = tmp_path / "state.json", Known(id=uuid4(), encrypted=True, pin=FIVE)
    remember_pinned(file, "/a", first, Pinned(), lambda _: False)
    remember_pinned(file, "/a", first.model_copy(update={"pin": ONE}), Pinned(), lambda _: False)
    assert known(file, "/a") == (first,)


def test_what_was_accepted_is_kept_with_the_repository_and_by_older_versions(tmp_path: Path) -> None:
    file, address = tmp_path / "state.json", "/a"
    first = Known(id=uuid4(), encrypted=True, pin=FIVE, accepted=(Accepted(name="number 2"),))
    remember_pinned(file, address, first, Pinned(), lambda _: False)
    remember(file, address, Known(id=first.id, encrypted=True))
    assert known(file, address) == (first,)
    content = json.loads(file.read_bytes())
    content["repositories"][address]["accepted"][0]["more"] = 1
    file.write_bytes(checked(content))
    assert known(file, address) == (first,)
    remember(file, address, Known(id=uuid4(), encrypted=True))  # another repository has neither
    assert known(file, address)[0].pinned == Pinned()
