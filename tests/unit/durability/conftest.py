"""A directory in memory where there is one: power is cut hundreds of times, and each time after a few fsyncs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def memory_path() -> Iterator[Path]:
    memory = Path("/dev/shm")  # noqa: S108 - a new directory in it
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path)
