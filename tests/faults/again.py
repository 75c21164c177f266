"""Which cells a run plays, so that the account can be made anew in several runs.

    FREEZEFRAME_FAULTS_OLDER_THAN='2026-11-26 12:00'    only cells whose row is missing or was played before then (UTC)
    FREEZEFRAME_FAULTS_MINUTES=6                        begin no cell after so many minutes

Only a cell that names its row with the marker `cell` is chosen by the first; tests with rows of their own (agents, messages,
holds) are left out then, and are played by their names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable

import pytest

from .account import Row

OLDER_THAN = os.environ.get("FREEZEFRAME_FAULTS_OLDER_THAN", "")
MINUTES = float(os.environ.get("FREEZEFRAME_FAULTS_MINUTES", "inf"))


def is_due(cell: tuple[str, str] | None, rows: Iterable[Row], older_than: str) -> bool:
    """Return True if the cell has no row, or one that was played before that time. Empty: every cell is due."""
    if not older_than:
        return True
    return cell is not None and not any((row.fault, row.step) == cell and row.played >= older_than for row in rows)


def cell_of(item: pytest.Item) -> tuple[str, str] | None:
    """Return the names of the row that a test fills, as its marker `cell` has them."""
    marker = item.get_closest_marker("cell")
    return None if marker is None else (str(marker.args[0]), str(marker.args[1]))


class Clock:
    """Ends a run between two cells."""

    def __init__(self, minutes: float) -> None:
        self._until = time.monotonic() + 60 * minutes

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        outcome = yield
        if time.monotonic() >= self._until:
            item.session.shouldstop = f"{MINUTES:g} minutes are over"
        return outcome
