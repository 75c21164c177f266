"""What `ops/test --long` adds: more examples for every property, and an account of the long suites in docs/long.md."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

LONG = os.environ.get("FREEZEFRAME_TEST_LONG") == "1"
ACCOUNT = Path(__file__).parent.parent / "docs" / "long.md"

#: How long it takes to draw an example is the machine's affair.
_UNHURRIED = (HealthCheck.too_slow,)
#: Examples of each property test, usually and in a long run: the same ones each time, and ever new ones.
settings.register_profile(
    "usual", max_examples=100, deadline=None, suppress_health_check=_UNHURRIED, derandomize=True, database=None
)
settings.register_profile("long", max_examples=5000, deadline=None, suppress_health_check=_UNHURRIED)
settings.load_profile("long" if LONG else "usual")

_HEAD = """# The long suites

What `ops/test --long` last said of the soak, fuzz and many-times suites; written by it, by hand never. A run of some of them
leaves the rows of the others. Property tests ran with {examples} examples each.

Last run: {when} UTC, Python {python}, {cores} cores, exit status {status}.

| suite | outcome | seconds | when (UTC) | what was done |
|---|---|---|---|---|
"""


class LongAccount:
    """Collects what long tests report of themselves by `record_property`, and writes it down at the end."""

    def __init__(self) -> None:
        self._rows: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if (
            report.when == "call"
            and "long" in report.keywords
            and "faults/" not in report.nodeid
            and "cell" not in report.keywords
        ):  # they have their own
            done = ", ".join(f"{name}: {value}" for name, value in report.user_properties)
            name = report.nodeid.rpartition("::")[2]
            when = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
            self._rows[name] = f"| {name} | {report.outcome} | {report.duration:.0f} | {when} | {done} |"

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        head = _HEAD.format(
            examples=settings().max_examples,
            when=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            python=platform.python_version(),
            cores=os.cpu_count(),
            status=int(exitstatus),
        )
        rows = {**earlier_rows(), **self._rows}
        if self._rows:  # a run of none of them has nothing to say
            table = head + "\n".join(rows[name] for name in sorted(rows)) + "\n"
            ACCOUNT.write_text(table + sections(), encoding="utf-8")


def earlier_rows() -> dict[str, str]:
    """The rows of the account as it stands, by their suites."""
    lines = ACCOUNT.read_text(encoding="utf-8").splitlines() if ACCOUNT.exists() else []
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| test_")}


def sections() -> str:
    """Return what others have written below the table (ops.mutants does), with the line before it."""
    text = ACCOUNT.read_text(encoding="utf-8") if ACCOUNT.exists() else ""
    _, mark, rest = text.partition("\n## ")
    return mark + rest
