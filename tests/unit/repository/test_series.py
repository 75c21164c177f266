"""Which captures are counted together, and what a retention makes of all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.contract.retention import Retention, Selection, SeriesKey
from freezeframe.repository.candidate import Candidate
from freezeframe.repository.retention import judge
from freezeframe.repository.series import guests_without, plan

from .candidates import NOW, candidate, histories, retentions, series_keys
from .samples import GUEST, disk_capture, manifest_of

SHOP = candidate("2026-03-01", number=1, group="shop", guests=("db1", "web"), tags=("nightly",))
SHOP_WITHOUT_WEB = candidate("2026-03-02", number=2, group="shop", guests=("db1",))
DB1 = candidate("2026-03-03", number=3, group=None, guests=("db1",), tags=("nightly",))
BOTH = candidate("2026-03-04", number=4, group=None, guests=("web", "db1"))
BOTH_AGAIN = candidate("2026-03-05", number=5, group=None, guests=("db1", "web"), tags=("nightly",))
ALL = [SHOP, SHOP_WITHOUT_WEB, DB1, BOTH, BOTH_AGAIN]


def told_apart(keys: list[str] | None) -> dict[str, list[int]]:
    retention = Retention.model_validate({"keep_last": 1, "series_by": keys})
    return {
        series.name: [int(one.capture.capture_id[-3:]) for one in series.verdicts]
        for series in plan(ALL, retention, NOW).series
    }


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (None, {"guests db1, web": [5, 4], "guest db1": [3], "group shop": [2, 1]}),
        (["group"], {"no group": [5, 4, 3], "group shop": [2, 1]}),
        (["guests"], {"guests db1, web": [5, 4, 1], "guest db1": [3, 2]}),
        (["tags"], {"tags nightly": [5, 3, 1], "no tags": [4, 2]}),
        ([], {"all captures": [5, 4, 3, 2, 1]}),
        (
            ["guests", "group"],
            {
                "no group, guests db1, web": [5, 4],
                "no group, guest db1": [3],
                "group shop, guest db1": [2],
                "group shop, guests db1, web": [1],
            },
        ),
    ],
)
def test_by_what_captures_are_told_apart(keys: list[str] | None, wanted: dict[str, list[int]]) -> None:
    assert told_apart(keys) == wanted


def test_captures_without_a_guest_are_a_series_that_says_so() -> None:
    nobody = candidate("2026-03-06", number=6, group=None, guests=())
    assert [one.name for one in plan([nobody, DB1], Retention(keep_last=1), NOW).series] == ["no guests", "guest db1"]


@given(histories, histories, retentions, series_keys)
def test_each_series_is_judged_by_itself(
    one: list[Candidate], two: list[Candidate], retention: Retention, keys: frozenset[SeriesKey] | None
) -> None:
    captures = [*one, *(candidate(c.at, number=1000 + n, group="other", guests=("x",)) for n, c in enumerate(two))]
    made = plan(captures, retention.model_copy(update={"series_by": keys}), NOW)
    assert sorted([*made.kept, *made.forgotten]) == sorted(c.capture_id for c in captures)
    for series in made.series:
        assert list(series.verdicts) == judge([verdict.capture for verdict in series.verdicts], retention, NOW)


@given(st.lists(st.sampled_from(ALL), unique=True))
def test_nothing_is_emptied_by_rules_that_count(captures: list[Candidate]) -> None:
    assert plan(captures, Retention(keep_last=1), NOW).emptied == []
    assert plan([], Retention(keep_tags=("none",)), NOW).emptied == []


def test_a_rule_of_tags_alone_may_empty_a_series() -> None:
    made = plan(ALL, Retention(keep_tags=("nightly",), series_by=frozenset({SeriesKey.GUESTS, SeriesKey.GROUP})), NOW)
    assert [one.name for one in made.emptied] == ["group shop, guest db1"]


def test_guests_of_which_nothing_would_be_left_are_named() -> None:
    assert guests_without(ALL, {one.capture_id for one in (SHOP, BOTH, BOTH_AGAIN)}) == {"uuid-web": "web"}
    assert guests_without(ALL, {SHOP.capture_id}) == {}
    assert guests_without(ALL, set()) == {}


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"guests": ["web"]}, [1, 4, 5]),
        ({"guests": ["uuid-web", "nobody"]}, [1, 4, 5]),
        ({"groups": ["shop", "other"]}, [1, 2]),
        ({"tags": [["nightly"]], "guests": ["web"]}, [1, 5]),
        ({"tags": [["nightly", "keep"]]}, []),
        ({"tags": [["nightly", "keep"], ["nightly"]]}, [1, 3, 5]),
    ],
)
def test_selections(selection: dict[str, object], numbers: list[int]) -> None:
    wanted = Selection.model_validate(selection)
    assert [int(one.capture_id[-3:]) for one in ALL if one.selected_by(wanted)] == numbers


def test_every_guest_has_any_guest() -> None:
    assert Selection(guests=("db1",)).has(None, None, ())
    assert not Selection(groups=("shop",)).has(None, None, ())


def test_a_candidate_is_what_its_manifest_says() -> None:
    manifest = manifest_of(7, disk_capture("ab" * 32, 4096)).model_copy(update={"tags": ("b", "a", "b")})
    found = Candidate.of(manifest)
    assert (found.capture_id, found.at) == (manifest.capture_id, manifest.instant.at)
    assert (found.guests, found.group, found.tags) == (((GUEST, "db1"),), "shop", ("a", "b"))
    assert found.consistency == manifest.consistency
