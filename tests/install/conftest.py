"""One wheel and one wheelhouse for all tests in this folder, and environments made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.install import Environment, Wheelhouse, build_wheel
from tests.passable import tmp_path, tmp_path_factory

__all__ = ["tmp_path", "tmp_path_factory"]

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.install)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, built from this checkout's sources."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def wheelhouse(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """All that the wheel depends on, in the locked versions, for this machine's Python."""
    return Wheelhouse.fill(tmp_path_factory.mktemp("wheelhouse") / "all", wheel)


@pytest.fixture(scope="session")
def whole(wheelhouse: Wheelhouse, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An installation with every extra that sees Debian's packages, as README makes it on a host."""
    directory = tmp_path_factory.mktemp("whole") / "environment"
    return Environment.create(directory, wheelhouse, ("host", "control", "s3"), system_packages=True)
