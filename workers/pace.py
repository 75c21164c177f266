"""Pace: how long each guest took to be held and to begin its backup, remembered, so that slow freezers can start first.

    slow guest   ├─────────── hold, begin ───────────┤
    fast guest   ·········· waits, running ··········├─ hold, begin ─┤     all are held together, and nobody waits held

A guest that nobody has held yet starts at once: better that it waits held than that all others wait for it.

    <state_dir>/paces/<guest uuid>   {"v1": […]}   the last few times; a later version has a key of its own
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from workers import durable

#: Times that are remembered; the median of a few forgets one bad day quickly and does not follow every twitch.
REMEMBERED = 5


class Paces:
    """The paces of one host's guests. Losing them costs a little waiting, nothing else."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "paces"
        durable.make_directory(self._directory)

    def expected_ms(self, guest_uuid: str) -> float | None:
        """How long the guest will take to be held, as far as its past tells; None if it has none."""
        times = self._times(guest_uuid)
        return statistics.median(times) if times else None

    def remember(self, guest_uuid: str, ms: float) -> None:
        """Not within a hold window: this waits for a disk."""
        times = [*self._times(guest_uuid), round(ms, 3)][-REMEMBERED:]
        durable.replace(self._directory / guest_uuid, json.dumps({"v1": times}))

    def _times(self, guest_uuid: str) -> list[float]:
        try:
            found = json.loads((self._directory / guest_uuid).read_text(encoding="utf-8"))
            return [float(ms) for ms in (found["v1"] if isinstance(found, dict) else found)]  # a bare list in version 0
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return []


def delay_s(expected_ms: float | None, slowest_ms: float | None, hold_timeout_s: float) -> float:
    """How long a guest shall wait before it is held, so that it is held when the slowest is. Pure.

    Never more than a quarter of the time-out, so that a wrong memory cannot eat the hold.
    """
    if expected_ms is None or slowest_ms is None:
        return 0.0
    return min(max(slowest_ms - expected_ms, 0.0) / 1000, hold_timeout_s / 4)
