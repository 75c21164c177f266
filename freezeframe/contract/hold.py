"""How one guest of a capture is held."""

from __future__ import annotations

from freezeframe.contract.message import Mountpoint, Shape
from freezeframe.contract.words import HoldKind


class GuestHold(Shape):
    """`mountpoints` are the only filesystems that are frozen; none named means all of them."""

    kind: HoldKind
    mountpoints: tuple[Mountpoint, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} ({', '.join(self.mountpoints)})" if self.mountpoints else str(self.kind)
