"""Temporary directories that QEMU's own user can pass through: pytest's are closed to everybody but their owner.

The tests of a lab have fixtures of pytest's names from here, so that a test need not know.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.lab.daemon import PASSABLE


class PassableFactory:
    """Makes directories below one of its own, as pytest's factory does."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.chmod(PASSABLE)

    def mktemp(self, basename: str, *, numbered: bool = True) -> Path:
        """Make a new directory; with a number behind its name unless told otherwise."""
        path = Path(tempfile.mkdtemp(prefix=f"{basename}-", dir=self._root)) if numbered else self._root / basename
        path.mkdir(exist_ok=numbered)
        path.chmod(PASSABLE)
        return path


@pytest.fixture(scope="session")
def tmp_path_factory(request: pytest.FixtureRequest) -> Iterator[PassableFactory]:
    """In place of pytest's. What failed tests have left stays for people to look at."""
    root = Path(tempfile.mkdtemp(prefix="ff-test-", dir="/var/tmp"))
    yield PassableFactory(root)
    if not request.session.testsfailed:
        shutil.rmtree(root)


@pytest.fixture
def tmp_path(tmp_path_factory: PassableFactory) -> Path:
    """In place of pytest's."""
    return tmp_path_factory.mktemp("test")
