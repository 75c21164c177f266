"""How hard chunks are compressed: never beyond the bounds, harder only when it costs nobody anything."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.repository import pressure as pressure_module
from freezeframe.repository.effort import (
    IDLE_TO_FALL,
    IDLE_TO_RISE,
    REST_LOOKS,
    STEPS,
    WAITING_TO_FALL,
    WAITING_TO_RISE,
    Effort,
    Level,
    Look,
    begin,
    follow,
)
from freezeframe.repository.pressure import Pressure, processors

shares = st.floats(0, 1)
looks = st.builds(Look, waiting=shares, idle=shares)
FREE = Look(waiting=1.0, idle=1.0)  # all wait, and nothing else is to do
SHORT_OF_PROCESSORS = Look(waiting=1.0, idle=0.0)
SHORT_OF_THREADS = Look(waiting=0.0, idle=1.0)


@given(st.lists(looks, max_size=60), st.sampled_from(STEPS), st.sampled_from(STEPS))
def test_the_level_stays_within_its_bounds(seen: list[Look], one: int, other: int) -> None:
    effort = Effort(min(one, other), max(one, other))
    level = begin(effort)
    for look in seen:
        level = follow(level, look, effort)
        assert effort.lowest <= level.value <= effort.highest


@given(st.lists(looks, max_size=60), looks)
def test_the_level_rises_only_while_threads_wait_and_processors_are_idle(seen: list[Look], last: Look) -> None:
    level = begin(Effort())
    for look in seen:
        level = follow(level, look, Effort())
    after = follow(level, last, Effort())
    if after.value > level.value:
        assert last.waiting >= WAITING_TO_RISE
        assert last.idle >= IDLE_TO_RISE
    if last.waiting < WAITING_TO_FALL or last.idle < IDLE_TO_FALL:
        assert after.value < level.value or level.value == STEPS[0]


def test_the_level_climbs_to_the_highest_while_nothing_is_lost_by_it() -> None:
    level, climbed = begin(Effort()), []
    for _ in range(len(STEPS)):
        climbed.append(level.value)
        level = follow(level, FREE, Effort())
    assert climbed == list(STEPS)


def test_above_the_last_step_there_is_none_whatever_the_effort_allows() -> None:
    assert follow(Level(STEPS[-1]), FREE, Effort(STEPS[0], STEPS[-1] + 1)) == Level(STEPS[-1])


@pytest.mark.parametrize("short", [SHORT_OF_PROCESSORS, SHORT_OF_THREADS])
def test_a_step_that_was_too_dear_is_not_tried_again_at_once(short: Look) -> None:
    level = follow(Level(6), short, Effort())
    assert level.value == 3
    for _ in range(REST_LOOKS):
        level = follow(level, FREE, Effort())
        assert level.value == 3
    assert follow(level, FREE, Effort()).value == 6


@pytest.mark.parametrize("short", [SHORT_OF_PROCESSORS, SHORT_OF_THREADS])
def test_at_the_lowest_level_the_rest_goes_on_where_it_cannot_fall(short: Look) -> None:
    level = Level(STEPS[0], 2)
    for rest in (1, 0, 0):
        level = follow(level, short, Effort())
        assert level == Level(STEPS[0], rest)


@pytest.mark.parametrize(
    "look", [Look(WAITING_TO_FALL, 1.0), Look(1.0, IDLE_TO_FALL), Look(WAITING_TO_FALL, IDLE_TO_FALL)]
)
def test_between_the_bounds_to_fall_and_to_rise_the_level_stays(look: Look) -> None:
    """The bounds to fall included: it is too dear below them."""
    assert follow(Level(6), look, Effort()) == Level(6)


def test_at_the_bounds_to_rise_the_level_rises() -> None:
    assert follow(Level(6), Look(WAITING_TO_RISE, IDLE_TO_RISE), Effort()) == Level(9)


@pytest.mark.parametrize(
    ("text", "effort"), [("auto", Effort()), ("off", Effort(0, 0)), ("1", Effort(1, 1)), ("19", Effort(19, 19))]
)
def test_a_setting_is_read(text: str, effort: Effort) -> None:
    assert Effort.parse(text) == effort


@pytest.mark.parametrize("text", ["", "0", "20", "-1", "best", "3.5", "²"])
def test_any_other_setting_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="auto, off, or a level"):
        Effort.parse(text)


@dataclass
class Machine:
    """A logical clock, and processors of which a share is idle."""

    now: float = 0.0
    idle_share: float = 0.0
    idle: float = 0.0

    def clock(self) -> float:
        return self.now

    def processors(self) -> tuple[float, float]:
        return self.idle, self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds
        self.idle += self.idle_share * seconds


def pressure_of(machine: Machine) -> Pressure:
    return Pressure(Effort(), look_s=1.0, clock=machine.clock, processors=machine.processors)


def run(
    machine: Machine,
    *,
    source_s: float = 0.0,
    store_s: float = 0.0,
    work_s: float = 0.0,
    pressure: Pressure | None = None,
) -> int:
    """The level after ten chunks of a second or so, of one thread."""
    pressure = pressure or pressure_of(machine)
    for _ in range(10):
        machine.spend(source_s)
        pressure.begin()
        machine.spend(work_s + store_s)
        pressure.waited(store_s)
        pressure.end()
    return pressure.level


def test_a_slow_source_or_store_lets_the_level_rise() -> None:
    assert run(Machine(idle_share=0.8), source_s=0.9, work_s=0.2) == STEPS[-1]
    assert run(Machine(idle_share=0.8), store_s=0.9, work_s=0.2) == STEPS[-1]


def test_threads_that_do_not_wait_or_guests_that_compute_keep_it_low() -> None:
    assert run(Machine(idle_share=0.8), work_s=1.0) == STEPS[0]
    assert run(Machine(idle_share=0.0), source_s=0.9, work_s=0.2) == STEPS[0]


def test_a_level_that_was_chosen_is_kept_to() -> None:
    machine = Machine(idle_share=1.0)
    pressure = Pressure(Effort.parse("3"), look_s=0.0, clock=machine.clock, processors=machine.processors)
    for _ in range(5):
        machine.spend(1.0)
        pressure.begin()
        machine.spend(0.1)
        pressure.end()
    assert pressure.level == 3


def test_only_what_was_idle_since_the_last_look_counts() -> None:
    """Processors that were idle for days before the guests began to compute are not idle."""
    assert run(Machine(now=1e6, idle=1e6, idle_share=0.0), source_s=0.9, work_s=0.2) == STEPS[0]


def test_guests_that_begin_to_compute_are_seen_at_the_next_looks() -> None:
    machine = Machine(idle_share=0.8)
    pressure = pressure_of(machine)
    assert run(machine, source_s=0.9, work_s=0.2, pressure=pressure) == STEPS[-1]
    machine.idle_share = 0.0
    assert run(machine, source_s=0.9, work_s=0.2, pressure=pressure) == STEPS[0]


def test_processors_of_which_nothing_is_known_keep_the_level_low(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr(machine, "processors", lambda: (0.0, 0.0))
    assert run(machine, source_s=0.9, work_s=0.2) == STEPS[0]


STAT = """\
cpu  600 60 60 6000 600 6 6 6 0 0
cpu0 100 10 10 1000 100 1 1 1 7 7
cpu1 200 20 20 2000 200 2 2 2 7 7
cpu2 300 30 30 3000 300 3 3 3 7 7
intr 12345 0 0
"""


def test_only_processors_that_this_process_may_use_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle and waiting for a device, of all; a guest's time is in its user's already."""
    stat = tmp_path / "stat"
    stat.write_text(STAT, encoding="ascii")
    monkeypatch.setattr(pressure_module, "Path", {"/proc/stat": stat}.__getitem__)
    monkeypatch.setattr(os, "sched_getaffinity", {0: {0, 2}}.__getitem__)
    assert processors() == (1100 + 3300, 1223 + 3669)


def test_where_nobody_can_say_none_is_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure_module, "Path", {"/proc/stat": tmp_path / "none"}.__getitem__)
    assert processors() == (0.0, 0.0)
