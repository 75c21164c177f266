"""When scratch files will have used up the room, and which guest's backup has to end for it. Pure.

    free room │■■■■■■■■■■■■■■■■■■■■│ floor │     the floor is what guests write while a backup is being ended, so it grows
                                             with the rate at which the room shrinks; at least FLOOR_BYTES

The next look comes before the fastest write that is assumed could use half of the room above the floor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)

#: The floor where nothing grows: one burst of a guest between two looks.
FLOOR_BYTES: Final = 32 << 20
#: Seconds that the end of a backup is given before the room must not be used up: telling libvirt, cancelling the jobs and
#: removing the files takes some tens of milliseconds on a machine at rest.
ENDING_S: Final = 2.0
#: Bytes a second that all guests of a host together are assumed to be able to write: an NVMe drive or two.
FASTEST_BYTES_S: Final = 4 << 30
#: Seconds between two looks at most, and at least.
LONGEST_PAUSE_S: Final = 1.0
SHORTEST_PAUSE_S: Final = 0.02
#: Seconds over which growth is measured.
WINDOW_S: Final = 3.0


class Growth(Generic[KeyT]):
    """The rate at which a size grows, from its value at each look."""

    def __init__(self) -> None:
        self._seen: dict[KeyT, deque[tuple[float, int]]] = {}

    def look(self, at_s: float, sizes: Mapping[KeyT, int]) -> None:
        """Remember sizes of now; what is not in `sizes` any more is forgotten."""
        self._seen = {key: self._seen.get(key, deque()) for key in sizes}
        for key, size in sizes.items():
            seen = self._seen[key]
            seen.append((at_s, size))
            while len(seen) > 2 and seen[1][0] <= at_s - WINDOW_S:
                seen.popleft()

    def bytes_s(self, key: KeyT) -> float:
        """Return the growth within the window, 0 before the second look."""
        seen = self._seen.get(key)
        if not seen:
            return 0.0
        (first_s, first), (last_s, last) = seen[0], seen[-1]
        return max(0.0, (last - first) / (last_s - first_s)) if last_s > first_s else 0.0


@dataclass
class Forecast(Generic[KeyT]):
    """The scratch files of all open backups, and the free room, over time."""

    _files: Growth[KeyT] = field(default_factory=Growth)
    _used: Growth[str] = field(default_factory=Growth)
    _occupied: dict[KeyT, int] = field(default_factory=dict)
    _free_bytes: int = 0

    def look(self, at_s: float, free_bytes: int, occupied: Mapping[KeyT, int]) -> None:
        if self._occupied.keys() - occupied.keys():  # one has ended: how the room shrank with it says nothing any more
            self._used = Growth()
        self._free_bytes = free_bytes
        self._occupied = dict(occupied)
        self._files.look(at_s, occupied)
        self._used.look(at_s, {"": -free_bytes})

    @property
    def bytes_s(self) -> float:
        """Return the bytes a second by which the room shrinks: the growth of all scratch files, or of all files, if more."""
        return max(sum(map(self._files.bytes_s, self._occupied)), self._used.bytes_s(""))

    @property
    def floor_bytes(self) -> int:
        return max(FLOOR_BYTES, int(self.bytes_s * ENDING_S))

    def to_end(self, ending: Collection[KeyT] = ()) -> KeyT | None:
        """Return whose backup must end now: the fastest-growing of those that are not ending yet; None while there is room.

        Where none grows, the largest: any guest's next write needs the room.
        """
        if self._free_bytes > self.floor_bytes:
            return None
        left = [key for key in self._occupied if key not in ending]
        return max(left, key=lambda key: (self._files.bytes_s(key), self._occupied[key]), default=None)

    def pause_s(self) -> float:
        """Return how long the next look may wait."""
        above = max(0, self._free_bytes - self.floor_bytes)
        return min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, above / 2 / FASTEST_BYTES_S))
