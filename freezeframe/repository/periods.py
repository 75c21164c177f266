"""Periods: the hours, days, weeks, months and years of a calendar, and a length of time counted back in it.

        a day of 25 hours, where clocks go back at 03:00
UTC     22   23   00   01   02   …   22   23
local   00   01   02   02   03   …   23   00
hourly  └──┘ └──┘ └──┘ └──┘ └──┘      each hour that passed is one: 02:00+0200 and 02:00+0100
daily   └─────────────────────────────┘ └──
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from freezeframe.contract.retention import SpanParts

#: Before any capture. What a span reaches back to when it goes further than calendars do.
_EVER: Final = datetime.min.replace(tzinfo=UTC)
_FIRST_YEAR: Final = 1971


class Period(StrEnum):
    """Of which a rule keeps one capture each."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"


#: An hour has its offset from UTC, so that the two of one name in autumn are two. Weeks are ISO 8601's, from Monday on; the
#: year is the week's own, so that a week at the turn of the year is one.
_FORMATS: Final = {
    Period.HOURLY: "%Y-%m-%d %H:00%z",
    Period.DAILY: "%Y-%m-%d",
    Period.WEEKLY: "%G-W%V",
    Period.MONTHLY: "%Y-%m",
    Period.YEARLY: "%Y",
}


class Calendar:
    """The calendar of a zone; None is the zone of this machine, with its summer time, as the C library has it."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone

    @classmethod
    def of(cls, *, utc: bool) -> Calendar:
        return cls(UTC if utc else None)

    def local(self, moment: datetime) -> datetime:
        """The same moment by this calendar; at the very ends of time by its own."""
        try:
            return moment.astimezone(self._zone)
        except (OverflowError, ValueError, OSError):
            return moment

    def name(self, period: Period, moment: datetime) -> str:
        """The period that a moment is in: `2026-03-01 14:00+0100`, `2026-03-01`, `2026-W09`, `2026-03`, `2026`."""
        return self.local(moment).strftime(_FORMATS[period])

    def earlier(self, moment: datetime, span: str) -> datetime:
        """The moment that lies so far back. Years to days go by the calendar, to the same time of day; hours are 60 minutes.

        A day that the earlier month does not have stands for the beginning of the next: a month before March 29 to 31 is
        March 1, so a later moment never reaches further back than an earlier one.
        """
        parts = SpanParts.of(span)
        try:
            wall = _months_back(self.local(moment).replace(tzinfo=None), 12 * parts.years + parts.months)
            wall -= timedelta(days=7 * parts.weeks + parts.days)
            if wall.year < _FIRST_YEAR:
                return _EVER
            there = wall.astimezone() if self._zone is None else wall.replace(tzinfo=self._zone)
            return there.astimezone(UTC) - timedelta(hours=parts.hours)
        except (OverflowError, ValueError, OSError):
            return _EVER


def _months_back(wall: datetime, months: int) -> datetime:
    """Raises ValueError before the year 1."""
    if not months:
        return wall
    there = wall.year * 12 + wall.month - 1 - months
    try:
        return wall.replace(year=there // 12, month=there % 12 + 1)
    except ValueError:
        after = there + 1
        return datetime(after // 12, after % 12 + 1, 1)  # noqa: DTZ001 - a time on the wall; its zone comes later
