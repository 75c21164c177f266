"""Which captures of a series are kept, and why: a pure decision.

             newest                                                  oldest
    series   h  g     f     e  d           c              b     a
    day      └ 7 ┘  └ 6 ┘ └ 5   ┘        └ 3 ┘          └ 2 ┘ └ 1 ┘
    last 2   ×  ×
    daily 3  ×        ×     ×                                            the newest of each day that has one
    yearly 2 ×                                                      ×    fewer years than two so far: also the oldest
    kept     h  g     f     e                                       a

- Each rule decides by itself, and what any rule keeps is kept.
- A rule by periods keeps the newest capture of each of so many newest periods *that have one*; so a month without captures
  costs none of those that there are. While there are fewer such periods than it is to keep, it keeps the oldest capture
  too: else a rule of years would keep nothing old until the first year is over.
- `keep_within` counts back from the newest capture, not from now; so when captures stop, it forgets no more of them.
- A capture that is dated later than now, or than the store has it, is kept and not counted: some clock was wrong, and it would
  stand in for the newest.
- One that proves less than `min_consistency` is not counted by rules that count. It is kept while no counted one is newer.

What follows from that, and is tested as such: deciding about what is left forgets nothing more; a rule with a higher count
keeps all that it kept, and maybe more; deciding every day leaves the same as deciding once at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Final

from freezeframe.contract.words import Consistency
from freezeframe.repository.periods import Calendar, Period

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from freezeframe.contract.retention import Count, Retention
    from freezeframe.repository.candidate import Candidate

#: How much a label claims: 0 is the best.
RANK: Final = {one: rank for rank, one in enumerate(Consistency)}


class Rule(StrEnum):
    """Why a capture is kept."""

    LAST = "last"
    HOURLY = Period.HOURLY.value
    DAILY = Period.DAILY.value
    WEEKLY = Period.WEEKLY.value
    MONTHLY = Period.MONTHLY.value
    YEARLY = Period.YEARLY.value
    WITHIN = "within"
    TAG = "tag"
    NOTHING_BETTER = "nothing-better"  # it proves less than what counts, and nothing that counts is newer
    AHEAD = "ahead"  # it is dated later than now, or than the store has it


@dataclass(frozen=True, slots=True)
class Reason:
    """`of` is the period, the span or the tag. `oldest`: kept because there are fewer periods than the rule is to keep."""

    rule: Rule
    of: str = ""
    oldest: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A capture is forgotten if there is no reason to keep it."""

    capture: Candidate
    reasons: tuple[Reason, ...]

    @property
    def kept(self) -> bool:
        return bool(self.reasons)


def judge(series: Iterable[Candidate], retention: Retention, now: datetime) -> list[Verdict]:
    """Every capture of one series, newest first, and why it is kept. Time: that of sorting them."""
    captures = sorted(series, key=lambda one: (one.at, one.capture_id), reverse=True)
    reasons: dict[str, list[Reason]] = {one.capture_id: [] for one in captures}
    for capture, reason in _kept(captures, retention, now):
        reasons[capture.capture_id].append(reason)
    return [Verdict(one, tuple(reasons[one.capture_id])) for one in captures]


def _kept(captures: Sequence[Candidate], retention: Retention, now: datetime) -> Iterator[tuple[Candidate, Reason]]:
    calendar = Calendar.of(utc=retention.utc)
    ahead = [one for one in captures if one.at > now or one.contradicted]
    yield from ((one, Reason(Rule.AHEAD)) for one in ahead)
    past = [one for one in captures if one.at <= now and not one.contradicted]
    counted = [one for one in past if RANK[one.consistency] <= RANK[retention.min_consistency]]
    yield from ((one, Reason(Rule.LAST)) for one in islice(counted, _most(retention.keep_last)))
    for period, count in (
        (Period.HOURLY, retention.keep_hourly),
        (Period.DAILY, retention.keep_daily),
        (Period.WEEKLY, retention.keep_weekly),
        (Period.MONTHLY, retention.keep_monthly),
        (Period.YEARLY, retention.keep_yearly),
    ):
        yield from _by_period(counted, period, _most(count), calendar)
    yield from _within(past, retention.keep_within, calendar)
    for tag in dict.fromkeys(retention.keep_tags):
        yield from ((one, Reason(Rule.TAG, tag)) for one in past if tag in one.tags)
    yield from _nothing_better(past, counted)


def _most(count: Count) -> int | None:
    """None: all of them."""
    return None if count == "unlimited" else count


def _by_period(
    counted: Sequence[Candidate], period: Period, most: int | None, calendar: Calendar
) -> Iterator[tuple[Candidate, Reason]]:
    if most == 0:
        return
    found, last = 0, ""
    for one in counted:
        if found == most:
            return
        name = calendar.name(period, one.at)
        if name != last:
            yield one, Reason(Rule(period), name)
            found, last = found + 1, name
        elif one is counted[-1]:
            yield one, Reason(Rule(period), name, oldest=True)


def _within(past: Sequence[Candidate], span: str | None, calendar: Calendar) -> Iterator[tuple[Candidate, Reason]]:
    if span is None or not past:
        return
    first = calendar.earlier(past[0].at, span)
    yield from ((one, Reason(Rule.WITHIN, span)) for one in past if one.at >= first)


def _nothing_better(past: Sequence[Candidate], counted: Sequence[Candidate]) -> Iterator[tuple[Candidate, Reason]]:
    for one in past:
        if counted and one is counted[0]:
            return
        yield one, Reason(Rule.NOTHING_BETTER)
