"""`freezeframe gc`: what it did is told, and when room will be free; too little grace and damage have their exit codes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freezeframe.repository import Repository

from .manifests import capture_id, manifest_of
from .run import Run

AT_ONCE = ("gc", "--grace", "0", "--nobody-else-writes")


@pytest.fixture
def garbage(repository: Repository) -> Repository:
    """One capture that is kept, and one that is forgotten and shares nothing with it."""
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    with repository.disk_writer(8192, 4096) as writer:
        writer.write_chunk(0, b"x" * 4096)
        writer.finish()
    return repository


def test_all_is_told_and_freed(run: Run, garbage: Repository) -> None:
    ran = run(*AT_ONCE)
    assert ran.exit_code == 0
    assert "2 objects" in ran.stdout
    assert ran.stdout.splitlines()[-1].endswith("were freed now; nothing is condemned.")
    document = run("gc", "--json").document
    assert (document["condemned"]["objects"], document["captures"], document["free_at"]) == (0, 1, None)
    assert run("verify", "--all").exit_code == 0


def test_what_is_young_stays_and_a_dry_run_changes_nothing(run: Run, garbage: Repository, place: Path) -> None:
    before = sorted((place / "repository").rglob("*"))
    document = run(*AT_ONCE, "--dry-run", "--json").document
    assert (document["dry_run"], document["condemned"]["objects"]) == (True, 2)
    assert document["free_at"] is not None
    assert "would be condemned" in run(*AT_ONCE, "--dry-run").stdout
    assert run("gc", "--json").document["young"]["objects"] == 2
    assert sorted((place / "repository").rglob("*")) == before


def test_a_capture_under_way_is_named(run: Run, garbage: Repository) -> None:
    garbage.sessions.begin(capture_id(7), "test")
    with garbage.disk_writer(8192, 4096) as writer:
        writer.write_chunk(0, b"y" * 4096)
        writer.finish()
    ran = run(*AT_ONCE)
    assert f"capture {capture_id(7)}, begun" in ran.stderr
    assert "It holds up what is condemned." in ran.stderr
    assert f"after the end of {capture_id(7)}." in ran.stdout.splitlines()[-1]
    document = run(*AT_ONCE, "--json").document
    assert [one["session_id"] for one in document["sessions"]] == document["hindering"] == [capture_id(7)]
    assert document["young"]["objects"] == document["waiting"]["objects"] == 2


@pytest.mark.parametrize("grace", ["30min", "0", "59min", "1", "tomorrow"])
def test_too_little_grace_is_wrong_usage(run: Run, garbage: Repository, grace: str) -> None:
    assert run("gc", "--grace", grace).exit_code == 2


@pytest.mark.parametrize("grace", ["1h", "60min", "2d"])
def test_an_hour_is_enough(run: Run, garbage: Repository, grace: str) -> None:
    assert run("gc", "--grace", grace).exit_code == 0


def test_damage_stops_it_with_7_and_names_the_captures(run: Run, garbage: Repository, place: Path) -> None:
    index = garbage.manifest("latest").guests[0].disks[0].index
    (place / "repository" / "indexes" / index[:2] / index).write_bytes(b"")
    ran = run(*AT_ONCE)
    assert ran.exit_code == 7
    assert capture_id(1) in ran.stderr
    assert "Nothing was collected" in ran.stderr
    assert run("gc", "--json").document["error"]["code"] == "collection-stopped"


@pytest.mark.case("R1")
def test_what_holds_up_deletion_is_named_with_its_end(run: Run, garbage: Repository, place: Path) -> None:
    name = f"{capture_id(1)}.json"
    garbage.forget(capture_id(1))
    (place / "repository" / "forgotten" / name).write_bytes(b"half")
    ran = run("gc", "--grace", "1h")
    assert ran.exit_code == 0
    assert f"held up: forgotten/{name} cannot be read" in ran.stderr
    assert "is deleted by a run before" in ran.stderr
    (held,) = run("gc", "--grace", "1h", "--json").document["held"]
    assert held["name"].endswith(f"/manifests/{name}")
    assert held["reason"]
    until = datetime.fromisoformat(held["until"])
    assert timedelta(minutes=59) < until - datetime.now(UTC) < timedelta(minutes=61)
