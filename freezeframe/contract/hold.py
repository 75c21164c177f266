"""How one guest of a capture is held."""

from __future__ import annotations

from typing import Final

from freezeframe.contract.message import Mountpoint, Shape
from freezeframe.contract.words import HoldKind

#: Seconds that a hold may last at most, and that hosts may wait for each other before it.
LONGEST_HOLD_S: Final = 600
LONGEST_MUSTER_S: Final = 3600


class GuestHold(Shape):
    """`mountpoints` are the only filesystems that are frozen; none named means all of them."""

    kind: HoldKind
    mountpoints: tuple[Mountpoint, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} ({', '.join(self.mountpoints)})" if self.mountpoints else str(self.kind)
