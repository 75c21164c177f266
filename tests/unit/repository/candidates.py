"""Captures to decide about, by when they were; and rules to decide by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from ulid import ULID

from freezeframe.contract.retention import Retention, SeriesKey
from freezeframe.contract.words import Consistency
from freezeframe.repository.candidate import Candidate
from freezeframe.repository.retention import Verdict, judge

#: Later than every capture that is not meant to be ahead.
NOW = datetime(2030, 1, 1, tzinfo=UTC)
TAGS = ("keep", "nightly")


def candidate(
    at: datetime | str,
    *,
    number: int = 0,
    tags: tuple[str, ...] = (),
    consistency: Consistency = Consistency.GROUP,
    group: str | None = "shop",
    guests: tuple[str, ...] = ("db1",),
) -> Candidate:
    """Of a moment, or an ISO text that is UTC if it says no other. `number` tells those of one moment apart."""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    wanted_id = str(ULID.from_timestamp(moment.timestamp()))[:10] + f"{number:016d}"
    return Candidate(wanted_id, moment, tuple((f"uuid-{name}", name) for name in guests), group, tags, consistency)


def kept(captures: list[Candidate], now: datetime = NOW, **rules: object) -> list[datetime]:
    """The instants of what is kept, oldest first."""
    verdicts = judge(captures, Retention.model_validate({"utc": True, **rules}), now)
    return sorted(one.capture.at for one in verdicts if one.kept)


def reasons(verdicts: list[Verdict]) -> dict[str, list[str]]:
    """By the capture's instant, newest first: `daily 2026-03-01`, `oldest yearly 2026`."""
    return {
        one.capture.at.isoformat(): [
            " ".join(["oldest"] * reason.oldest + [reason.rule] + [reason.of] * bool(reason.of))
            for reason in one.reasons
        ]
        for one in verdicts
    }


def daily(first: datetime, days: int) -> list[Candidate]:
    return [candidate(first + timedelta(days=day), number=day) for day in range(days)]


def _candidates(moments: list[tuple[int, tuple[str, ...], Consistency]]) -> list[Candidate]:
    first = datetime(2023, 12, 20, tzinfo=UTC)
    return [
        candidate(first + timedelta(minutes=minutes), number=number, tags=tags, consistency=consistency)
        for number, (minutes, tags, consistency) in enumerate(moments)
    ]


_MINUTES = st.one_of(st.integers(0, 60 * 24 * 3), st.integers(0, 60 * 24 * 800))
_MOMENT = st.tuples(_MINUTES, st.sampled_from([(), ("keep",), TAGS]), st.sampled_from(Consistency))

#: Of some days or some years, dense enough that several share an hour, in any order.
histories = st.lists(_MOMENT, max_size=60).map(_candidates)

counts = st.one_of(st.integers(0, 5), st.just("unlimited"))
COUNTED = ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")
spans = st.sampled_from(["1h", "36h", "2d", "1w", "1m", "1m3d", "1y6m"])

rules = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(COUNTED, counts),
        "keep_within": spans,
        "keep_tags": st.sampled_from([("keep",), ("nightly", "keep"), ("none",)]),
        "min_consistency": st.sampled_from(Consistency),
    },
)


def _is_valid(wanted: dict[str, object]) -> bool:
    return any(value for name, value in wanted.items() if name != "min_consistency")


#: Rules of all kinds, of which at least one keeps something; UTC's calendar.
retentions = rules.filter(_is_valid).map(lambda wanted: Retention.model_validate({"utc": True, **wanted}))
series_keys = st.none() | st.frozensets(st.sampled_from(SeriesKey))
