"""Two faults in one capture: which there are, in which order they strike, and how long a guest may be held because of them."""

from __future__ import annotations

import pytest

from tests.faults.bounds import AGENT_S, BY_GUARD_S, BY_HOST_S, EITHER_S, LIBVIRT_S, RETRY_S, by_pair, past_libvirt
from tests.faults.two import AT_ONCE, IN_TURN, PAIRS, Fault, Pair, Part, Way, order_of_strikes

AWAY_S = {Part.CONTROL: 2.0, Part.GUARD: 3.0, Part.LIBVIRTD: 8.0, Part.REDIS: 100.0}
BEFORE_S = 1.0
TRY_S = RETRY_S + AGENT_S


def fault(text: str) -> Fault:
    part, way = text.split()
    return Fault(Part(part), Way(way))


def pair(one: str, other: str, step: str = AT_ONCE) -> Pair:
    return Pair(fault(one), fault(other), step)


def test_every_pair_of_different_parts_is_there_once_at_once_and_in_both_orders_in_turn() -> None:
    at_once = [{pair.first, pair.second} for pair in PAIRS if pair.step == AT_ONCE]
    in_turn = [(pair.first, pair.second) for pair in PAIRS if pair.step == IN_TURN]
    assert len(at_once) == len({frozenset(faults) for faults in at_once}) == 24
    assert len(in_turn) == len(set(in_turn)) == 48
    assert all(pair.first.part is not pair.second.part for pair in PAIRS)
    assert len({pair.cell for pair in PAIRS}) == len(PAIRS)


@pytest.mark.parametrize(
    ("one", "other", "bound_s"),
    [
        # the guard lets go at the lease's deadline, the worker at the hold's
        ("control killed", "Redis killed", BY_GUARD_S),
        ("control suspended", "Redis suspended", BY_GUARD_S),
        ("guard killed", "Redis suspended", BY_HOST_S),
        ("guard suspended", "Redis killed", BY_HOST_S),
        # the guard goes past a libvirtd that is dead
        ("control killed", "libvirtd killed", past_libvirt()),
        ("control suspended", "libvirtd killed", past_libvirt()),
        ("libvirtd killed", "Redis suspended", past_libvirt()),
        # nobody can let go until the guard works again, which it does before the hold's deadline
        ("control killed", "guard suspended", EITHER_S + TRY_S),
        ("control suspended", "guard suspended", EITHER_S + TRY_S),
        ("guard killed", "libvirtd killed", EITHER_S + LIBVIRT_S + TRY_S),
        ("guard suspended", "libvirtd killed", EITHER_S + LIBVIRT_S + TRY_S),
        # nobody can go past a libvirtd that hangs
        ("control killed", "libvirtd suspended", BEFORE_S + 8.0 + TRY_S),
        ("libvirtd suspended", "Redis killed", BEFORE_S + 8.0 + TRY_S),
        ("guard killed", "libvirtd suspended", BEFORE_S + 8.0 + TRY_S),
    ],
)
def test_the_bound_of_two_at_once(one: str, other: str, bound_s: float) -> None:
    assert by_pair(pair(one, other), BEFORE_S, AWAY_S) == bound_s
    assert by_pair(pair(other, one), BEFORE_S, AWAY_S) == bound_s


def test_a_guard_that_is_away_longer_than_a_libvirtd_that_hangs_is_waited_for() -> None:
    away_s = AWAY_S | {Part.GUARD: 20.0}
    assert by_pair(pair("libvirtd suspended", "guard suspended"), BEFORE_S, away_s) == BEFORE_S + 20.0 + TRY_S


def test_a_guard_that_is_back_after_the_deadline_is_waited_for() -> None:
    away_s = AWAY_S | {Part.GUARD: 9.0}
    assert by_pair(pair("control killed", "guard suspended"), BEFORE_S, away_s) == BEFORE_S + 9.0 + TRY_S


def test_in_turn_a_freeze_that_was_under_way_may_take_effect_late() -> None:
    late_s = RETRY_S + LIBVIRT_S + AGENT_S
    assert by_pair(pair("control killed", "Redis killed", IN_TURN), 0.0, AWAY_S) == late_s
    assert by_pair(pair("guard killed", "control killed", IN_TURN), 0.0, AWAY_S) == EITHER_S + TRY_S


def test_no_bound_waits_for_redis() -> None:
    """It may be away for longer than any hold (invariant 5)."""
    without: dict[Part, float] = {part: seconds for part, seconds in AWAY_S.items() if part is not Part.REDIS}
    assert all(by_pair(one, 0.0, without) == by_pair(one, 0.0, AWAY_S) for one in PAIRS)


@pytest.mark.parametrize(
    ("one", "other", "first"),
    [
        ("control killed", "guard suspended", "guard suspended"),  # it would act upon the worker's death
        ("control killed", "guard killed", "guard killed"),
        ("control suspended", "guard suspended", "guard suspended"),
        ("control suspended", "guard killed", "control suspended"),
        ("libvirtd killed", "guard killed", "guard killed"),
    ],
)
def test_the_more_dangerous_order_of_two_at_once(one: str, other: str, first: str) -> None:
    assert order_of_strikes(pair(one, other))[0] == fault(first)
    assert order_of_strikes(pair(other, one))[0] == fault(first)
