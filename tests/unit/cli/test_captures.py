"""`freezeframe captures`: from the repository alone, and with what is on its way if Redis answers."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from freezeframe import bus as bus_module
from freezeframe.contract import names
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import Consistency
from freezeframe.repository import Repository, SkippedDisk
from freezeframe.settings import BusSettings

from .manifests import GUEST, capture_id, manifest_of, proof_of
from .run import Run


@pytest.fixture
def three(repository: Repository) -> Repository:
    for number, name in enumerate(["db1", "web", "db1"]):
        tags = ("nightly",) if number else ("weekly", "keep")
        repository.write_manifest(manifest_of(repository, capture_id(number), name=name, group=f"g{number}", tags=tags))
    return repository


def ids(run: Run, *arguments: str) -> list[str]:
    return [one["capture_id"] for one in run("captures", *arguments, "--json").document["captures"]]


def test_newest_first_without_redis(run: Run, three: Repository, no_bus: None) -> None:
    assert ids(run) == [capture_id(2), capture_id(1), capture_id(0)]
    ran = run("captures")
    assert ran.exit_code == 0
    shown = [line for line in ran.stdout.splitlines() if "01HZ" in line]
    assert [line.split()[0] for line in shown] == [capture_id(2), capture_id(1), capture_id(0)]
    assert "2026-03-01 12:00 " in shown[0]
    assert "52 ms" in shown[0]


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (["--guest", "db1"], [2, 0]),
        (["--guest", GUEST], [2, 1, 0]),
        (["--group", "g1"], [1]),
        (["--tag", "keep"], [0]),
        (["--tag", "nightly", "--guest", "db1"], [2]),
        (["--guest", "nobody"], []),
        (["--group", "g1", "--group", "g0"], [1, 0]),
        (["--tag", "weekly,keep"], [0]),
        (["--tag", "weekly,nightly"], []),
        (["--tag", "weekly", "--tag", "nightly"], [2, 1, 0]),
    ],
)
def test_filters(run: Run, three: Repository, no_bus: None, arguments: list[str], numbers: list[int]) -> None:
    assert ids(run, *arguments) == [capture_id(number) for number in numbers]


def test_list_is_the_same(run: Run, three: Repository, no_bus: None) -> None:
    assert run("list").stdout == run("captures").stdout


def test_runs_on_their_way_are_marked(run: Run, three: Repository, bus: BusSettings) -> None:
    request = CaptureRequest(capture_id=capture_id(7), guests=("db1",), group="g7")
    record = {"state": "transferring", "asked_at": "2026-03-01T12:00:00Z", "request": request.model_dump(mode="json")}
    with contextlib.closing(bus_module.connect(bus)) as client:
        client.sadd(names.ACTIVE_RUNS_KEY, capture_id(7), capture_id(8), capture_id(9))
        client.hset(names.run_key(capture_id(7)), "record", json.dumps(record))
        client.hset(names.run_key(capture_id(8)), "record", "{unreadable")
    document = run("captures", "--json").document
    assert [(one["capture_id"], one["state"]) for one in document["active"]] == [(capture_id(7), "transferring")]
    assert "transferring …" in run("captures").stdout
    assert run("captures", "--group", "g1", "--json").document["active"] == []


def test_a_damaged_manifest_hides_no_other(run: Run, three: Repository, place: Path, no_bus: None) -> None:
    (place / "repository" / "manifests" / f"{capture_id(1)}.json").write_text("{}")
    ran = run("captures")
    assert ran.exit_code == 0
    assert capture_id(1) in ran.stderr
    assert ids(run) == [capture_id(2), capture_id(0)]


def test_no_repository(run: Run, place: Path, no_bus: None) -> None:
    ran = run("captures", "--json")
    assert ran.exit_code == 5
    assert ran.document["error"]["code"] == "repository-not-found"


def test_show_tells_everything(run: Run, repository: Repository, no_bus: None) -> None:
    skipped = SkippedDisk(target="vdb", reason="it is a passed-through device")
    repository.write_manifest(manifest_of(repository, capture_id(1), skipped=(skipped,)))
    ran = run("captures", "show", "latest")
    assert ran.exit_code == 0
    for word in ("db1", "vda", "no checkpoint yet", "vdb: it is a passed-through device", "host-a.example"):
        assert word in ran.stdout
    assert "one instant: every guest" in ran.stdout
    document = run("captures", "show", capture_id(1), "--json").document
    assert document["shortcomings"] == document["doubts"] == []
    assert document["guests"][0]["disks"][0]["full_reason"] == "no checkpoint yet"


def test_show_says_what_the_proof_is_short_of(run: Run, repository: Repository, no_bus: None) -> None:
    proof = proof_of(released=False)
    repository.write_manifest(manifest_of(repository, capture_id(1), proof=proof, consistency=Consistency.GUEST))
    assert "never released" in run("captures", "show", "latest").stdout


def test_show_of_none(run: Run, repository: Repository, bus: BusSettings) -> None:
    ran = run("captures", "show", "01HZZ", "--json")
    assert ran.exit_code == 4
    assert ran.document["error"]["code"] == "capture-not-found"
