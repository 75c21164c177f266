"""Calendars: summer time, the turn of the year, and lengths of time counted back. Zones are written out, so that no machine's
zone files are needed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.contract.retention import Retention
from freezeframe.repository.periods import Calendar, Period
from freezeframe.repository.retention import judge

from .candidates import NOW, candidate

#: Clocks go forward on 2026-03-29 at 02:00 and back on 2026-10-25 at 03:00.
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
#: Clocks go back by half an hour on 2026-04-05 at 02:00.
LORD_HOWE = "LHST-10:30LHDT-11,M10.1.0,M4.1.0"
KIRITIMATI = "LINT-14"
MODERN = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
ANYTIME = st.datetimes(
    timezones=st.just(UTC) | st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
)


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The zone of this machine, for a while."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield str(request.param)
    time.tzset()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def kept_of(moments: list[str], **rules: object) -> list[str]:
    """Of captures of these moments (UTC), by the calendar of the machine."""
    captures = [candidate(at(one)) for one in moments]
    verdicts = judge(captures, Retention.model_validate(rules), NOW)
    return [f"{one.capture.at:%Y-%m-%dT%H:%M}" for one in reversed(verdicts) if one.kept]


@pytest.mark.parametrize("zone", [BERLIN], indirect=True)
def test_a_day_is_that_of_the_machines_zone(zone: str) -> None:
    moments = ["2026-07-01T21:30", "2026-07-01T22:30", "2026-07-02T21:30"]
    assert kept_of(moments, keep_daily=1) == ["2026-07-02T21:30"]
    assert kept_of(moments, keep_daily=2) == ["2026-07-01T21:30", "2026-07-02T21:30"]
    assert kept_of(moments, keep_daily=2, utc=True) == ["2026-07-01T22:30", "2026-07-02T21:30"]


@pytest.mark.parametrize("zone", [BERLIN], indirect=True)
def test_the_hour_that_comes_twice_in_autumn_is_two(zone: str) -> None:
    moments = [f"2026-10-{day}T{hour:02}:30" for day, hour in (("24", 23), ("25", 0), ("25", 1), ("25", 2))]
    assert [Calendar().name(Period.HOURLY, at(one)) for one in moments] == [
        "2026-10-25 01:00+0200",
        "2026-10-25 02:00+0200",
        "2026-10-25 02:00+0100",
        "2026-10-25 03:00+0100",
    ]
    assert kept_of(moments, keep_hourly=4) == moments
    assert {Calendar().name(Period.DAILY, at(one)) for one in moments} == {"2026-10-25"}


@pytest.mark.parametrize("zone", [LORD_HOWE], indirect=True)
def test_a_zone_that_shifts_by_half_an_hour(zone: str) -> None:
    names = [Calendar().name(Period.HOURLY, at("2026-04-04T14:35") + timedelta(minutes=20 * n)) for n in range(4)]
    assert names == [f"2026-04-05 01:00{offset}" for offset in ("+1100", "+1100", "+1030")] + ["2026-04-05 02:00+1030"]


@pytest.mark.parametrize("zone", [BERLIN], indirect=True)
@pytest.mark.parametrize(
    ("moment", "span", "there"),
    [
        ("2026-03-29T12:00", "1d", "2026-03-28T13:00"),  # 14:00 by the clock, a day of 23 hours
        ("2026-03-29T12:00", "24h", "2026-03-28T12:00"),
        ("2026-10-25T12:00", "1d", "2026-10-24T11:00"),  # a day of 25
        ("2026-10-25T12:00", "1d1h", "2026-10-24T10:00"),
        ("2026-07-15T12:00", "6m", "2026-01-15T13:00"),
    ],
)
def test_days_are_those_of_the_calendar_and_hours_are_not(zone: str, moment: str, span: str, there: str) -> None:
    assert Calendar().earlier(at(moment), span) == at(there)


@pytest.mark.parametrize("zone", [BERLIN], indirect=True)
def test_the_calendar_of_utc_does_not_go_by_the_machine_s_zone(zone: str) -> None:
    assert Calendar(UTC).earlier(at("2026-07-15T12:00"), "1d") == at("2026-07-14T12:00")
    assert Calendar(UTC).earlier(at("2026-03-30T02:30"), "1d") == at("2026-03-29T02:30")


def test_a_span_that_reaches_behind_1971_reaches_back_for_ever() -> None:
    """No capture is that old, and C libraries differ about such times."""
    assert Calendar(UTC).earlier(at("2021-06-01T00:00"), "50y") == at("1971-06-01T00:00")
    assert Calendar(UTC).earlier(at("2021-06-01T00:00"), "51y") == datetime.min.replace(tzinfo=UTC)


@pytest.mark.parametrize("zone", [BERLIN], indirect=True)
def test_a_time_that_the_earlier_day_does_not_have_is_one_of_its_neighbours(zone: str) -> None:
    found = Calendar().earlier(at("2026-03-30T00:30"), "1d")  # from 02:30 to 02:30 by the clock
    assert found in {at("2026-03-29T00:30"), at("2026-03-29T01:30")}  # 01:30 or 03:30


@pytest.mark.parametrize("zone", [KIRITIMATI], indirect=True)
def test_a_zone_far_from_utc_at_the_turn_of_the_year(zone: str) -> None:
    moments = ["2025-12-31T09:30", "2025-12-31T10:30"]
    assert [Calendar().name(Period.YEARLY, at(one)) for one in moments] == ["2025", "2026"]
    assert kept_of(moments, keep_yearly=2) == moments


@pytest.mark.parametrize(
    ("day", "week"),
    [
        ("2026-12-31", "2026-W53"),
        ("2027-01-01", "2026-W53"),
        ("2027-01-03", "2026-W53"),
        ("2027-01-04", "2027-W01"),
        ("2024-12-29", "2024-W52"),
        ("2024-12-30", "2025-W01"),
        ("2025-01-01", "2025-W01"),
    ],
)
def test_a_week_at_the_turn_of_the_year_is_one(day: str, week: str) -> None:
    assert Calendar(UTC).name(Period.WEEKLY, at(day)) == week


def test_the_week_of_the_turn_of_the_year_is_counted_once() -> None:
    days = ["2026-12-27T00:00", "2026-12-28T00:00", "2026-12-31T00:00", "2027-01-02T00:00", "2027-01-04T00:00"]
    assert kept_of(days, keep_weekly=3, utc=True) == [days[0], days[3], days[4]]


@pytest.mark.parametrize(
    ("moment", "span", "there"),
    [
        ("2026-03-28T10:00", "1m", "2026-02-28T10:00"),
        ("2026-03-29T10:00", "1m", "2026-03-01T00:00"),
        ("2026-03-31T10:00", "1m", "2026-03-01T00:00"),
        ("2026-04-01T10:00", "1m", "2026-03-01T10:00"),
        ("2024-02-29T10:00", "1y", "2023-03-01T00:00"),
        ("2026-12-31T10:00", "1m", "2026-12-01T00:00"),
        ("2026-01-31T10:00", "2m", "2025-12-01T00:00"),
        ("2026-01-15T10:00", "1y1m1w1d1h", "2024-12-07T09:00"),
    ],
)
def test_months_and_years_back(moment: str, span: str, there: str) -> None:
    assert Calendar(UTC).earlier(at(moment), span) == at(there)


@given(ANYTIME, ANYTIME, st.integers(0, 50), st.integers(0, 50), st.integers(0, 100))
def test_a_later_moment_reaches_no_further_back(
    one: datetime, two: datetime, years: int, months: int, days: int
) -> None:
    span = f"{years}y{months}m{days}d"
    first, second = sorted([one, two])
    calendar = Calendar(UTC)
    assert calendar.earlier(first, span) <= calendar.earlier(second, span) <= second


@given(moment=ANYTIME, period=st.sampled_from(Period), utc=st.booleans())
def test_every_moment_has_a_name_in_every_calendar(moment: datetime, period: Period, *, utc: bool) -> None:
    assert Calendar.of(utc=utc).name(period, moment)
    assert Calendar.of(utc=utc).earlier(moment, "9999y9999m9999w9999d9999h") <= moment


@given(MODERN, st.sampled_from(Period))
def test_the_names_of_utc_go_with_time(moment: datetime, period: Period) -> None:
    calendar = Calendar(UTC)
    later = moment + timedelta(days=1, hours=1)
    assert calendar.name(period, moment) <= calendar.name(period, later)
