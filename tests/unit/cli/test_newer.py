"""The verbs on what a newer version has written: told as newer, left alone, and nobody is advised to delete it (R4)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from freezeframe.errors import EXIT_REPOSITORY
from freezeframe.repository import Repository
from freezeframe.repository.document import checked

from .manifests import capture_id, manifest_of
from .run import Ran, Run

pytestmark = pytest.mark.case("R4")


@pytest.fixture
def repository(place: Path) -> Repository:
    """Two captures of one guest."""
    made = Repository.init(place / "repository", chunk_bytes=4096)
    for number in (1, 2):
        made.write_manifest(manifest_of(made, capture_id(number)))
    return made


def files(repository: Repository) -> dict[Path, bytes]:
    """All objects but records of verification."""
    root = Path(repository.address)
    found = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name.parts[0] != "verified"}


def make_chunk_newer(repository: Repository, number: int) -> Path:
    index = repository.manifest(capture_id(number)).guests[0].disks[0].index
    with repository.index(index) as opened:
        digest = next(digest for _, digest in opened.used_slots())
    path = Path(repository.address) / repository.objects.protection.locate(digest)
    data = bytearray(path.read_bytes())
    data[4] = 2
    path.chmod(0o600)
    path.write_bytes(data)
    return path


def make_manifest_newer(repository: Repository, number: int) -> Path:
    path = Path(repository.address) / repository.objects.protection.manifest_name(capture_id(number))
    content = {key: value for key, value in json.loads(path.read_bytes()).items() if key != "checksum"}
    path.chmod(0o600)
    path.write_bytes(checked({**content, "format": 2}))
    return path


def check_told(ran: Ran) -> None:
    said = (ran.stdout + ran.stderr).lower()
    assert ran.exit_code == EXIT_REPOSITORY
    assert "newer version of freezeframe" in said
    assert "update freezeframe" in said
    for word in ("damage", "forget ", "capture these guests again", "set aside", "delete"):
        assert word not in said


def test_verify_tells_a_newer_chunk_and_moves_nothing(run: Run, repository: Repository) -> None:
    path = make_chunk_newer(repository, 1)
    before = files(repository)
    for arguments in (("verify", "--all"), ("verify", capture_id(1)), ("verify", "--share", "100%")):
        ran = run(*arguments)
        check_told(ran)
        assert path.name in ran.stderr
        assert f"{capture_id(1)}  guest db1, disk vda" in ran.stderr
        assert files(repository) == before
    document = run("verify", "--all", "--json").document
    assert document["sound"] is False
    assert (document["chunks"], document["damaged_captures"]) == ([], [])
    assert [one["digest"] for one in document["newer"]] == [path.name]


def test_restore_names_the_disk_with_a_newer_chunk(run: Run, repository: Repository, tmp_path: Path) -> None:
    make_chunk_newer(repository, 1)
    ran = run("restore", capture_id(1), "--to", str(tmp_path / "to"))
    check_told(ran)
    assert "disk vda of guest db1" in ran.stderr
    assert run("restore", capture_id(2), "--to", str(tmp_path / "to")).exit_code == 0


def test_a_newer_manifest_is_listed_as_newer_and_left_alone(run: Run, repository: Repository) -> None:
    path = make_manifest_newer(repository, 2)  # no other names it as the one before
    before = files(repository)
    listed = run("captures")
    assert listed.exit_code == 0
    assert capture_id(1) in listed.stdout
    assert "newer: " in listed.stderr
    assert path.name in listed.stderr
    assert "damaged" not in listed.stderr
    document = run("captures", "--json").document
    assert (document["damaged"], len(document["newer"])) == ([], 1)
    for arguments in (
        ("verify", "--all"),
        ("repo", "check"),
        ("gc",),
        ("forget", capture_id(2)),
        ("captures", "show", capture_id(2)),
    ):
        ran = run(*arguments)
        assert "newer version of freezeframe" in ran.stderr
        assert ran.exit_code == EXIT_REPOSITORY
        assert "damage" not in ran.stdout + ran.stderr
        assert "`freezeframe forget" not in ran.stderr
        assert files(repository) == before
    forgotten = run("forget", "--keep-last", "1", "--json").document
    assert (forgotten["forgotten"], forgotten["damaged"], len(forgotten["newer"])) == ([], [], 1)
    assert "newer, left alone: " in run("forget", "--keep-last", "1").stderr
    assert path.exists()
