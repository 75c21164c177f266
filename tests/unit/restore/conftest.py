from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.repository import Repository

from .samples import CHUNK


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def repository(root: Path) -> Repository:
    return Repository.init(root, chunk_bytes=CHUNK)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The directory to restore to."""
    directory = tmp_path / "restored"
    directory.mkdir()
    return directory
