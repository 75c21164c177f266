"""`freezeframe restore` as a user or a program calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from freezeframe.errors import FreezeframeError
from freezeframe.repository import Repository
from freezeframe.repository.errors import CaptureNotFound
from workers.restore.command import restore
from workers.restore.errors import DefineNameError, DeviceUnfitError, TargetExistsError

from .samples import CAPTURE, CHUNK, disk_capture, guest_capture, manifest_of, noise

app = typer.Typer()
app.command()(restore)


@pytest.fixture
def sealed(repository: Repository, root: Path) -> str:
    """A repository with a capture of guest alpha."""
    disk = disk_capture(repository, noise(3 * CHUNK))
    repository.write_manifest(manifest_of(guest_capture(disk)))
    return str(root)


def run(*arguments: str) -> tuple[str, str]:
    """What it says on stdout and on stderr."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout, result.stderr


@pytest.mark.parametrize("capture", ["latest", CAPTURE, CAPTURE[:6].lower()])
def test_json_is_one_object_and_nothing_else(sealed: str, target: Path, capture: str) -> None:
    said, _ = run(capture, "--repository", sealed, "--to", str(target), "--format", "raw", "--json")
    report = json.loads(said)
    assert report["capture_id"] == CAPTURE
    assert report["guests"][0]["disks"][0]["path"] == str(target / "alpha-vda.raw")
    assert (target / "alpha-vda.raw").read_bytes() == noise(3 * CHUNK)


def test_people_are_told_where_the_disks_are(sealed: str, target: Path) -> None:
    said, told = run("latest", "--repository", sealed, "--to", str(target))
    assert str(target / "alpha-vda.qcow2") in said
    assert "Restoring disk vda of guest alpha" in told


def test_the_repository_of_the_settings_is_used(sealed: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", sealed)
    run("latest", "--to", str(target))
    assert (target / "alpha.xml").exists()


@pytest.mark.parametrize(
    ("arguments", "failure"),
    [
        (["01J"], CaptureNotFound),
        (["latest", "--start"], DefineNameError),
        (["latest", "--define", "a", "--define-as-captured"], DefineNameError),
        (["latest", "--trust-definition"], DefineNameError),
        (["latest"], TargetExistsError),
    ],
)
def test_failures_are_left_to_the_program_around(
    sealed: str, target: Path, arguments: list[str], failure: type[FreezeframeError]
) -> None:
    (target / "alpha.xml").touch()
    with pytest.raises(failure):
        run(*arguments, "--repository", sealed, "--to", str(target))


def test_a_dry_run_writes_nothing_and_says_what_it_would(sealed: str, target: Path) -> None:
    said, _ = run("latest", "--repository", sealed, "--to", str(target), "--dry-run", "--json")
    found = json.loads(said)["disks"][0]
    assert (found["where"], found["overwritten"]) == (str(target / "alpha-vda.qcow2"), False)
    said, _ = run("latest", "--repository", sealed, "--to", str(target), "--dry-run")
    assert "nothing was written" in said
    assert list(target.iterdir()) == []


def test_places_are_checked_and_must_be_confirmed(sealed: str, target: Path) -> None:
    to = "latest", "--repository", sealed, "--to", str(target)
    with pytest.raises(DeviceUnfitError, match="/dev/null"):
        run(*to, "--to-device", "alpha:vda=/dev/null", "--overwrite-devices")
    with pytest.raises(DeviceUnfitError, match="does not say which disk goes where"):
        run(*to, "--to-nbd", "alpha:vda=/dev/null")
    assert list(target.iterdir()) == []
