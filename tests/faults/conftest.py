"""One lab and one system for all cells. If the lab cannot be built the tests fail: a skipped lab proves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.lab import Lab
from tests.passable import tmp_path, tmp_path_factory

from .bench import Bench
from .benches import bench_on, leave_out, register, room_at, small_lab

__all__ = ["tmp_path", "tmp_path_factory"]

_HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    register(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.lab)
    leave_out(config, items, _HERE)


@pytest.fixture(scope="package")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A filesystem for the repository."""
    with room_at(tmp_path_factory.mktemp("room")) as path:
        yield path


@pytest.fixture(scope="package")
def fault_lab(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """host-a with alpha and beta, host-b with gamma."""
    with Lab.up(small_lab(), tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="package")
def bench(
    fault_lab: Lab, room: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Bench]:
    directory, truth = tmp_path_factory.mktemp("system"), tmp_path_factory.mktemp("truth")
    with bench_on(fault_lab, room, directory, truth, request.config) as made:
        yield made
