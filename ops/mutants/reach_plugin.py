"""A pytest plugin for the run that measures: tells coverage which test runs, and keeps how long each took."""

from __future__ import annotations

import json
import os
from pathlib import Path

import coverage
import pytest

#: Where the durations go.
DURATIONS_ENV = "FREEZEFRAME_MUTANTS_DURATIONS"

_durations: dict[str, float] = {}


def pytest_runtest_logstart(nodeid: str) -> None:
    """Attribute all lines from here on to this test, the set-up of fixtures that it is the first to need included."""
    measured = coverage.Coverage.current()
    if measured is not None:
        measured.switch_context(nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _durations[report.nodeid] = _durations.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish() -> None:
    Path(os.environ[DURATIONS_ENV]).write_text(json.dumps(_durations), encoding="utf-8")
