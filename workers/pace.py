"""Pace: how long each guest took to be held and to begin its backup, remembered, so that slow freezers can start first.

    slow guest   ├─────────── hold, begin ───────────┤
    fast guest   ·········· waits, running ··········├─ hold, begin ─┤     all are held together, and nobody waits held

A guest that nobody has held yet starts at once: better that it waits held than that all others wait for it. Of a guest whose
freeze did not end in time only a lower bound is known; that is remembered too, until a freeze succeeds or TOO_SLOW_KEPT_S
have passed.

A guest is not tried again in a hold that may give it no more time than it has needed in vain (`least_freeze_s`):

    hold's time       ├──────────────────────────────────────────────────────┤
    policy all        ├─ delay, a quarter ─┬─ least time for a freeze ───────┤
    policy degrade    ├─ delay ─┬─ least time for a freeze ────┤ the others go on

    <state_dir>/paces/<guest uuid>   {"v1": [ms, …], "too_slow": {"ms": …, "at": …}}; a later version has a key of its own
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from workers import durable

#: Times that are remembered; the median of a few forgets one bad day quickly and does not follow every twitch.
REMEMBERED = 5
#: Seconds for which a freeze that did not end in time is remembered. Longer than the usual distance between two captures, so
#: that the other guests are not held for a whole time-out each night; not for ever: a guest that was mended is tried again.
TOO_SLOW_KEPT_S: Final = 7 * 86400.0
#: Of the hold's time, how much a guest has until it is held and its backup begun, where the others may go on without it.
TAKE_SHARE: Final = 0.75
#: Of that time, how much is left at least for a guest that starts later because it was fast (`delay_s`).
TOO_SLOW_SHARE: Final = 0.75


@dataclass(frozen=True)
class TooSlow:
    """A freeze that had not ended after `ms`; `at` is of this host's wall clock, s."""

    ms: float
    at: float


class Paces:
    """The paces of one host's guests. Losing them costs a little waiting, nothing else."""

    def __init__(self, state_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = state_dir / "paces"
        self._clock = clock
        durable.make_directory(self._directory)

    def expected_ms(self, guest_uuid: str) -> float | None:
        """Return how long the guest will take to be held, as far as its past tells; None if it has none."""
        known = self._read(guest_uuid)
        times, slow = _times(known), self._too_slow(known)
        if slow is not None:
            return max([slow.ms, *times])
        return statistics.median(times) if times else None

    def too_slow(self, guest_uuid: str) -> TooSlow | None:
        """Return the guest's last freeze if that did not end in time, and not long ago."""
        return self._too_slow(self._read(guest_uuid))

    def remember(self, guest_uuid: str, ms: float) -> None:
        """Remember a hold that succeeded. Not within a hold window: this waits for a disk."""
        times = [*_times(self._read(guest_uuid)), round(ms, 3)][-REMEMBERED:]
        durable.replace(self._directory / guest_uuid, json.dumps({"v1": times}))

    def remember_too_slow(self, guest_uuid: str, ms: float) -> None:
        """Remember a freeze that had not ended after `ms`. Not within a hold window."""
        slow = asdict(TooSlow(round(ms, 3), self._clock()))
        durable.replace(
            self._directory / guest_uuid, json.dumps({"v1": _times(self._read(guest_uuid)), "too_slow": slow})
        )

    def _too_slow(self, known: dict[str, Any]) -> TooSlow | None:
        try:
            slow = TooSlow(float(known["too_slow"]["ms"]), float(known["too_slow"]["at"]))
        except (KeyError, TypeError, ValueError):
            return None
        return slow if 0 <= self._clock() - slow.at < TOO_SLOW_KEPT_S else None

    def _read(self, guest_uuid: str) -> dict[str, Any]:
        try:
            found = json.loads((self._directory / guest_uuid).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {"v1": found}  # a bare list in version 0


def _times(known: dict[str, Any]) -> list[float]:
    try:
        return [float(ms) for ms in known.get("v1", [])]
    except (ValueError, TypeError):
        return []


def take_s(hold_timeout_s: float, *, all_or_nothing: bool) -> float:
    """Return for how long a hold waits for each guest. Pure."""
    return hold_timeout_s if all_or_nothing else TAKE_SHARE * hold_timeout_s


def delay_s(expected_ms: float | None, slowest_ms: float | None, take_s: float) -> float:
    """How long a guest shall wait before it is held, so that it is held when the slowest is. Pure.

    Never more than a quarter of the time, so that a wrong memory cannot eat the hold.
    """
    if expected_ms is None or slowest_ms is None:
        return 0.0
    return min(max(slowest_ms - expected_ms, 0.0) / 1000, (1 - TOO_SLOW_SHARE) * take_s)


def freeze_timeout_s(left_s: float) -> int:
    """Return the time-out of a freeze. libvirt counts an agent's time in whole seconds. Pure."""
    return max(1, round(left_s))


def least_freeze_s(hold_timeout_s: float, *, all_or_nothing: bool) -> float:
    """Return the shortest time-out that a hold gives a freeze: that of a guest which starts last, in whole seconds. Pure."""
    return max(1.0, math.floor(TOO_SLOW_SHARE * take_s(hold_timeout_s, all_or_nothing=all_or_nothing)))


def is_in_vain(slow: TooSlow, hold_timeout_s: float, *, all_or_nothing: bool) -> bool:
    """Return True if a hold may give the guest no more time than it has needed in vain. Pure."""
    return slow.ms >= 1000 * least_freeze_s(hold_timeout_s, all_or_nothing=all_or_nothing)


def longer_s(slow: TooSlow, *, all_or_nothing: bool) -> int:
    """Return the shortest hold, in whole seconds, in which the guest is tried again. Pure."""
    needed_s = math.floor(slow.ms / 1000) + 1
    if needed_s <= least_freeze_s(1.0, all_or_nothing=all_or_nothing):
        return 1
    return math.ceil(needed_s / take_s(TOO_SLOW_SHARE, all_or_nothing=all_or_nothing))
