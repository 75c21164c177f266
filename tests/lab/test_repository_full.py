"""A repository that fills up: in the middle of a transfer, and before. On a small filesystem and a lab of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from ops.lab import Lab, LabSpec, WorkloadSpec, blank
from ops.lab.spec import GuestSpec, Placement
from ops.system import System

from .command import Command
from .traces import traces

REPOSITORY = 5
ROOM_MIB = 100


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A filesystem of its own, mounted before the lab so that its hosts see it."""
    path = tmp_path_factory.mktemp("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM_MIB}m", "freezeframe-test", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="module")
def crowded(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A guest with more than fits into its repository."""
    guest = GuestSpec(name="big", disks=blank(1, 512), workload=WorkloadSpec(fill_mib=256))
    spec = LabSpec(hosts=("host-a",), guests=(Placement(host="host-a", guest=guest),))
    Repository.init(small / "repository")
    with (
        Lab.up(spec, tmp_path_factory.mktemp("lab")) as lab,
        System(lab, tmp_path_factory.mktemp("system"), {"FREEZEFRAME_REPOSITORY": str(small / "repository")}) as system,
    ):
        yield system


def test_a_repository_that_fills_up_ends_the_capture_and_the_next_is_refused_at_once(
    crowded: System, small: Path
) -> None:
    command = Command(crowded)
    first = command("capture", "big")
    assert first.code == REPOSITORY, first.stderr
    assert str(small / "repository") in first.error["message"]
    assert (first.error["guest"], first.error["disk"]) == ("big", "vda")
    assert traces(crowded) == []
    second = command("capture", "big")
    assert second.code == REPOSITORY
    assert str(small / "repository") in second.error["message"]
    assert second.error["disk"] is None  # told before the guest was touched
    assert traces(crowded) == []
    assert Repository.open(small / "repository").manifests() == []
