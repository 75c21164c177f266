"""The second kind of host: Debian 13's libvirt and QEMU, with the modular daemon. One lab for all tests here but the faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.lab import Lab, LabSpec
from ops.system import System
from tests.faults.benches import leave_out, register
from tests.lab.conftest import command, mute, nothing_left_behind
from tests.passable import tmp_path, tmp_path_factory

__all__ = ["command", "mute", "nothing_left_behind", "tmp_path", "tmp_path_factory"]

_HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    register(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.lab)
    leave_out(config, items, _HERE)


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """As the other tests' lab, on hosts of Debian 13: host-a with alpha and beta, host-b with gamma."""
    spec = LabSpec.of(hosts=2, guests=3, disks=2).model_copy(update={"profiles": ("debian13",)})
    with Lab.up(spec, tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="package")
def system(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Freezeframe on that lab: Redis, orchestrator, and guard, control and data worker on each host."""
    with System(lab, tmp_path_factory.mktemp("system")) as running:
        yield running
