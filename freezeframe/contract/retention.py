"""Retention: which captures are kept, in shapes that the command line and a schedule share.

A *rule* keeps some captures of a *series*, the captures that are counted together; a capture that no rule keeps is
forgotten. What each rule means stands in `repository/retention.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import NonNegativeInt, StringConstraints, model_validator

from freezeframe.contract.message import Label, Shape
from freezeframe.contract.words import Consistency
from freezeframe.naming import GuestWord, is_uuid

#: How many of a kind are kept.
Count = NonNegativeInt | Literal["unlimited"]

_SPAN: Final = "".join(f"(?:([0-9]{{1,4}}){unit})?" for unit in "ymwdh")

#: A length of time by the calendar, the largest unit first: years, months, weeks, days, hours, as `1y6m` or `7d12h`.
Span = Annotated[str, StringConstraints(min_length=2, pattern=f"^{_SPAN}$")]


class SpanParts(Shape):
    """A span, read."""

    years: int
    months: int
    weeks: int
    days: int
    hours: int

    @classmethod
    def of(cls, span: Span) -> Self:
        """Raises ValueError for what is no span."""
        match = re.fullmatch(_SPAN, span)
        if match is None:
            raise ValueError(f"{span!r} is no length of time, as 1y6m or 7d12h is")
        years, months, weeks, days, hours = (int(part or 0) for part in match.groups())
        return cls(years=years, months=months, weeks=weeks, days=days, hours=hours)


class SeriesKey(StrEnum):
    """By what captures are told apart into series."""

    GROUP = "group"
    GUESTS = "guests"  # the same set of guests, by UUID
    TAGS = "tags"  # the same set of tags


class Retention(Shape):
    """What is kept of each series: all that any rule keeps. At least one rule, so that none of these forgets everything."""

    keep_last: Count = 0
    keep_hourly: Count = 0
    keep_daily: Count = 0
    keep_weekly: Count = 0
    keep_monthly: Count = 0
    keep_yearly: Count = 0
    keep_within: Span | None = None
    keep_tags: tuple[Label, ...] = ()
    #: Captures that prove less take no place in a count.
    min_consistency: Consistency = Consistency.CRASH
    #: Hours, days, weeks, months and years are UTC's, and not those of the zone of the machine that decides.
    utc: bool = False
    #: None: by group if a capture has one, else by the set of its guests. Empty: all captures are one series.
    series_by: frozenset[SeriesKey] | None = None

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        often = (self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly)
        rarely = (self.keep_monthly, self.keep_yearly)
        if not any((*often, *rarely, self.keep_within, self.keep_tags)):
            raise ValueError("there is no rule that keeps anything")
        return self


class Selection(Shape):
    """Some captures of a repository: any of these guests, and any of these groups, and any of these sets of tags."""

    guests: tuple[GuestWord, ...] = ()  # names or UUIDs
    groups: tuple[Label, ...] = ()
    tags: tuple[frozenset[Label], ...] = ()

    def has(self, guests: Collection[str] | None, group: str | None, tags: Collection[str]) -> bool:
        """Whether a capture is selected. `guests`: all words that mean its guests; None for every guest there is."""
        wanted = {one.lower() if is_uuid(one) else one for one in self.guests}
        return (
            (not wanted or guests is None or any(one in guests for one in wanted))
            and (not self.groups or group in self.groups)
            and (not self.tags or any(wanted.issubset(tags) for wanted in self.tags))
        )
