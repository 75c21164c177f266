"""One lab and one system for all cells. If the lab cannot be built the tests fail: a skipped lab proves nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.lab import Lab, LabSpec, WorkloadSpec, blank
from ops.lab.spec import GuestSpec, Placement
from ops.system import System
from tests.passable import tmp_path, tmp_path_factory

from .account import Account, earlier
from .again import MINUTES, OLDER_THAN, Clock, cell_of, is_due
from .bench import REPOSITORY_BYTES, Bench
from .hand import PORT
from .kinds import KINDS
from .two import PAIRS

__all__ = ["tmp_path", "tmp_path_factory"]

_HERE = Path(__file__).parent

#: As an impatient operator would set it, so that a cell takes seconds. None of these is a bound of a hold.
IMPATIENT = {
    "FREEZEFRAME_PREPARE_TIMEOUT_S": "20",
    "FREEZEFRAME_RELEASE_TIMEOUT_S": "20",
    "FREEZEFRAME_TRANSFER_STALL_S": "40",  # transfers rest while the truth is read
}


#: The names of the rows of all cells that are made from a list.
CELLS = {(kind.name, step) for kind in KINDS for step in kind.steps} | {pair.cell for pair in PAIRS}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cell(fault, step): fills this row of docs/faults.md")
    config.pluginmanager.register(Account(CELLS), Account.NAME)
    config.pluginmanager.register(Clock(MINUTES))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rows = earlier()
    left_out = []
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.lab)
            if not is_due(cell_of(item), rows, OLDER_THAN):
                left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="package")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A filesystem for the repository, mounted before the lab so that its hosts see it."""
    path = tmp_path_factory.mktemp("room")
    size = f"size={REPOSITORY_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "freezeframe-test", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="package")
def fault_lab(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """host-a with alpha (two disks) and beta, host-b with gamma; small disks, writers at work."""
    places = (("host-a", "alpha", 2), ("host-a", "beta", 1), ("host-b", "gamma", 1))
    guests = tuple(
        Placement(
            host=host,
            guest=GuestSpec(name=name, disks=blank(disks, 64), ports=(PORT,), workload=WorkloadSpec(fill_mib=4)),
        )
        for host, name, disks in places
    )
    with Lab.up(LabSpec(hosts=("host-a", "host-b"), guests=guests), tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="package")
def bench(
    fault_lab: Lab, room: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Bench]:
    account = request.config.pluginmanager.get_plugin(Account.NAME)
    assert isinstance(account, Account)
    settings = IMPATIENT | {"FREEZEFRAME_REPOSITORY": str(room / "repository")}
    with System(fault_lab, tmp_path_factory.mktemp("system"), settings) as system:
        made = Bench(system, tmp_path_factory.mktemp("truth"), account)
        made.equip()
        made.exact("the first, in full")
        yield made
