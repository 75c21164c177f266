"""A capture that an audit has marked is shown by `captures`, and looked at by the next `verify`."""

from __future__ import annotations

import pytest

from freezeframe.repository import Repository, Suspect

from .manifests import NOW, capture_id, manifest_of
from .run import Run


@pytest.fixture
def marked(repository: Repository) -> Repository:
    """Two captures, the older of them marked."""
    for number in (1, 2):
        repository.write_manifest(manifest_of(repository, capture_id(number)))
    [(_, disk)] = repository.manifest(capture_id(1)).disks()
    repository.suspects.mark(
        Suspect(
            capture_id=capture_id(1),
            index=disk.index,
            guest="db1",
            target="vda",
            found_by=capture_id(2),
            found_at=NOW,
            reason="other data",
        )
    )
    return repository


def test_captures_shows_it_and_says_what_to_type(run: Run, marked: Repository, no_bus: None) -> None:
    for arguments in (["captures"], ["captures", "show", capture_id(1)], ["verify", "--status"]):
        ran = run(*arguments)
        assert f"suspect: {capture_id(1)}, disk vda of guest db1" in ran.stderr, arguments
        assert f"freezeframe verify {capture_id(1)}" in ran.stderr
    [suspect] = run("captures", "--json").document["suspects"]
    assert (suspect["capture_id"], suspect["found_by"], suspect["verified_at"]) == (capture_id(1), capture_id(2), None)
    assert "suspect" not in run("captures", "show", capture_id(2)).stderr


def test_verify_without_a_name_looks_at_it_and_notes_that_it_is_as_it_was_written(
    run: Run, marked: Repository, no_bus: None
) -> None:
    document = run("verify", "--json").document
    assert sorted(document["captures"]) == [capture_id(1), capture_id(2)]
    assert document["suspects"][0]["verified_at"] is not None
    assert run("verify", "--json").document["captures"] == [capture_id(2)]
    assert "it is as it was written" in run("captures").stderr
    assert "freezeframe verify" not in run("captures").stderr


@pytest.mark.parametrize("arguments", [["--tier", "decodable"], [capture_id(2)], ["--share", "1/256"]])
def test_a_look_that_is_not_close_enough_or_at_something_else_settles_nothing(
    run: Run, marked: Repository, arguments: list[str]
) -> None:
    assert run("verify", *arguments).exit_code == 0
    assert len(marked.suspects.pending()) == 1


def test_a_look_at_everything_settles_it(run: Run, marked: Repository) -> None:
    assert run("verify", "--all").exit_code == 0
    assert marked.suspects.pending() == []


def test_one_that_is_damaged_stays_to_be_verified(run: Run, marked: Repository) -> None:
    [(_, disk)] = marked.manifest(capture_id(1)).disks()
    with marked.index(disk.index) as index:
        digest = index.digest_at(0)
    assert digest is not None
    marked.store.delete(marked.objects.protection.locate(digest))
    assert run("verify", capture_id(1)).exit_code == 7
    assert len(marked.suspects.pending()) == 1
