"""The walk of a transfer over its disk: which chunk a thread reads next.

    disk      │ 0      │ 1      │ 2      │ 3      │ 4      │ 5      │ 6      │ 7      │      up to 64 stretches
    a thread    ▓▓▓▓▓▓▓▓          ▓▓▓▓ ─▶
    another                                                  ░░░░░░░░          ░░░ ─▶

Each thread reads a stretch from its beginning to its end, and stretches that follow each other lie far apart. So while one
thread has what keeps a processor busy another has, as chance has it, what does not compress and keeps the device busy; in
order, all would have the same kind at once and wait for the same. When no stretch is left to begin, threads help with those
that others are in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Final

#: Enough to mix; and none so short that asking for its extents counts.
_MOST: Final = 64
_LEAST_BYTES: Final = 64 << 20

_GOLDEN: Final = 0.618


def stretches(slots: int, chunk_bytes: int) -> list[range]:
    """All slots of a disk, cut into stretches of about the same length, in the order in which they are begun. Pure."""
    count = 1
    while count < _MOST and 2 * count * _LEAST_BYTES <= slots * chunk_bytes:
        count *= 2
    stride = int(count * _GOLDEN) | 1  # odd, so that all are met; and so long that each is far from those begun before
    cuts = [slots * number // count for number in range(count + 1)]
    return [range(cuts[one], cuts[one + 1]) for one in (step * stride % count for step in range(count))]


class Walk:
    """Hands out what `slots_of` yields for each stretch, each slot once. Any thread may call, and is known by its thread.

    `slots_of` and its iterators are never used by two threads at once.
    """

    def __init__(self, slots: int, chunk_bytes: int, slots_of: Callable[[range], Iterator[int]]) -> None:
        self._waiting = iter(stretches(slots, chunk_bytes))
        self._slots_of = slots_of
        self._begun: dict[int, Iterator[int]] = {}
        self._lock = threading.Lock()

    def next(self) -> int | None:
        """The next slot for the calling thread; None when there is no more."""
        with self._lock:
            own = threading.get_ident()
            while (stretch := self._begun.get(own) or self._begin(own)) is not None:
                slot = next(stretch, None)
                if slot is not None:
                    return slot
                del self._begun[own]
            return self._help()

    def _begin(self, thread: int) -> Iterator[int] | None:
        stretch = next(self._waiting, None)
        if stretch is None:
            return None
        self._begun[thread] = self._slots_of(stretch)
        return self._begun[thread]

    def _help(self) -> int | None:
        """Return a slot of a stretch that another thread is in, if one has any left."""
        slots = (slot for stretch in self._begun.values() for slot in stretch)
        return next(slots, None)
