"""Pace: how long each guest took to be held and to begin its backup, remembered, so that slow freezers can start first.

    slow guest   ├─────────── hold, begin ───────────┤
    fast guest   ·········· waits, running ··········├─ hold, begin ─┤     all are held together, and nobody waits held

A guest that nobody has held yet starts at once: better that it waits held than that all others wait for it. Of a guest whose
freeze did not end in time only a lower bound is known; that is remembered too, until a freeze succeeds or TOO_SLOW_KEPT_S
have passed.

    <state_dir>/paces/<guest uuid>   {"v1": [ms, …], "too_slow": {"ms": …, "at": …}}; a later version has a key of its own
"""

from __future__ import annotations

import json
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
#: Of a hold's time, how much a guest may have needed in vain for it to be tried again. A guest that was fast starts up to
#: a quarter of the time later (`delay_s`).
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


def delay_s(expected_ms: float | None, slowest_ms: float | None, hold_timeout_s: float) -> float:
    """How long a guest shall wait before it is held, so that it is held when the slowest is. Pure.

    Never more than a quarter of the time-out, so that a wrong memory cannot eat the hold.
    """
    if expected_ms is None or slowest_ms is None:
        return 0.0
    return min(max(slowest_ms - expected_ms, 0.0) / 1000, hold_timeout_s / 4)
