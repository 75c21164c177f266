"""The verbs on a manifest that the storage refuses: told as that, and neither as damage nor as absent (R3, invariant 10)."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from freezeframe.errors import EXIT_DAMAGED, EXIT_REPOSITORY
from freezeframe.repository import Repository, Suspect
from freezeframe.repository.store.filesystem import Filesystem

from .manifests import NOW, capture_id, manifest_of
from .run import Run

pytestmark = pytest.mark.case("R3")


@pytest.fixture
def refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Three captures; of the second the disk does not give the manifest."""
    made = Repository.init(place / "repository", chunk_bytes=4096)
    for number in (1, 2, 3):
        made.write_manifest(manifest_of(made, capture_id(number)))
    real = Filesystem.open

    def bad_sector(self: Filesystem, path: Path) -> io.RawIOBase:
        if capture_id(2) in str(path):
            raise OSError(5, "Input/output error", str(path))
        return real(self, path)

    monkeypatch.setattr(Filesystem, "open", bad_sector)
    return made


def test_the_other_captures_are_listed_and_that_one_is_named(run: Run, refused: Repository, no_bus: None) -> None:
    ran = run("captures")
    assert ran.exit_code == 0
    assert capture_id(1) in ran.stdout
    assert f"unreadable: The manifest of {capture_id(2)} cannot be read." in ran.stderr
    document = run("captures", "--json").document
    assert (document["damaged"], document["newer"], len(document["unreadable"])) == ([], [], 1)
    assert len(run("repo", "info", "--json").document["unreadable"]) == 1


def test_rules_leave_it_alone_and_count_the_others(run: Run, refused: Repository) -> None:
    ran = run("forget", "--keep-last", "1")
    assert ran.exit_code == 0
    assert "unreadable, left alone: " in ran.stderr
    assert refused.capture_ids() == [capture_id(3), capture_id(2)]
    assert run("forget", capture_id(2)).exit_code == EXIT_REPOSITORY
    assert capture_id(2) in refused.capture_ids()


def test_nothing_is_sound_or_garbage_while_it_cannot_be_read_and_nothing_is_damaged(
    run: Run, refused: Repository
) -> None:
    for verb in (("verify", "--all"), ("repo", "check"), ("gc",)):
        ran = run(*verb)
        assert ran.exit_code == EXIT_REPOSITORY, verb
        assert capture_id(2) in ran.stderr
        assert "damage" not in ran.stdout + ran.stderr
        assert "`freezeframe forget" not in ran.stderr


def test_a_marked_capture_whose_manifest_is_damaged_keeps_no_other_from_being_verified(
    run: Run, repository: Repository, place: Path
) -> None:
    for number in (1, 2, 3):
        repository.write_manifest(manifest_of(repository, capture_id(number)))
    for number in (1, 2):
        [(_, disk)] = repository.manifest(capture_id(number)).disks()
        found = {"guest": "db1", "target": "vda", "found_by": capture_id(3), "found_at": NOW, "reason": "other data"}
        repository.suspects.mark(
            Suspect.model_validate({"capture_id": capture_id(number), "index": disk.index, **found})
        )
    path = Path(repository.address) / f"manifests/{capture_id(1)}.json"
    path.chmod(0o600)
    path.write_bytes(b"junk")
    ran = run("verify", "--json")
    assert ran.exit_code == EXIT_DAMAGED
    assert ran.document["captures"] == [capture_id(3), capture_id(2)]
    assert [capture_id(1) in one for one in ran.document["unreadable_manifests"]] == [True]
