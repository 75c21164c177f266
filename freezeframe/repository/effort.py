"""Effort: how hard chunks are compressed, as the processors can afford it.

                 a chunk ─▶ looks incompressible? ─ yes ─▶ the lowest level, which passes over it
                                  │ no                                         │
                                  └──▶ the level of the moment ────────────────┴─▶ raw, if that saves less than 1/64

Every half second a writer looks back at what its threads did. The level goes up a step while they waited for the source or the
store *and* processors were idle: then compressing harder costs nobody anything. It goes down a step as soon as one of the two
is not so. A step that proved too dear is not tried again for a while, so the level does not swing.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

#: zstd's levels that are worth a step. Measured with the bench's text at 1 MiB a chunk (`ops/bench compression`,
#: docs/bench.md): between them a level costs time and saves next to nothing.
STEPS: Final = (1, 2, 3, 6, 9)

#: Share of their time that threads must wait, and of the processors that must be idle, before the level goes up. From 3
#: to 6 a step takes three times as long of a core; where that was too much the next look takes it back.
WAITING_TO_RISE: Final = 0.3
IDLE_TO_RISE: Final = 0.25

#: Below these it goes down: the threads are what others wait for, or the guests need the processors.
WAITING_TO_FALL: Final = 0.1
IDLE_TO_FALL: Final = 0.1

#: Looks after a step down before the next step up: 8 s at two looks a second.
REST_LOOKS: Final = 16

OFF: Final = 0


@dataclass(frozen=True)
class Effort:
    """What a writer may do: levels from `lowest` to `highest`; `OFF` for both stores everything raw."""

    lowest: int = STEPS[0]
    highest: int = STEPS[-1]

    @classmethod
    def parse(cls, text: str) -> Effort:
        """`auto`, `off`, or a level from 1 to 19, which is kept to. Raises ValueError."""
        if text == "auto":
            return cls()
        if text == "off":
            return cls(OFF, OFF)
        if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 19:
            raise ValueError("it is auto, off, or a level from 1 to 19")
        return cls(int(text), int(text))


@dataclass(frozen=True)
class Look:
    """What was seen since the last look, as shares from 0 to 1."""

    waiting: float  # of the threads' time: for the source to read from and for the store to take
    idle: float  # of the processors that this process may use


@dataclass(frozen=True)
class Level:
    """The level of the moment, and how many looks it rests before it may go up."""

    value: int
    rest: int = 0


def begin(effort: Effort) -> Level:
    """The lowest: a short transfer is over before much can be seen."""
    return Level(effort.lowest)


def follow(level: Level, look: Look, effort: Effort) -> Level:
    """The level after a look. Pure; never outside the effort's bounds."""
    if look.waiting < WAITING_TO_FALL or look.idle < IDLE_TO_FALL:
        lower = _below(level.value, effort)
        return Level(lower, REST_LOOKS if lower < level.value else max(level.rest - 1, 0))
    if look.waiting >= WAITING_TO_RISE and look.idle >= IDLE_TO_RISE and not level.rest:
        return Level(_above(level.value, effort))
    return Level(level.value, max(level.rest - 1, 0))


def _above(value: int, effort: Effort) -> int:
    at = bisect_right(STEPS, value)
    return min(STEPS[at], effort.highest) if at < len(STEPS) and value < effort.highest else value


def _below(value: int, effort: Effort) -> int:
    lower = [step for step in STEPS if step < value]
    return max(lower[-1], effort.lowest) if lower else value
