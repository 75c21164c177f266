"""This machine's clock, in a test's hands, as the looks at runs and the reconciler see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator import look, reconcile


class Clock(datetime):
    """This machine's clock, which may be set."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        assert tz is UTC
        return datetime.now(UTC) + cls.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(Clock, "ahead", timedelta())
    monkeypatch.setattr(look, "datetime", Clock)
    monkeypatch.setattr(reconcile, "datetime", Clock)
    return Clock
