"""One lab for all tests in this folder. If it cannot be built the tests fail: a skipped lab proves nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.lab import Lab, LabSpec, blank
from ops.lab.guest import Guest
from ops.system import System
from tests.passable import tmp_path, tmp_path_factory

from .command import Command
from .inventory import one_more_guest
from .traces import traces

__all__ = ["tmp_path", "tmp_path_factory"]

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """host-a with alpha and beta, host-b with gamma; two qcow2 disks of 512 MiB each, ready and writing."""
    with Lab.up(LabSpec.of(hosts=2, guests=3, disks=2), tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="package")
def system(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Freezeframe on that lab: Redis, orchestrator, and guard, control and data worker on each host."""
    with System(lab, tmp_path_factory.mktemp("system")) as running:
        yield running


@pytest.fixture(scope="module")
def mute(lab: Lab, system: System) -> Iterator[Guest]:
    """A guest without an agent."""
    with one_more_guest(system, lab, "host-b", "mute", blank(1, 64), agent=False) as guest:
        yield guest


@pytest.fixture
def command(system: System) -> Command:
    """The command as a user has it on the machine with the orchestrator."""
    return Command(system)


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test that captures: each guest and host is as it was found (invariants 1 and 4)."""
    yield
    if "system" in request.fixturenames:
        assert traces(request.getfixturevalue("system")) == []
