"""Playing one cell, and judging it."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from .account import Row
from .bench import Bench
from .bounds import EYE_S
from .kinds import Kind
from .stage import STAGES
from .watch import Capture, Clocks, longest_gap_s


class Watch:
    """From before a capture until all is clean again: how things were, how long guests were held, and the row of it."""

    def __init__(self, bench: Bench, fault: str, step: str) -> None:
        self._bench = bench
        self._fault, self._step = fault, step
        bench.account.begun.add((fault, step))
        self._before = bench.conditions()
        self._since = {name: Clocks.of(guest) for name, guest in bench.guests().items()}
        self._freezes = bench.freezes()

    def judge(self, capture: Capture, bound_s: float, *, full_after: bool = False, blind: tuple[str, ...] = ()) -> Row:
        """Wait for the end, and until nothing is left; then capture once more and compare every byte."""
        bench = self._bench
        outcome = capture.end()
        settled_s = bench.settle(blind)
        held_s = self._held_s(blind)
        assert held_s <= bound_s + EYE_S, f"held for {held_s:.1f} s, bound {bound_s:g} s"
        bench.judge(capture, outcome, self._before, blind)
        return self._row(outcome, held_s, bound_s, settled_s, full_after=full_after)

    def quiet(self, outcome: str) -> Row:
        """Nothing may have come of it: nobody was held, nothing is different. Then capture once more, and compare."""
        settled_s = self._bench.settle()
        held_s = self._held_s(())
        assert self._bench.freezes() == self._freezes  # a fact, where a pause of a writer may have been the machine's
        assert self._bench.conditions() == self._before
        return self._row(outcome, held_s, 0.0, settled_s, full_after=False)

    def _row(self, outcome: str, held_s: float, bound_s: float, settled_s: float, *, full_after: bool) -> Row:
        if outcome == "slow-freeze":
            self._bench.follow_advice()
        following = self._bench.exact(f"{self._fault} {self._step}", full=full_after)
        when = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
        row = Row(self._fault, self._step, outcome, held_s, bound_s, settled_s, following, when)
        self._bench.account.rows.append(row)
        print(row)
        return row

    def held_s(self, name: str) -> float:
        """Return how long one guest was held, as its writers saw it."""
        return longest_gap_s(self._bench.lab.guest(name), self._since[name])

    def _held_s(self, blind: tuple[str, ...]) -> float:
        """The longest that any guest was held, as its writers saw it."""
        return max(
            longest_gap_s(self._bench.lab.guest(name), since)
            for name, since in self._since.items()
            if name not in blind
        )


def play(bench: Bench, kind: Kind, step: str) -> Row:
    """One fault at one step."""
    watch = Watch(bench, kind.name, step)
    try:
        stage: AbstractContextManager[Capture] = STAGES[step](bench)
        with stage as capture:
            struck = time.monotonic()
            kind.strike(bench)
        time.sleep(kind.lasts_s)
    finally:
        bench.mended(kind.mend)
    return watch.judge(capture, kind.bound_s(time.monotonic() - struck), full_after=kind.full_after, blind=kind.blind)
