"""Who may begin, and who waits for a place, in which order: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.line import Entry, Limits, Shared, read_entry, rivals, waiting

IDS = [f"01KAAAAAAAAAAAAAAAAAAAAA{number:02d}" for number in range(60)]
LIMITS = Limits(in_all=3, on_a_host=2)
NO_LIMITS = Limits(in_all=1000, on_a_host=1000)


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


@dataclass(frozen=True)
class Asked:
    """A run, with the guests that it wants."""

    entry: Entry
    guests: frozenset[int]


def entry(hosts: str, *guests: int, admitted: bool = False, patient: bool = False) -> Asked:
    return Asked(
        Entry(admitted=admitted, hosts=tuple(hosts), waits_for_guests=patient),
        frozenset(guests),
    )


def board(asked: Mapping[str, Asked]) -> dict[str, Entry]:
    """Return the entries, of which each has found those that were put before: in the order of the mapping."""
    entries: dict[str, Entry] = {}
    for one, what in asked.items():
        both = {other: what.guests & asked[other].guests for other in entries}
        shares = {other: Shared(guest=f"g{min(guests)}", changes=0) for other, guests in both.items() if guests}
        entries[one] = what.entry.model_copy(update={"shares": shares})
    return entries


def lines(*asked: Asked, limits: Limits = LIMITS, backwards: bool = False) -> dict[int, tuple[int, str]]:
    put = dict(zip(IDS, asked, strict=False))
    found = waiting(board(dict(reversed(put.items())) if backwards else put), limits)
    return {IDS.index(one): (queued.place, queued.why) for one, queued in found.items()}


def test_a_host_has_so_many_captures_and_the_next_ones_wait_in_the_order_of_their_ids() -> None:
    one = entry("a")
    assert lines(one, one, one, one, limits=Limits(100, 2)) == {
        2: (1, "on host a 2 captures are at work, and 2 may be at once"),
        3: (2, "on host a 2 captures are at work and 1 waits before it, and 2 may be at once"),
    }


def test_those_that_are_at_work_keep_their_places_whatever_their_ids() -> None:
    """The settings may have been lowered since, too."""
    at_work = entry("a", admitted=True)
    assert lines(entry("a"), at_work, at_work, at_work, limits=Limits(100, 2)).keys() == {0}


def test_the_datacenter_has_so_many() -> None:
    assert lines(entry("a"), entry("b"), entry("c"), entry("d"))[3] == (
        1,
        "3 captures are at work, and 3 may be at once",
    )


def test_other_hosts_captures_pass_one_that_waits() -> None:
    found = lines(entry("a"), entry("a"), entry("a"), entry("b"), limits=Limits(100, 2))
    assert found.keys() == {2}


def test_one_of_many_hosts_is_not_overtaken_for_ever() -> None:
    """It waits for host a; on host b, of which it needs a place too, one that comes later takes the other place only."""
    busy, both, small = entry("a", admitted=True), entry("ab"), entry("b")
    assert lines(busy, busy, both, small, small, limits=Limits(100, 2)) == {
        2: (1, "on host a 2 captures are at work, and 2 may be at once"),
        4: (2, "on host b 1 capture is at work and 1 waits before it, and 2 may be at once"),
    }


def test_a_guest_in_another_capture_is_waited_for_if_that_was_asked_for() -> None:
    holder = entry("a", 1, admitted=True)
    assert lines(holder, entry("b", 1, 2, patient=True), limits=NO_LIMITS) == {
        1: (1, f"guest g1 is in capture {IDS[0]}, which is at work")
    }
    assert lines(holder, entry("b", 1, 2), limits=NO_LIMITS) == {}  # it is refused


def test_captures_of_one_guest_are_made_in_the_order_of_their_ids() -> None:
    """Also if the later one would find a place at once: it would be the newest, and show what is older."""
    full = entry("a", admitted=True)
    found = lines(full, full, entry("ab", 7), entry("b", 7, patient=True), limits=Limits(100, 2))
    assert found[3] == (2, f"guest g7 is in capture {IDS[2]}, which was asked for before and waits too")


def test_what_waits_for_one_host_keeps_nobody_from_others() -> None:
    """With four at work and 96 in line on host a, host b is free."""
    many = [entry("a", admitted=True)] * 4 + [entry("a")] * 40
    assert 44 not in lines(*many, entry("b"), limits=Limits(40, 4))


def test_what_waits_for_a_guest_keeps_nobody_from_its_host() -> None:
    holder, hourly = entry("a", 1, admitted=True), entry("a", 1, patient=True)
    assert lines(holder, hourly, hourly, hourly, entry("a", 2), limits=Limits(100, 4)).keys() == {1, 2, 3}


@pytest.mark.parametrize("backwards", [True, False])
def test_it_is_the_same_whichever_of_the_two_has_found_the_other(*, backwards: bool) -> None:
    entries = entry("a", 1, admitted=True), entry("a", 1, 2, patient=True), entry("b", 2, patient=True)
    assert lines(*entries, limits=NO_LIMITS, backwards=backwards) == {
        1: (1, f"guest g1 is in capture {IDS[0]}, which is at work"),
        2: (2, f"guest g2 is in capture {IDS[1]}, which was asked for before and waits too"),
    }


def test_what_was_found_counts_while_the_other_wants_the_guests_of_then() -> None:
    """Its entry says anew then which runs want one of those that it still wants."""
    entries = board(dict(zip(IDS, [entry("a", 1, 2, admitted=True), entry("a", 1, patient=True)], strict=False)))
    entries[IDS[0]] = entries[IDS[0]].model_copy(update={"changes": 1})
    assert waiting(entries, NO_LIMITS) == {}
    entries[IDS[0]] = entries[IDS[0]].model_copy(update={"shares": {IDS[1]: Shared(guest="g1", changes=0)}})
    assert waiting(entries, NO_LIMITS).keys() == {IDS[1]}


def test_rivals_are_those_that_have_a_guest_or_get_it_before() -> None:
    entries = {one: entry("a").entry for one in IDS[:5]}
    wanted = {uuid(1): (IDS[0],), uuid(2): (IDS[4], IDS[1]), uuid(3): (IDS[3], IDS[4]), uuid(4): (IDS[9],)}
    assert rivals(entries, IDS[2], wanted) == {uuid(1): IDS[0], uuid(2): IDS[1]}
    entries[IDS[4]] = entry("b", admitted=True).entry
    assert rivals(entries, IDS[2], wanted)[uuid(3)] == IDS[4]


# Entries of other versions: unreadable is not absent.


def newer(**fields: object) -> str:
    return json.dumps({"v": 2, "admitted": True, "hosts": ["a"], "priority": "high", **fields})


@pytest.mark.parametrize(
    ("text", "on_a", "on_b"),
    [
        (newer(), 1, 0),
        (newer(v=1), 1, 0),
        (newer(admitted="since noon"), 1, 0),
        (newer(shares=["x"]), 1, 0),
        ('{"admitted": true, "hosts": ["a"], "guests": {"00000000-0000-4000-8000-000000000001": "g1"}, "v": 1}', 1, 0),
        (newer(hosts={"a": 1}), 1, 1),
        (newer(hosts=["a", 7]), 1, 1),
        ('{"v": 2}', 1, 1),
        ("[]", 1, 1),
        ("not JSON", 1, 1),
        ("[" * 100_000, 1, 1),
        ("", 1, 1),
    ],
)
def test_an_entry_that_is_not_understood_has_its_places(text: str, on_a: int, on_b: int) -> None:
    # it has begun, whatever its id
    entries = {IDS[9]: read_entry(text), IDS[1]: entry("a").entry, IDS[2]: entry("b").entry}
    found = waiting(entries, Limits(100, 1))
    assert found.keys() == {IDS[number] for number, taken in ((1, on_a), (2, on_b)) if taken}
    assert waiting(entries, Limits(1, 100)).keys() == {IDS[1], IDS[2]}  # and one of those in all
    if on_b:
        assert "(1 by a newer orchestrator, which this one cannot read and counts on each host)" in found[IDS[1]].why


def test_one_that_waits_by_a_newer_orchestrator_stands_in_line() -> None:
    entries = {
        IDS[0]: entry("a", admitted=True).entry,
        IDS[1]: read_entry(newer(admitted=False)),
        IDS[2]: entry("a").entry,
    }
    found = waiting(entries, Limits(100, 1))
    assert [(one, queued.place) for one, queued in found.items()] == [(IDS[1], 1), (IDS[2], 2)]


@pytest.mark.parametrize("limits", [Limits(100, 1), Limits(100, 2), Limits(1, 9), Limits(2, 9)])
def test_by_whatever_limits_the_oldest_comes_first(limits: Limits) -> None:
    """Two orchestrators may have different ones: by those of each a run that waits is passed by none that needs its place."""
    found = lines(entry("a", admitted=True), *[entry("a")] * 4, limits=limits)
    assert list(found) == list(range(min(limits.in_all, limits.on_a_host), 5))
    assert [place for place, _ in found.values()] == list(range(1, len(found) + 1))


ENTRIES = st.lists(
    st.builds(
        lambda hosts, guests, admitted, patient: entry(
            "".join(sorted(hosts)), *sorted(guests), admitted=admitted, patient=patient
        ),
        st.sets(st.sampled_from("abcd"), min_size=1),
        st.sets(st.integers(0, 5), min_size=1),
        st.booleans(),
        st.booleans(),
    ),
    max_size=20,
)


@given(ENTRIES, st.integers(1, 6), st.integers(1, 4))
def test_no_place_is_given_twice_and_everybody_comes_to_his_turn(
    asked: list[Asked], in_all: int, on_a_host: int
) -> None:
    limits = Limits(in_all, on_a_host)
    now = dict(zip(IDS, asked, strict=False))
    before = {one for one, what in now.items() if what.entry.admitted}
    order: list[str] = []
    while now:
        found = waiting(board(now), limits)
        assert sorted(queued.place for queued in found.values()) == list(range(1, len(found) + 1))
        begins = {one for one, what in now.items() if not what.entry.admitted and one not in found}
        at_work = {one for one, what in now.items() if what.entry.admitted} | begins
        if begins:
            assert len(at_work) <= in_all
            for host in {host for one in begins for host in now[one].entry.hosts}:
                assert sum(host in now[one].entry.hosts for one in at_work) <= on_a_host
        for one in begins & {one for one, what in now.items() if what.entry.waits_for_guests}:
            # of those that come later only some that are refused it have such a guest
            others = {other for other in at_work if now[other].entry.admitted or other < one}
            assert not any(now[one].guests & now[other].guests for other in others)
        for one in found:  # nobody waits for a place that is free and that no older one waits for
            older = {other: now[other] for other in now if now[other].entry.admitted or other < one}
            alone = all(not now[one].guests & other.guests for other in older.values())
            free = all(
                sum(host in other.entry.hosts for other in older.values()) < on_a_host for host in now[one].entry.hosts
            )
            assert not (alone and free and len(at_work) < in_all)
        order += sorted(begins)
        assert at_work, "nobody is at work, and somebody waits"
        for one in begins:
            now[one] = Asked(now[one].entry.model_copy(update={"admitted": True}), now[one].guests)
        del now[min(at_work)]  # it ends
    assert sorted([*before, *order]) == list(IDS[: len(asked)])
