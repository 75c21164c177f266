"""What every lab of faults has: its guests, its system's settings, and the account that cells are written into."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.lab import Lab, LabSpec, WorkloadSpec, blank
from ops.lab.profile import ProfileName
from ops.lab.spec import GuestSpec, Placement
from ops.system import System

from .account import Account, earlier
from .again import MINUTES, OLDER_THAN, Clock, cell_of, is_due
from .bench import REPOSITORY_BYTES, Bench
from .hand import PORT
from .kinds import KINDS, MODULAR
from .two import PAIRS

#: As an impatient operator would set it, so that a cell takes seconds. None of these is a bound of a hold.
IMPATIENT = {
    "FREEZEFRAME_PREPARE_TIMEOUT_S": "20",
    "FREEZEFRAME_RELEASE_TIMEOUT_S": "20",
    "FREEZEFRAME_TRANSFER_STALL_S": "40",  # transfers rest while the truth is read
}

#: The names of the rows of all cells that are made from a list.
CELLS = {(kind.name, step) for kind in (*KINDS, MODULAR) for step in kind.steps} | {pair.cell for pair in PAIRS}


def register(config: pytest.Config) -> None:
    """Keep one account of all cells of a run, whichever of the folders with cells is collected first."""
    if not config.pluginmanager.has_plugin(Account.NAME):
        config.addinivalue_line("markers", "cell(fault, step): fills this row of docs/faults.md")
        config.pluginmanager.register(Account(CELLS), Account.NAME)
        config.pluginmanager.register(Clock(MINUTES))


def leave_out(config: pytest.Config, items: list[pytest.Item], folder: Path) -> None:
    """Leave out the cells of a folder that need not be played this time."""
    rows = earlier()
    left_out = {
        item for item in items if item.path.is_relative_to(folder) and not is_due(cell_of(item), rows, OLDER_THAN)
    }
    if left_out:
        config.hook.pytest_deselected(items=[*left_out])
        items[:] = [item for item in items if item not in left_out]


@contextmanager
def room_at(path: Path) -> Iterator[Path]:
    """A filesystem for the repository, mounted before the lab so that its hosts see it."""
    size = f"size={REPOSITORY_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "freezeframe-test", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


def small_lab(profiles: Sequence[ProfileName] = ("machine",)) -> LabSpec:
    """host-a with alpha (two disks) and beta, host-b with gamma; small disks, writers at work."""
    places = (("host-a", "alpha", 2), ("host-a", "beta", 1), ("host-b", "gamma", 1))
    guests = tuple(
        Placement(
            host=host,
            guest=GuestSpec(name=name, disks=blank(disks, 64), ports=(PORT,), workload=WorkloadSpec(fill_mib=4)),
        )
        for host, name, disks in places
    )
    return LabSpec(hosts=("host-a", "host-b"), guests=guests, profiles=tuple(profiles))


@contextmanager
def bench_on(lab: Lab, room: Path, directory: Path, truth: Path, config: pytest.Config) -> Iterator[Bench]:
    """A bench that has captured its guests once."""
    account = config.pluginmanager.get_plugin(Account.NAME)
    assert isinstance(account, Account)
    settings = IMPATIENT | {"FREEZEFRAME_REPOSITORY": str(room / "repository")}
    with System(lab, directory, settings) as system:
        made = Bench(system, truth, account)
        made.equip()
        made.exact("the first, in full")
        yield made
