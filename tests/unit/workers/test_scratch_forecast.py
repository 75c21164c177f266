"""The forecast: which backup ends, and when to look again, by the growth of each guest's scratch files."""

from __future__ import annotations

import pytest

from workers.scratch.forecast import (
    ENDING_S,
    FASTEST_BYTES_S,
    FLOOR_BYTES,
    LONGEST_PAUSE_S,
    SHORTEST_PAUSE_S,
    WINDOW_S,
    Forecast,
    Growth,
)

MIB = 1 << 20


def looked(free_mib: float, *looks: dict[str, int], step_s: float = 1.0) -> Forecast[str]:
    """A forecast after looks at what guests' files occupy, in MiB, with `free_mib` left at the last one."""
    forecast = Forecast[str]()
    total = sum(looks[-1].values())
    for number, sizes in enumerate(looks):
        free = free_mib + total - sum(sizes.values())
        forecast.look(number * step_s, int(free * MIB), {guest: size * MIB for guest, size in sizes.items()})
    return forecast


def test_while_there_is_room_nobody_ends() -> None:
    assert looked(500, {"a": 0, "b": 0}, {"a": 10, "b": 90}).to_end() is None


@pytest.mark.case("G5")
def test_the_fastest_growing_ends_and_not_the_largest() -> None:
    assert looked(20, {"a": 900, "b": 10}, {"a": 910, "b": 60}).to_end() == "b"


@pytest.mark.case("G5")
def test_the_floor_is_what_is_written_while_a_backup_ends() -> None:
    """300 MiB a second: with 500 MiB left the end has to begin, long before 32 MiB are left."""
    fast = looked(500, {"a": 0, "b": 0}, {"a": 280, "b": 20})
    assert fast.floor_bytes == 300 * ENDING_S * MIB
    assert fast.to_end() == "a"
    assert looked(500, {"a": 0, "b": 0}, {"a": 1, "b": 1}).floor_bytes == FLOOR_BYTES


@pytest.mark.case("G5")
def test_room_that_others_use_up_ends_the_largest() -> None:
    """Somebody copies files there: the guests' next writes need the room all the same."""
    forecast = Forecast[str]()
    forecast.look(0, 1000 * MIB, {"a": 5, "b": 6})
    forecast.look(1, 100 * MIB, {"a": 5, "b": 6})
    assert forecast.bytes_s == 900 * MIB
    assert forecast.to_end() == "b"


def test_one_that_is_ending_already_is_not_chosen_again() -> None:
    forecast = looked(20, {"a": 0, "b": 0}, {"a": 80, "b": 60})
    assert [forecast.to_end(ending) for ending in ((), {"a"}, {"a", "b"})] == ["a", "b", None]


def test_a_guest_whose_backup_ended_is_forgotten() -> None:
    forecast = looked(20, {"a": 0, "b": 0}, {"a": 80, "b": 60}, {"b": 60})
    assert forecast.to_end() == "b"


@pytest.mark.case("G5")
def test_the_rate_of_a_guest_whose_backup_ended_ends_no_other() -> None:
    forecast = looked(900, {"a": 0, "b": 0}, {"a": 800, "b": 1})
    assert forecast.to_end() == "a"
    forecast.look(1.1, 1690 * MIB, {"b": 1 * MIB})
    assert forecast.floor_bytes == FLOOR_BYTES
    assert forecast.to_end() is None


def test_growth_is_that_of_the_last_seconds() -> None:
    growth = Growth[str]()
    for second in range(20):
        growth.look(second, {"a": min(second, 10) * MIB})
    assert growth.bytes_s("a") == 0
    growth = Growth[str]()
    for second in range(20):
        growth.look(second, {"a": max(0, second - 10) * MIB})
    assert growth.bytes_s("a") == MIB
    assert WINDOW_S < 10


@pytest.mark.parametrize(("first", "second"), [(10, 10), (10, 5)])
def test_what_shrinks_does_not_grow(first: int, second: int) -> None:
    growth = Growth[str]()
    growth.look(0, {"a": first})
    assert growth.bytes_s("a") == 0
    growth.look(1, {"a": second})
    assert growth.bytes_s("a") == 0
    assert growth.bytes_s("b") == 0


def test_two_looks_at_one_moment_are_no_rate() -> None:
    growth = Growth[str]()
    growth.look(1, {"a": 0})
    growth.look(1, {"a": MIB})
    assert growth.bytes_s("a") == 0


@pytest.mark.case("G5")
@pytest.mark.parametrize("free_mib", [33, 64, 200, 1000, 4000, 100_000])
def test_the_next_look_comes_before_the_fastest_write_could_use_up_the_room(free_mib: int) -> None:
    pause_s = looked(free_mib, {"a": 0}).pause_s()
    assert SHORTEST_PAUSE_S <= pause_s <= LONGEST_PAUSE_S
    if pause_s > SHORTEST_PAUSE_S:
        assert pause_s * FASTEST_BYTES_S <= free_mib * MIB - FLOOR_BYTES
    assert looked(1, {"a": 0}).pause_s() == SHORTEST_PAUSE_S


def test_growth_is_an_average_over_the_window_and_not_that_of_the_last_look() -> None:
    """A guest writes in bursts: one look without growth would let its backup grow on."""
    growth = Growth[str]()
    for second, size in enumerate([0, 10, 20, 20]):
        growth.look(1000.0 + second, {"a": size * MIB})
    assert growth.bytes_s("a") == 20 * MIB / 3


@pytest.mark.case("G5")
def test_the_next_look_comes_before_half_of_the_room_above_a_floor_that_has_grown_is_used_up() -> None:
    """300 MiB a second, so 600 MiB are needed to end a backup; the next look is for what is above them."""
    fast = looked(1800, {"a": 0}, {"a": 300})
    assert fast.pause_s() == pytest.approx((1800 - 600) * MIB / 2 / FASTEST_BYTES_S)
    assert looked(620, {"a": 0}, {"a": 300}).pause_s() == SHORTEST_PAUSE_S


def test_where_there_is_much_room_looks_are_rare() -> None:
    assert looked(100_000, {"a": 0}).pause_s() == LONGEST_PAUSE_S
