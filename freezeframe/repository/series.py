"""Series: the captures among which rules count. By default those of one group; of a capture without a group, those of the same
set of guests. So each group keeps its own seven days, whatever the others do.

A capture that did without a guest (policy `degrade`) is in its group's series like the others. Without a group, or with
`guests` among the keys, it is in a series of its own, since its set of guests is another.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from freezeframe.contract.retention import SeriesKey
from freezeframe.repository.retention import RANK, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from freezeframe.contract.retention import Retention
    from freezeframe.contract.words import Consistency
    from freezeframe.repository.candidate import Candidate


class Common(NamedTuple):
    """What all captures of a series have in common; None where they were not told apart by it. No group is an empty one."""

    group: str | None = None
    guests: frozenset[str] | None = None  # UUIDs
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Series:
    """A series, and what becomes of each of its captures, newest first."""

    common: Common
    verdicts: tuple[Verdict, ...]

    @property
    def kept(self) -> list[Verdict]:
        return [one for one in self.verdicts if one.kept]

    @property
    def forgotten(self) -> list[Verdict]:
        return [one for one in self.verdicts if not one.kept]

    @property
    def label_lost(self) -> Consistency | None:
        """The best label of what is forgotten, if nothing that is kept has it or a better one."""
        best, left = _best(self.forgotten), _best(self.kept)
        return best if best is not None and left is not None and RANK[best] < RANK[left] else None

    @property
    def name(self) -> str:
        """`group shop`, `guests db1, web`, `group shop, tags nightly`; guests by the names they had last."""
        group, guests, tags = self.common
        parts = []
        if group is not None:
            parts.append(f"group {group}" if group else "no group")
        if guests is not None:
            names = self.verdicts[0].capture.guest_names
            parts.append(f"guest{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else "no guests")
        if tags is not None:
            parts.append(f"tags {', '.join(tags)}" if tags else "no tags")
        return ", ".join(parts) or "all captures"


def _best(verdicts: Iterable[Verdict]) -> Consistency | None:
    return min((one.capture.consistency for one in verdicts), key=RANK.__getitem__, default=None)


@dataclass(frozen=True)
class Plan:
    """What a retention makes of captures."""

    series: tuple[Series, ...]

    @property
    def forgotten(self) -> list[str]:
        """The ids of captures that no rule keeps."""
        return [one.capture.capture_id for series in self.series for one in series.forgotten]

    @property
    def kept(self) -> list[str]:
        return [one.capture.capture_id for series in self.series for one in series.kept]

    @property
    def guest_sets(self) -> int:
        """Return how many series are apart only because their captures are of other sets of guests, which overlap."""
        sets = [one.common.guests for one in self.series if one.common.guests]
        counts = Counter(guest for guests in sets for guest in guests)
        return sum(any(counts[guest] > 1 for guest in guests) for guests in sets)

    @property
    def emptied(self) -> list[Series]:
        """Series of which nothing would be left."""
        return [one for one in self.series if not one.kept]


def plan(captures: Iterable[Candidate], retention: Retention, now: datetime) -> Plan:
    """Which captures are kept, series by series, that with the newest capture first. `captures` may be in any order."""
    found: dict[Common, list[Candidate]] = {}
    for one in captures:
        found.setdefault(_common(one, retention.series_by), []).append(one)
    series = [Series(common, tuple(judge(ones, retention, now))) for common, ones in found.items()]
    return Plan(tuple(sorted(series, key=_newest, reverse=True)))


def _common(capture: Candidate, keys: Collection[SeriesKey] | None) -> Common:
    if keys is None:
        keys = {SeriesKey.GUESTS if capture.group is None else SeriesKey.GROUP}
    return Common(
        group=(capture.group or "") if SeriesKey.GROUP in keys else None,
        guests=frozenset(uuid for uuid, _ in capture.guests) if SeriesKey.GUESTS in keys else None,
        tags=capture.tags if SeriesKey.TAGS in keys else None,
    )


def _newest(series: Series) -> tuple[datetime, str]:
    newest = series.verdicts[0].capture
    return newest.at, newest.capture_id


def guests_without(captures: Iterable[Candidate], forgotten: Collection[str]) -> dict[str, str]:
    """Guests, names by UUID, that are in one of these captures now and in none once those are forgotten."""
    before: dict[str, str] = {}
    after: set[str] = set()
    for one in captures:
        if one.capture_id in forgotten:
            before.update(one.guests)
        else:
            after.update(uuid for uuid, _ in one.guests)
    return {uuid: name for uuid, name in before.items() if uuid not in after}
