"""A uniform sample of numbers that come as ranges, one after another, without keeping the ranges. Pure but for chance.

Li's algorithm L: the first numbers fill the sample; after that it is known in advance how many numbers to pass over until the
next one takes the place of another, so a range of a million numbers costs one comparison. [K.-H. Li, ACM TOMS 20 (4), 1994]
"""

from __future__ import annotations

import math
from random import Random, SystemRandom


class Sample:
    """At most `most` of all numbers offered, each as likely as any other; all of them if there are no more."""

    def __init__(self, most: int, chance: Random | None = None) -> None:
        self.chosen: list[int] = []
        self._most = most
        self._chance = chance or SystemRandom()
        self._passed = 0  # numbers offered since it was full
        self._next = 0  # the number of these that comes into the sample next
        self._weight = 1.0

    def offer(self, run: range) -> None:
        filling = min(self._most - len(self.chosen), len(run))
        if filling:
            self.chosen.extend(run[:filling])
            if len(self.chosen) == self._most:
                self._skip_from(0)
            run = run[filling:]
        end = self._passed + len(run)
        while self._next < end and len(self.chosen) == self._most:
            self.chosen[self._chance.randrange(self._most)] = run[self._next - self._passed]
            self._skip_from(self._next + 1)
        self._passed = end

    def _skip_from(self, first: int) -> None:
        self._weight *= math.exp(math.log(self._unit()) / self._most)
        self._next = first + math.floor(math.log(self._unit()) / math.log1p(-self._weight))

    def _unit(self) -> float:
        """Between 0 and 1, neither of them."""
        return (self._chance.getrandbits(53) + 0.5) / (1 << 53)
