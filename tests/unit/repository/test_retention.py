"""What is kept: against a slow and obvious model, and what an operator may rely on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from freezeframe.contract.retention import Retention
from freezeframe.contract.words import Consistency
from freezeframe.repository.candidate import Candidate
from freezeframe.repository.retention import judge

from .candidates import COUNTED, NOW, candidate, counts, daily, histories, kept, reasons, retentions

BEST_FIRST = [Consistency.GROUP, Consistency.GUEST, Consistency.CRASH]


def ids(captures: list[Candidate], retention: Retention, now: datetime = NOW) -> set[str]:
    return {one.capture.capture_id for one in judge(captures, retention, now) if one.kept}


def left(captures: list[Candidate], retention: Retention, now: datetime = NOW) -> list[Candidate]:
    return [one.capture for one in judge(captures, retention, now) if one.kept]


# The model: each rule by itself, over the whole history, with no thought for time.


def _by_name(one: Candidate, rule: str) -> tuple[int, ...]:
    at = one.at
    iso = at.isocalendar()
    return {
        "keep_hourly": (at.year, at.month, at.day, at.hour),
        "keep_daily": (at.year, at.month, at.day),
        "keep_weekly": (iso.year, iso.week),
        "keep_monthly": (at.year, at.month),
        "keep_yearly": (at.year,),
    }[rule]


def _age(one: Candidate) -> tuple[datetime, str]:
    return one.at, one.capture_id


def _model_rule(counted: list[Candidate], rule: str, count: int | str) -> set[str]:
    most = 10**9 if isinstance(count, str) else count
    newest_first = sorted(counted, key=_age, reverse=True)
    if rule == "keep_last":
        return {one.capture_id for one in newest_first[:most]}
    names = sorted({_by_name(one, rule) for one in counted}, reverse=True)
    found = {max((one for one in counted if _by_name(one, rule) == name), key=_age).capture_id for name in names[:most]}
    if 0 < len(names) < most:
        found.add(newest_first[-1].capture_id)
    return found


def _model_span(at: datetime, span: str) -> datetime:
    """For the spans that are drawn, at noon of no 29th to 31st."""
    days = {"1h": 1 / 24, "36h": 1.5, "2d": 2, "1w": 7}
    if span in days:
        return at - timedelta(days=days[span])
    back = {"1m": (1, 0), "1m3d": (1, 3), "1y6m": (18, 0)}[span]
    months = at.year * 12 + at.month - 1 - back[0]
    if at.day > 28:
        day = at.replace(day=28)
        there = day.replace(year=months // 12, month=months % 12 + 1)
        last = (there + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        if at.day > last.day:
            return (last + timedelta(days=1)).replace(hour=0, minute=0) - timedelta(days=back[1])
    return at.replace(year=months // 12, month=months % 12 + 1) - timedelta(days=back[1])


def model(captures: list[Candidate], retention: Retention) -> set[str]:
    good = BEST_FIRST[: BEST_FIRST.index(retention.min_consistency) + 1]
    counted = [one for one in captures if one.consistency in good]
    found: set[str] = set()
    for rule in COUNTED:
        found |= _model_rule(counted, rule, getattr(retention, rule))
    if retention.keep_within and captures:
        first = _model_span(max(one.at for one in captures), retention.keep_within)
        found |= {one.capture_id for one in captures if one.at >= first}
    found |= {one.capture_id for one in captures if set(one.tags) & set(retention.keep_tags)}
    best = max((_age(one) for one in counted), default=None)
    return found | {one.capture_id for one in captures if best is None or _age(one) > best}


@given(histories, retentions)
def test_it_keeps_what_the_model_keeps(captures: list[Candidate], retention: Retention) -> None:
    assert ids(captures, retention) == model(captures, retention)


@given(histories, retentions, st.randoms(use_true_random=False))
def test_the_order_that_captures_come_in_is_no_matter(
    captures: list[Candidate], retention: Retention, chance: object
) -> None:
    shuffled = list(captures)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # a Random, as hypothesis makes it
    assert judge(shuffled, retention, NOW) == judge(captures, retention, NOW)


@given(histories, retentions)
def test_twice_is_once(captures: list[Candidate], retention: Retention) -> None:
    once = left(captures, retention)
    assert left(once, retention) == once


@given(histories, retentions)
def test_rules_together_keep_what_each_keeps(captures: list[Candidate], retention: Retention) -> None:
    shared = {"utc": True, "min_consistency": retention.min_consistency}
    single: set[str] = set()
    for rule in (*COUNTED, "keep_within", "keep_tags"):
        if value := getattr(retention, rule):
            single |= ids(captures, Retention.model_validate({rule: value, **shared}))
    assert ids(captures, retention) == single


@given(histories, retentions, st.sampled_from(COUNTED), counts)
def test_a_higher_count_keeps_all_that_a_lower_one_keeps(
    captures: list[Candidate], retention: Retention, rule: str, count: int | str
) -> None:
    more = retention.model_copy(update={rule: count})
    old, new = (10**9 if isinstance(one, str) else int(one) for one in (getattr(retention, rule), count))
    if new >= old:
        assert ids(captures, retention) <= ids(captures, more)
    else:
        assert ids(captures, retention) >= ids(captures, more)


@given(histories, retentions)
def test_deciding_as_they_come_leaves_what_deciding_at_the_end_leaves(
    captures: list[Candidate], retention: Retention
) -> None:
    alive: list[Candidate] = []
    for one in sorted(captures, key=_age):
        alive = left([*alive, one], retention, one.at)
    assert alive == left(captures, retention)


@given(histories.filter(bool), retentions)
def test_the_newest_is_kept_by_every_rule_but_that_of_tags(captures: list[Candidate], retention: Retention) -> None:
    newest = max(captures, key=_age)
    if any(getattr(retention, rule) for rule in (*COUNTED, "keep_within")):
        assert newest.capture_id in ids(captures, retention)


@given(histories.filter(bool), retentions, st.integers(0, 60))
def test_what_is_dated_ahead_is_kept_and_changes_nothing_else(
    captures: list[Candidate], retention: Retention, which: int
) -> None:
    now = captures[which % len(captures)].at
    past = [one for one in captures if one.at <= now]
    ahead = {one.capture_id for one in captures if one.at > now}
    assert ids(captures, retention, now) == ids(past, retention, now) | ahead


def test_reasons_are_told() -> None:
    captures = [candidate(f"2026-03-0{day}T{hour:02}:00") for day in (1, 2, 3) for hour in (3, 15)]
    captures.append(candidate("2026-02-01T03:00", tags=("golden",)))
    retention = Retention(keep_last=1, keep_daily=2, keep_yearly=2, keep_within="12h", keep_tags=("golden",), utc=True)
    assert reasons(judge(captures, retention, NOW)) == {
        "2026-03-03T15:00:00+00:00": ["last", "daily 2026-03-03", "yearly 2026", "within 12h"],
        "2026-03-03T03:00:00+00:00": ["within 12h"],
        "2026-03-02T15:00:00+00:00": ["daily 2026-03-02"],
        "2026-03-02T03:00:00+00:00": [],
        "2026-03-01T15:00:00+00:00": [],
        "2026-03-01T03:00:00+00:00": [],
        "2026-02-01T03:00:00+00:00": ["oldest yearly 2026", "tag golden"],
    }


def test_periods_without_captures_are_not_counted() -> None:
    captures = [candidate(text) for text in ("2025-01-05", "2025-06-05", "2026-01-05", "2026-01-09")]
    assert kept(captures, keep_monthly=3) == [one.at for one in (captures[0], captures[1], captures[3])]


def test_a_year_of_days_with_the_usual_rules() -> None:
    captures = daily(datetime(2025, 1, 1, 3, tzinfo=UTC), 400)  # to 2026-02-04
    days = [f"{at:%m-%d}" for at in kept(captures, keep_daily=7, keep_weekly=4, keep_monthly=6)]
    assert days == [
        "09-30", "10-31", "11-30", "12-31",  # monthly
        "01-18", "01-25",  # weekly: Sundays, as weeks end
        "01-29", "01-30", "01-31", "02-01", "02-02", "02-03", "02-04",  # daily; 01-31 is January's, 02-01 a Sunday
    ]  # fmt: skip


def test_within_counts_from_the_newest_capture_and_not_from_now() -> None:
    captures = daily(datetime(2020, 1, 1, tzinfo=UTC), 10)
    assert kept(captures, keep_within="3d") == [one.at for one in captures[-4:]]


def test_one_that_proves_less_takes_no_place() -> None:
    good = [candidate(f"2026-03-0{day}T00:00") for day in (1, 3)]
    poor = [candidate(f"2026-03-0{day}T00:00", consistency=Consistency.CRASH) for day in (2, 4)]
    assert kept([*good, *poor], keep_last=1) == [poor[1].at]
    assert kept([*good, *poor], keep_last=1, min_consistency="guest") == [good[1].at, poor[1].at]
    verdicts = judge([*good, *poor], Retention(keep_last=1, min_consistency=Consistency.GUEST), NOW)
    assert reasons(verdicts)["2026-03-04T00:00:00+00:00"] == ["nothing-better"]


def test_captures_of_one_moment_are_told_apart_by_their_ids() -> None:
    captures = [candidate("2026-03-01", number=number) for number in (2, 3, 1)]
    assert ids(captures, Retention(keep_last=1)) == {captures[1].capture_id}


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"keep_last": 0, "keep_daily": 0},
        {"min_consistency": "group"},
        {"keep_last": -1},
        {"keep_last": "all"},
        {"keep_within": ""},
        {"keep_within": "3"},
        {"keep_within": "3d2w"},
        {"keep_within": "1.5d"},
        {"keep_within": "99999d"},
        {"keep_tags": ["a b"]},
        {"keep_last": 1, "series_by": ["host"]},
        {"keep_last": 1, "more": 1},
    ],
)
def test_what_is_no_retention_is_refused(wanted: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Retention.model_validate(wanted)


def test_a_retention_goes_over_the_wire() -> None:
    text = '{"keep_last": "unlimited", "keep_within": "1y6m", "keep_tags": ["golden"], "series_by": ["tags", "group"]}'
    retention = Retention.model_validate_json(text)
    assert Retention.model_validate_json(retention.model_dump_json()) == retention
