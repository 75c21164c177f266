"""What a proof's times contradict is a doubt that names its host, and only beyond what was measured and what clocks drift."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.contract.clock import ClockReading, contradictions, moved_us
from freezeframe.contract.doubts import doubts
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.proof import Arrival, GuestProof, HostProof, Proof, consistency
from freezeframe.contract.words import Consistency, HoldKind

MS = 1_000_000  # ns
#: Redis's clock in µs when the host's own was at zero.
APART_US = 1_800_000_000_000_000


def reading(at_ms: int, offset_us: int = APART_US) -> ClockReading:
    return ClockReading(at_ns=at_ms * MS, redis_us=at_ms * 1000 + offset_us, uncertainty_us=100)


def host(host_id: str, guest_uuid: str, **changes: Any) -> HostProof:
    """Held from 10 to 70 ms, reported at 40 ms, told at 50 ms; its clock read at 0 and 100 ms."""
    guest = GuestProof(
        guest_uuid=guest_uuid,
        hold=GuestHold(kind=HoldKind.FREEZE),
        frozen_filesystems=1,
        hold_start_ns=10 * MS,
        held_ns=20 * MS,
        begun_ns=30 * MS,
        thaw_start_ns=60 * MS,
        thawed_ns=70 * MS,
    )
    usual: dict[str, Any] = {
        "host_id": host_id,
        "boot_id": f"boot of {host_id}",
        "report_ns": 40 * MS,
        "woken_ns": 50 * MS,
        "clock_before": reading(0),
        "clock_after": reading(100),
        "guests": (guest,),
    }
    return HostProof.model_validate(usual | changes)


def proof(*, arrived_ms: float = 41, released_ms: float = 45, **changes: Any) -> Proof:
    """Host a arrives when it is told to; what is changed is changed about host a."""
    return Proof(
        epoch=1,
        members=("a", "b"),
        arrivals=(
            Arrival(host_id="a", redis_us=APART_US + int(arrived_ms * 1000)),
            Arrival(host_id="b", redis_us=APART_US + 42_000),
        ),
        release_us=APART_US + int(released_ms * 1000),
        hosts=(
            host("a", "00000000-0000-4000-8000-00000000000a", **changes),
            host("b", "00000000-0000-4000-8000-00000000000b"),
        ),
    )


def test_times_that_fit_together_are_no_doubt() -> None:
    assert doubts(proof()) == []


@pytest.mark.parametrize(
    ("doubtful", "says"),
    [
        (
            proof(arrived_ms=39),
            "host a: its report arrived 1.000 ms before it was sent, by clocks measured to ± 0.110 ms",
        ),
        (proof(released_ms=51), "host a: it was told of the release 1.000 ms before it"),
        (proof(clock_after=reading(100, APART_US + 500)), "host a: its clock and Redis's moved 0.500 ms"),
        (proof(clock_before=reading(11), clock_after=None), "host a: not all of its steps lie between"),
        (proof(clock_after=reading(69)), "host a: not all of its steps lie between"),
        (proof(clock_after=reading(-1)), "host a: not all of its steps lie between"),
        (
            proof(boot_id="boot of b", clock_before=reading(0, APART_US + 230), clock_after=None),
            "hosts a and b: by their",
        ),
    ],
)
def test_a_contradiction_is_a_doubt_and_leaves_the_label_as_it_is(doubtful: Proof, says: str) -> None:
    found = [doubt for doubt in doubts(doubtful) if doubt.startswith(("host a:", "hosts a and b:"))]
    assert [doubt for doubt in found if says in doubt]
    assert len(found) == 1
    assert consistency(doubtful) is Consistency.GROUP


@pytest.mark.parametrize(
    "sound",
    [
        proof(arrived_ms=39.9),  # sent at 40, measured to ± 0.1 ms
        proof(arrived_ms=50, released_ms=50.1),  # told at 50
        proof(clock_after=reading(100, APART_US + 220)),  # 0.1 and 0.1 ms, and 200 ppm of 100 ms
        proof(clock_before=reading(0, APART_US + 10**9), clock_after=None, report_ns=None, woken_ns=None),
        proof(boot_id="boot of b", clock_before=reading(0, APART_US + 190), clock_after=None),
    ],
)
def test_what_the_measurement_allows_is_no_doubt(sound: Proof) -> None:
    assert [doubt for doubt in doubts(sound) if doubt.startswith("host a:") or "boot id" in doubt] == []


def test_a_host_that_did_not_measure_gives_none() -> None:
    silent = proof(arrived_ms=0, released_ms=49, clock_before=None, clock_after=None, boot_id="boot of b")
    assert doubts(silent) == []


def test_a_clock_that_was_set_during_the_hold_is_the_only_doubt() -> None:
    """Times between the readings are then as uncertain as the step is long, and accuse nobody."""
    stepped = proof(arrived_ms=20, clock_after=reading(100, APART_US - 60_000))
    assert [doubt for doubt in doubts(stepped) if doubt.startswith("host a")] == [
        "host a: its clock and Redis's moved 60.000 ms against each other while it held"
    ]


@pytest.mark.parametrize(
    "sound",
    [
        # the first step at the first reading, the last one at the second
        proof(clock_before=reading(10), clock_after=reading(70)),
        # sent at 40 ms and told at 50 ms, each measured to ± 100 µs: the reading lies at that very moment
        proof(arrived_ms=39.9, clock_before=reading(40), clock_after=None, guests=()),
        proof(arrived_ms=50, released_ms=50.1, clock_before=reading(50), clock_after=None, guests=()),
    ],
)
def test_what_the_measurement_just_allows_is_no_doubt(sound: Proof) -> None:
    assert [doubt for doubt in doubts(sound) if doubt.startswith("host a:")] == []


READINGS = st.lists(
    st.builds(
        lambda at_ms, offset_us, uncertainty_us: ClockReading(
            at_ns=at_ms * MS, redis_us=at_ms * 1000 + offset_us, uncertainty_us=uncertainty_us
        ),
        st.integers(0, 10_000),
        st.integers(0, 4000),
        st.integers(0, 1000),
    ),
    max_size=8,
)


@given(readings=READINGS)
def test_readings_that_all_agree_and_those_that_do_not_are_told_apart_without_comparing_each_two(
    readings: list[ClockReading],
) -> None:
    found = contradictions(readings)
    pairs = [(one, other) for other in range(len(readings)) for one in range(other)]
    wrong = {pair for pair in pairs if moved_us(readings[pair[0]], readings[pair[1]])}
    assert set(found) <= wrong
    # times here are whole milliseconds: drift is a fifth of a microsecond each, and rounded up
    clear = [(a, b) for a, b in wrong if _moved_by_more(readings[a], readings[b])]
    assert found or not clear
    assert len(found) <= 2 * len(readings)


def _moved_by_more(one: ClockReading, other: ClockReading) -> bool:
    """Return True if two readings differ by a few microseconds beyond what they may, so that rounding does not decide."""
    apart_us = abs(other.offset_ns - one.offset_ns) / 1000
    drift_us = abs(other.at_ns - one.at_ns) * 200 / 1e9
    return apart_us > one.uncertainty_us + other.uncertainty_us + drift_us + 4


def test_of_three_clocks_of_one_boot_the_one_that_differs_is_named() -> None:
    hosts = tuple(
        host(name, f"00000000-0000-4000-8000-00000000000{name}", boot_id="one", clock_before=reading(at_ms, offset_us))
        for name, at_ms, offset_us in (("a", 3, APART_US), ("b", 2, APART_US + 900), ("c", 1, APART_US + 100))
    )
    doubtful = [one for one in doubts(proof().model_copy(update={"hosts": hosts})) if "boot id" in one]
    assert [one.partition(":")[0] for one in doubtful] == ["hosts a and b", "hosts b and c"]
