"""What a host publishes of itself and its guests, every few seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from freezeframe.contract.epoch import SeenEpoch
from freezeframe.contract.message import UNLESS_EMPTY, GuestUuid, HostId, Message, Shape


class GuestEntry(Shape):
    guest_uuid: GuestUuid
    name: str
    state: str  # running, paused, shut off, …: virsh's words; or unmanaged: its QEMU runs, and libvirt has lost it
    captured_by: str | None = None  # the capture that has this guest in hand
    trouble: str | None = None  # what is wrong with this guest, or why part of this entry is not known


class StuckCapture(Shape):
    """A capture that the host could not undo, and why: a guest, a file, what to do."""

    capture_id: str
    problems: tuple[str, ...]


#: The version of what orchestrator and hosts say to each other: orders, results and the keys that both read. It rises when one
#: of the two could not do what the other, of the version before, asks for. Which program that is, `freezeframe_version` says.
#: 2: an order to hold has the number of its hosts; a host tells its own arrival only; definitions have a key of their own;
#: holds and releases have a queue of their own.
CONTRACT: Final = 2


class HostEntry(Message):
    host_id: HostId
    contract: int = CONTRACT  # 1 where an entry has none (`presence`)
    at: datetime
    clock_ahead_s: float | None = None  # of Redis's clock, as this host measured it; below 0: behind
    freezeframe_version: str
    libvirt_version: str
    qemu_version: str
    guests: tuple[GuestEntry, ...]
    open_captures: tuple[str, ...] = ()  # captures in this host's journal that are not undone or done yet
    stuck: tuple[StuckCapture, ...] = ()  # of these, what recovery could not undo when it last looked
    control_instance: str = (
        ""  # which worker process takes the orders of each queue; another one than before is a new one
    )
    data_instance: str = ""
    highest_epoch: Annotated[SeenEpoch, UNLESS_EMPTY] = (
        0  # that any guest of this host has seen: the next is to be above it
    )
