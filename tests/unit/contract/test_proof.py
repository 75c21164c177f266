"""The label follows from the proof, and from nothing less than all of it (invariant 2: all, or labelled)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.contract.clock import ClockReading
from freezeframe.contract.doubts import doubts
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.proof import (
    Arrival,
    GuestProof,
    HostProof,
    Proof,
    consistency,
    failures,
    guest_consistency,
    shortcomings,
)
from freezeframe.contract.words import Consistency, HoldKind

FREEZE = GuestHold(kind=HoldKind.FREEZE)
ALPHA = "00000000-0000-4000-8000-00000000000a"
BETA = "00000000-0000-4000-8000-00000000000b"


def guest(guest_uuid: str, **changes: Any) -> GuestProof:
    steps = {
        "guest_uuid": guest_uuid,
        "hold": FREEZE,
        "frozen_filesystems": 2,
        "hold_start_ns": 1_000_000,
        "held_ns": 2_000_000,
        "begun_ns": 3_000_000,
        "thaw_start_ns": 6_000_000,
        "thawed_ns": 7_000_000,
    }
    return GuestProof.model_validate(steps | changes)


def host(host_id: str, *guests: GuestProof, **changes: Any) -> HostProof:
    seen = {"host_id": host_id, "boot_id": "b", "report_ns": 4_000_000, "woken_ns": 5_000_000, "guests": guests}
    return HostProof.model_validate(seen | changes)


def proof(*hosts: HostProof, **changes: Any) -> Proof:
    whole = {
        "epoch": 1,
        "members": ("a", "b"),
        "arrivals": (Arrival(host_id="b", redis_us=10), Arrival(host_id="a", redis_us=20)),
        "release_us": 20,
        "release_arrivals": 2,
        "hosts": hosts or (host("a", guest(ALPHA)), host("b", guest(BETA))),
    }
    return Proof.model_validate(whole | changes)


def test_one_instant_is_proven_when_every_thaw_follows_every_begin() -> None:
    assert shortcomings(proof()) == []
    assert consistency(proof()) is Consistency.GROUP


def test_the_clocks_of_two_hosts_are_never_compared() -> None:
    """Host b's monotonic clock is years away from host a's; nothing about the proof changes."""
    far = 10**18
    steps = ("hold_start_ns", "held_ns", "begun_ns", "thaw_start_ns", "thawed_ns")
    late = guest(BETA, **{step: far + number for number, step in enumerate(steps)})
    shifted = host("b", late, report_ns=far + 2, woken_ns=far + 3)
    assert consistency(proof(host("a", guest(ALPHA)), shifted)) is Consistency.GROUP


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (proof(release_us=None), "never released"),
        (proof(release_arrivals=1), "before the last host reported"),
        (proof(arrivals=(Arrival(host_id="a", redis_us=20),)), "host b never reported"),
        (proof(host("a", guest(ALPHA))), "host b left no record"),
        (proof(host("a", guest(ALPHA)), arrivals=(Arrival(host_id="a", redis_us=20),)), "host b left no record"),
        (proof(members=("a",)), "host b is no member"),
        (proof(host("a", guest(ALPHA)), host("b", guest(BETA), woken_ns=None)), "host b was not told"),
        (
            proof(host("a", guest(ALPHA), woken_ns=3_999_999), host("b", guest(BETA))),
            "host a was told of the release before",
        ),
        (proof(host("a", guest(ALPHA)), host("b", guest(BETA, begun_ns=4_500_000))), "after host b reported"),
        (proof(host("a", guest(ALPHA)), host("b", guest(BETA, thaw_start_ns=4_500_000))), "before host b was told"),
    ],
)
def test_without_one_link_of_the_chain_there_is_no_group_but_guests_keep_their_own(broken: Proof, says: str) -> None:
    assert says in " ".join(shortcomings(broken))
    assert consistency(broken) is Consistency.GUEST


@pytest.mark.parametrize(
    "lost",
    [
        guest(BETA, cut_short="the thaw guard let it go"),
        guest(BETA, held_ns=None),
        guest(BETA, begun_ns=None),
        guest(BETA, begun_ns=1_500_000),  # began before it was held
        guest(BETA, thaw_start_ns=2_500_000),  # was let go before it began
        guest(BETA, hold=GuestHold(kind=HoldKind.NONE)),
        guest(BETA, frozen_filesystems=0),  # the agent froze, and had nothing to freeze
        guest(BETA, frozen_filesystems=1, hold=GuestHold(kind=HoldKind.FREEZE, mountpoints=("/a", "/b"))),
        guest(BETA, moving_disks=("vdb",)),
        guest(BETA, frozen_filesystems=1, expected_filesystems=2),  # one could not be frozen, or was unmounted
    ],
)
def test_a_guest_that_was_not_still_is_crash_consistent_and_so_is_the_whole(lost: GuestProof) -> None:
    whole = proof(host("a", guest(ALPHA)), host("b", lost))
    assert consistency(whole) is Consistency.CRASH
    assert guest_consistency(shortcomings(whole), lost) is Consistency.CRASH
    assert guest_consistency(shortcomings(whole), guest(ALPHA)) is Consistency.GUEST


def test_a_host_without_guests_is_a_link_of_the_chain_like_any_other() -> None:
    """Under `degrade` it has met the others although none of its guests took part."""
    assert consistency(proof(host("a", guest(ALPHA)), host("b"))) is Consistency.GROUP
    untold = proof(host("a", guest(ALPHA)), host("b", woken_ns=None))
    assert consistency(untold) is Consistency.GUEST
    assert failures(untold) == shortcomings(untold)


def test_the_hold_window_lasts_until_the_guest_has_confirmed() -> None:
    assert guest(ALPHA).hold_ms == pytest.approx(6.0)
    assert guest(ALPHA, thawed_ns=None).hold_ms is None


def test_mount_points_that_reach_every_disk_are_as_good_as_all() -> None:
    some = guest(BETA, hold=GuestHold(kind=HoldKind.FREEZE, mountpoints=("/a", "/b")))
    assert consistency(proof(host("a", guest(ALPHA)), host("b", some))) is Consistency.GROUP


def test_a_filesystem_that_was_mounted_since_prepare_is_frozen_too() -> None:
    more = guest(BETA, frozen_filesystems=3, expected_filesystems=2)
    assert consistency(proof(host("a", guest(ALPHA)), host("b", more))) is Consistency.GROUP


@pytest.mark.case("P1")
def test_fewer_frozen_than_there_were_to_freeze_is_said() -> None:
    fewer = guest(BETA, frozen_filesystems=1, expected_filesystems=2)
    whole = proof(host("a", guest(ALPHA)), host("b", fewer))
    assert f"guest {BETA} froze 1 of 2 filesystems" in shortcomings(whole)
    assert failures(whole) != []


def test_a_mount_point_named_twice_over_one_filesystem_counts_once() -> None:
    bound = guest(
        BETA,
        hold=GuestHold(kind=HoldKind.FREEZE, mountpoints=("/a", "/b")),
        frozen_filesystems=1,
        expected_filesystems=1,
    )
    assert consistency(proof(host("a", guest(ALPHA)), host("b", bound))) is Consistency.GROUP


def test_paused_cpus_keep_a_guest_still_whatever_was_frozen() -> None:
    paused = guest(BETA, hold=GuestHold(kind=HoldKind.FREEZE_PAUSE, mountpoints=("/a",)), frozen_filesystems=0)
    assert consistency(proof(host("a", guest(ALPHA)), host("b", paused))) is Consistency.GROUP


@pytest.mark.parametrize(
    "asked", [guest(BETA, hold=GuestHold(kind=HoldKind.NONE)), guest(BETA, moving_disks=("vdb",), thaw_start_ns=1)]
)
def test_a_guest_that_was_not_to_be_held_is_a_shortcoming_and_no_failure(asked: GuestProof) -> None:
    whole = proof(host("a", guest(ALPHA)), host("b", asked))
    assert BETA in " ".join(shortcomings(whole))
    assert failures(whole) == []
    assert failures(proof(host("a", guest(ALPHA, thaw_start_ns=1)), host("b", asked))) != []


def test_where_nobody_was_to_be_held_nothing_can_fail() -> None:
    nobody = guest(ALPHA, hold=GuestHold(kind=HoldKind.NONE))
    assert failures(proof(host("a", nobody, woken_ns=None), members=("a",), release_us=None)) == []


#: From the best label to the least.
RANKS = [Consistency.GROUP, Consistency.GUEST, Consistency.CRASH]

times = st.none() | st.integers(0, 9)
readings = st.none() | st.builds(
    ClockReading, at_ns=st.integers(0, 9), redis_us=st.integers(0, 9), uncertainty_us=st.integers(0, 9)
)


def hosts_named(host_id: str, guest_uuid: str) -> st.SearchStrategy[HostProof]:
    guests = st.builds(
        GuestProof,
        guest_uuid=st.just(guest_uuid),
        hold=st.sampled_from([GuestHold(kind=HoldKind.FREEZE), GuestHold(kind=HoldKind.NONE)]),
        moving_disks=st.sampled_from([(), ("vdb",)]),
        frozen_filesystems=st.none() | st.integers(0, 2),
        expected_filesystems=st.none() | st.integers(0, 2),
        hold_start_ns=st.integers(0, 9),
        held_ns=times,
        begun_ns=times,
        thaw_start_ns=times,
        thawed_ns=times,
        cut_short=st.none() | st.just("somebody let it go"),
    )
    return st.builds(
        HostProof,
        host_id=st.just(host_id),
        boot_id=st.just("b"),
        report_ns=times,
        woken_ns=times,
        clock_before=readings,
        clock_after=readings,
        guests=st.tuples(guests) | st.just((guest(guest_uuid),)),
    )


@st.composite
def proofs(draw: st.DrawFn) -> Proof:
    """Of two hosts, sound more often than chance would make them."""
    hosts = tuple(
        draw(st.just(host(host_id, guest(uuid))) | hosts_named(host_id, uuid))
        for host_id, uuid in (("a", ALPHA), ("b", BETA))
    )
    whole = proof(*hosts)
    if draw(st.booleans()):
        return whole
    arrivals = tuple(
        Arrival(host_id=name, redis_us=draw(st.integers(0, 9))) for name in draw(st.sets(st.sampled_from("abc")))
    )
    return changed(whole, arrivals=arrivals, release_us=draw(times))


def changed(one: Proof, **changes: Any) -> Proof:
    return one.model_copy(update=changes)


def with_host(one: Proof, number: int, **changes: Any) -> Proof:
    hosts = list(one.hosts)
    hosts[number] = hosts[number].model_copy(update=changes)
    return changed(one, hosts=tuple(hosts))


def with_guest(one: Proof, number: int, **changes: Any) -> Proof:
    return with_host(one, number, guests=(one.hosts[number].guests[0].model_copy(update=changes),))


#: What makes a proof show less: each leaves out a fact, or makes it a worse one. The number is that of a host.
WORSENED = {
    "no release": lambda one, _: changed(one, release_us=None),
    "an early release": lambda one, _: changed(one, release_arrivals=1),
    "a release before the report": lambda one, number: with_host(one, number, woken_ns=-1),
    "no arrival": lambda one, number: changed(one, arrivals=one.arrivals[:number]),
    "no record": lambda one, number: changed(one, hosts=one.hosts[:number] + one.hosts[number + 1 :]),
    "one more member": lambda one, _: changed(one, members=(*one.members, "c")),
    "not a member": lambda one, number: changed(one, members=one.members[:number]),
    "no report": lambda one, number: with_host(one, number, report_ns=None),
    "an earlier report": lambda one, number: with_host(one, number, report_ns=-1),
    "not told": lambda one, number: with_host(one, number, woken_ns=None),
    "told later": lambda one, number: with_host(one, number, woken_ns=10**9),
    "not held": lambda one, number: with_guest(one, number, held_ns=None),
    "not begun": lambda one, number: with_guest(one, number, begun_ns=None),
    "not let go": lambda one, number: with_guest(one, number, thaw_start_ns=None),
    "let go early": lambda one, number: with_guest(one, number, thaw_start_ns=-1),
    "cut short": lambda one, number: with_guest(one, number, cut_short="somebody let it go"),
    "no hold": lambda one, number: with_guest(one, number, hold=GuestHold(kind=HoldKind.NONE)),
    "a disk left moving": lambda one, number: with_guest(one, number, moving_disks=("vda", "vdb")),
    "nothing frozen": lambda one, number: with_guest(one, number, frozen_filesystems=0),
}


@pytest.mark.parametrize("worsen", WORSENED.values(), ids=WORSENED.keys())
@given(one=proofs(), number=st.integers(0, 1))
def test_the_label_never_gets_better_by_a_fact_that_is_missing_or_worse(
    worsen: Callable[[Proof, int], Proof], one: Proof, number: int
) -> None:
    worse = worsen(one, number)
    for before, after in zip(one.hosts, worse.hosts, strict=False):
        if before.host_id == after.host_id:
            pairs = (one, before.guests[0]), (worse, after.guests[0])
            labels = [guest_consistency(shortcomings(whole), guest) for whole, guest in pairs]
            assert RANKS.index(labels[0]) <= RANKS.index(labels[1])
    if len(worse.hosts) == len(one.hosts):  # without its record a guest has no label, which `repository.label` finds
        assert RANKS.index(consistency(one)) <= RANKS.index(consistency(worse))
    assert consistency(worse) is not Consistency.GROUP or not shortcomings(one)


@given(one=proofs(), before=readings, after=readings, number=st.integers(0, 1))
def test_the_clocks_that_were_measured_change_no_label(
    one: Proof, before: ClockReading | None, after: ClockReading | None, number: int
) -> None:
    other = with_host(one, number, clock_before=before, clock_after=after)
    assert consistency(other) is consistency(one)
    assert shortcomings(other) == shortcomings(one)
    doubts(other)  # whatever is read from a manifest, it never fails


@given(one=proofs(), clock=st.lists(st.integers(-(10**18), 10**18), min_size=4, max_size=4))
def test_redis_s_wall_clock_changes_no_label(one: Proof, clock: list[int]) -> None:
    """Whatever it was set to between two arrivals, or between the last of them and the release."""
    arrivals = tuple(
        arrival.model_copy(update={"redis_us": at}) for arrival, at in zip(one.arrivals, clock, strict=False)
    )
    other = changed(one, arrivals=arrivals, release_us=None if one.release_us is None else clock[3])
    assert consistency(other) is consistency(one)
    assert shortcomings(other) == shortcomings(one)
    assert failures(other) == failures(one)


def test_a_redis_clock_that_went_back_in_the_barrier_is_a_doubt_and_no_shortcoming() -> None:
    back = proof(release_us=19)
    assert consistency(back) is Consistency.GROUP
    assert doubts(back) == ["Redis's clock went back in the barrier: host a arrived after the release, by it"]
    assert doubts(proof()) == []


def test_a_steps_redis_time_is_derived_from_the_hosts_two_readings() -> None:
    before = ClockReading(at_ns=0, redis_us=1_000_000, uncertainty_us=5)
    after = ClockReading(at_ns=10_000_000, redis_us=1_010_000, uncertainty_us=5)
    measured = host("a", guest(ALPHA), clock_before=before, clock_after=after)
    told = measured.redis_time(measured.report_ns)
    assert told is not None
    assert told.redis_us == 1_004_000
    assert 5 <= told.uncertainty_us <= 7
    assert measured.redis_time(None) is None
    assert host("a", guest(ALPHA)).redis_time(4) is None


def test_steps_at_one_moment_of_a_clock_are_in_order() -> None:
    """A clock may be coarser than the steps are long; what is told of two at one moment is their order in the record."""
    at_once = guest(ALPHA, held_ns=3_000_000, begun_ns=3_000_000, thaw_start_ns=3_000_000)
    one = host("a", at_once, report_ns=3_000_000, woken_ns=3_000_000)
    assert consistency(proof(one, host("b", guest(BETA)))) is Consistency.GROUP


def test_each_guest_of_a_group_is_of_the_group() -> None:
    whole = proof()
    assert {guest_consistency(shortcomings(whole), one) for seen in whole.hosts for one in seen.guests} == {
        Consistency.GROUP
    }


@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        (guest(BETA, hold=GuestHold(kind=HoldKind.NONE)), "was not to be held"),
        (guest(BETA, moving_disks=("vda", "vdb")), "was not kept still on vda, vdb by its hold"),
        (guest(BETA, frozen_filesystems=None), "froze 0 of 1 filesystems"),
        (guest(BETA, cut_short="the thaw guard let it go"), "was not held still while its backup began"),
    ],
)
def test_why_a_guest_was_not_still_is_told_as_it_is(lacking: GuestProof, says: str) -> None:
    assert shortcomings(proof(host("a", guest(ALPHA)), host("b", lacking))) == [f"guest {BETA} {says}"]


@pytest.mark.parametrize(
    "unheld",
    [{"hold": GuestHold(kind=HoldKind.NONE)}, {"hold_start_ns": None}, {"thawed_ns": None}],
)
def test_without_a_hold_from_its_start_to_its_end_there_is_no_window(unheld: dict[str, Any]) -> None:
    assert guest(ALPHA, **unheld).hold_ms is None
