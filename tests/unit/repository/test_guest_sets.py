"""What retention keeps by mistake: each set of guests by itself, and nothing of tonight after a clock has gone back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ulid import ULID

from freezeframe.contract.retention import Retention
from freezeframe.contract.words import Consistency
from freezeframe.repository import Instant, Manifest
from freezeframe.repository.candidate import Candidate
from freezeframe.repository.series import Plan, plan

from .samples import manifest_of

FIRST = datetime(2026, 1, 1, 22, 0, tzinfo=UTC)
RULES = Retention(keep_daily=7, keep_weekly=4, utc=True)


def nightly(group: str | None) -> list[Candidate]:
    """Two years of 20 guests, of which one is replaced a week."""
    return [
        Candidate(
            capture_id=str(ULID.from_datetime(FIRST + timedelta(days=day))),
            at=FIRST + timedelta(days=day),
            guests=tuple((f"{day // 7 + number:032x}", f"g{day // 7 + number}") for number in range(20)),
            group=group,
            tags=(),
            consistency=Consistency.GUEST,
        )
        for day in range(730)
    ]


def planned(captures: list[Candidate]) -> Plan:
    return plan(captures, RULES, FIRST + timedelta(days=731))


def test_sets_of_guests_that_change_keep_everything_and_are_counted() -> None:
    made = planned(nightly(None))
    assert (len(made.kept), made.forgotten, len(made.series), made.guest_sets) == (730, [], 105, 105)


def test_a_group_is_one_series_whoever_is_in_it() -> None:
    made = planned(nightly("all"))
    assert len(made.kept) < 20
    assert (len(made.series), made.guest_sets) == (1, 0)


def test_guests_that_are_captured_apart_are_no_sets_that_overlap() -> None:
    captures = [
        Candidate(str(ULID()), FIRST, ((f"{number:032x}", f"g{number}"),), None, (), Consistency.GUEST)
        for number in range(20)
    ]
    assert planned(captures).guest_sets == 0


def captured(asked: datetime, instant: datetime, created: datetime | None = None) -> Manifest:
    return manifest_of(1).model_copy(
        update={
            "capture_id": str(ULID.from_datetime(asked)),
            "created_at": created or asked,
            "instant": Instant(at=instant),
        }
    )


@pytest.mark.case("S7")
def test_tonights_capture_stays_though_the_clock_of_its_instant_has_gone_back() -> None:
    """By its instant it is older than all, and would be the first to go."""
    captures = [Candidate.of(captured(at, at), at) for at in (FIRST + timedelta(days=day) for day in range(30))]
    tonight = FIRST + timedelta(days=30)
    one = Candidate.of(captured(tonight, FIRST - timedelta(days=400)), tonight)
    made = plan([*captures, one], Retention(keep_daily=7, utc=True), tonight + timedelta(hours=1))
    assert made.kept[0] == one.capture_id
    assert len(made.kept) == 7
    assert (one.at, one.back, one.contradicted) == (tonight, True, False)


@pytest.mark.parametrize(
    ("asked", "created", "minutes", "back"),
    [
        (0, 0, -11, True),
        (0, 0, -10, False),
        (0, 0, 5, False),
        (-60, 0, -30, False),  # only one of both contradicts it
        (0, -60, -30, False),
        (600, 0, -11, True),  # a caller's clock is ahead: the earlier of both counts
    ],
)
def test_an_instant_counts_unless_the_request_and_the_plan_are_later(
    asked: int, created: int, minutes: int, *, back: bool
) -> None:
    at = FIRST + timedelta(minutes=minutes)
    one = captured(FIRST + timedelta(minutes=asked), at, FIRST + timedelta(minutes=created))
    made = Candidate.of(one)
    assert made.back is back
    assert made.at == (FIRST if back else at)
