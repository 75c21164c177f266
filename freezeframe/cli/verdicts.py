"""What a retention makes of captures, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

from freezeframe.cli.following import consistency_text
from freezeframe.cli.output import err, out, table
from freezeframe.repository.candidate import Candidate
from freezeframe.repository.periods import Calendar
from freezeframe.repository.retention import Reason, Rule, Verdict
from freezeframe.repository.series import Plan, Series

_SAID = {
    Rule.TAG: "tag",
    Rule.NOTHING_BETTER: "nothing better is newer",
    Rule.AHEAD: "dated later than now",
}


def show_plan(plan: Plan, *, utc: bool) -> None:
    """A table for each series, newest first, with the reasons why a capture is kept."""
    calendar = Calendar.of(utc=utc)
    columns = ["id", "when (UTC)" if utc else "when (here)", "guests", "label", "tags", "verdict", "kept for"]
    for series in plan.series:
        head = f"{series.name}: {len(series.kept)} kept, {len(series.forgotten)} forgotten"
        out().print(Text(head, "bold"), soft_wrap=True)
        rows = [[*_row(one.capture, calendar), _verdict(one), _reasons(one.reasons)] for one in series.verdicts]
        out().print(table(columns, rows, whole=["id", "when (UTC)", "when (here)", "label", "verdict"]))
        out().print()


def show_named(captures: Sequence[Candidate], damaged: Iterable[str]) -> None:
    """Captures that were named to be forgotten, and the ids of those of which nothing can be read."""
    calendar = Calendar.of(utc=True)
    unreadable: list[list[str | Text]] = [[one, "–", "its manifest cannot be read", "–", "–"] for one in damaged]
    rows = [*(_row(one, calendar) for one in captures), *unreadable]
    out().print(table(["id", "when (UTC)", "guests", "label", "tags"], rows, whole=["id", "when (UTC)", "label"]))


def show_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        err().print(Text.assemble(("warning: ", "bold yellow"), warning), soft_wrap=True)


def plan_document(plan: Plan) -> list[dict[str, object]]:
    return [_series_document(one) for one in plan.series]


def _series_document(series: Series) -> dict[str, object]:
    group, guests, tags = series.common
    return {
        "name": series.name,
        "group": group or None,
        "guest_uuids": None if guests is None else sorted(guests),
        "tags": tags,
        "kept": [_verdict_document(one) for one in series.kept],
        "forgotten": [candidate_document(one.capture) for one in series.forgotten],
    }


def _verdict_document(verdict: Verdict) -> dict[str, object]:
    reasons = [{"rule": one.rule, "of": one.of or None, "oldest": one.oldest} for one in verdict.reasons]
    return {**candidate_document(verdict.capture), "reasons": reasons}


def candidate_document(capture: Candidate) -> dict[str, object]:
    return {
        "capture_id": capture.capture_id,
        "instant": capture.at,
        "group": capture.group,
        "tags": capture.tags,
        "guests": [{"guest_uuid": uuid, "name": name} for uuid, name in capture.guests],
        "consistency": capture.consistency,
    }


def _row(capture: Candidate, calendar: Calendar) -> list[str | Text]:
    return [
        capture.capture_id,
        f"{calendar.local(capture.at):%Y-%m-%d %H:%M}",
        ", ".join(capture.guest_names) or "–",
        consistency_text(capture.consistency),
        ", ".join(capture.tags) or "–",
    ]


def _verdict(verdict: Verdict) -> Text:
    return Text("keep", "green") if verdict.kept else Text("forget", "red")


def _reasons(reasons: Iterable[Reason]) -> str:
    return ", ".join(map(_reason, reasons)) or "–"


def _reason(reason: Reason) -> str:
    """`daily 2026-03-01`, `oldest (yearly)`, `tag golden`."""
    if reason.oldest:
        return f"oldest ({reason.rule})"
    return f"{_SAID.get(reason.rule, reason.rule)} {reason.of}".strip()
