"""One row of faults where virtqemud is in libvirtd's place: it is killed at every step of the path.

host-a is of Debian 13, and struck; host-b has this machine's libvirtd: one instant over two versions.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.lab import Lab
from tests.faults.bench import Bench
from tests.faults.benches import bench_on, room_at, small_lab
from tests.faults.cell import play
from tests.faults.kinds import MODULAR

_CELLS = [pytest.param(step, id=step, marks=pytest.mark.cell(MODULAR.name, step)) for step in MODULAR.steps]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Bench]:
    make = tmp_path_factory.mktemp
    with (
        room_at(make("room")) as room,
        Lab.up(small_lab(profiles=("debian13", "machine")), make("lab")) as lab,
        bench_on(lab, room, make("system"), make("truth"), request.config) as made,
    ):
        yield made


@pytest.mark.long
@pytest.mark.parametrize("step", _CELLS)
def test_virtqemud_killed(bench: Bench, step: str) -> None:
    """Nothing stays held, all is left as it was found, and the next increment is right."""
    daemons = [host.profile.daemon for host in bench.lab.hosts.values()]
    assert daemons == ["virtqemud", "libvirtd"]
    play(bench, MODULAR, step)
