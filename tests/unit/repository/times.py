"""A clock that only the test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Time:
    """Microseconds go by with every look, so that no two moments are the same; all else is the test's."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    def pass_(self, **amount: float) -> None:
        self.now += timedelta(**amount)
