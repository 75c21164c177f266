"""The oldest of what is remembered of captures, by their ids: what goes first when there is too much."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from typing import Final

#: Ids beyond twice those that are known, at which the others are thrown out: a few, so that little is not sorted for nothing.
SPARE: Final = 64


class Oldest:
    """Ids of captures, the oldest first. Those that are not known any more are passed over, and do not pile up."""

    def __init__(self) -> None:
        self._ids: list[str] = []

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, capture_id: str, known: Collection[str]) -> bool:
        """Add a capture; return True if ids that are not among the `known` ones were thrown out, as there were many."""
        if len(self._ids) > 2 * len(known) + SPARE:
            self._ids = sorted({*known, capture_id})
            return True
        heapq.heappush(self._ids, capture_id)
        return False

    def pop(self) -> str:
        return heapq.heappop(self._ids)
