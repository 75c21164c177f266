"""What a caller asks for, and what it gets back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import LONGEST_HOLD_S, LONGEST_MUSTER_S, GuestHold
from freezeframe.contract.message import UNLESS_EMPTY, CaptureId, DiskTarget, Label, Message, Mountpoint, Shape
from freezeframe.contract.plan import LeftOutGuest
from freezeframe.contract.result import SkippedDisk
from freezeframe.contract.words import Consistency, HoldKind, Method, Policy, RunState, WantedKind
from freezeframe.naming import GuestWord


class DiskChoice(Shape):
    """One disk of one guest, as `guest:target`. The guest's name may have colons, the target has none."""

    guest: GuestWord
    target: DiskTarget

    @classmethod
    def parse(cls, text: str) -> DiskChoice:
        guest, _, target = text.rpartition(":")
        return cls(guest=guest, target=target)

    def __str__(self) -> str:
        return f"{self.guest}:{self.target}"


class HoldChoice(Shape):
    """How one guest is held, where that is not how the others are."""

    guest: GuestWord
    kind: HoldKind | None = None  # None: as the others
    mountpoints: tuple[Mountpoint, ...] = ()  # the only filesystems to freeze; none named means all


class CaptureRequest(Message):
    """Ask for one capture. The caller draws `capture_id`, so asking twice with one id is asking once."""

    capture_id: CaptureId
    guests: tuple[GuestWord, ...] = ()
    every_guest: bool = False  # all running guests of all hosts, instead of `guests`
    skip_disks: tuple[DiskChoice, ...] = ()  # disks that the caller agrees to leave out
    decrypt_disks: tuple[DiskChoice, ...] = ()  # encrypted disks whose plain text the caller agrees to have captured
    group: Label | None = None
    tags: tuple[Label, ...] = ()
    hold: HoldKind = HoldKind.FREEZE
    guest_holds: tuple[
        HoldChoice, ...
    ] = ()  # of one guest more than one only if they go together: a kind, mount points
    method: Method = Method.BACKUP_PULL
    policy: Policy = Policy.ALL
    kind: WantedKind = WantedKind.AUTO
    #: Seconds from a host's first freeze until it lets its guests go, released or not. 10 is what Windows VSS bears.
    hold_timeout_s: Annotated[float, Field(gt=0, le=LONGEST_HOLD_S)] = 10.0
    #: Seconds that the hosts wait for each other before any guest is held.
    muster_timeout_s: Annotated[float, Field(gt=0, le=LONGEST_MUSTER_S)] = 60.0
    #: Bytes a second that each disk is read with at most, within what its host's settings allow. Below 1 MiB a transfer would
    #: look as if it had stalled; above 1 TiB none is limited.
    limit_bytes_s: Annotated[int, Field(ge=1 << 20, le=1 << 40)] | None = None
    #: Wait for guests that are in another capture. Else their hosts refuse them.
    wait_for_guests: Annotated[bool, UNLESS_EMPTY] = False

    @model_validator(mode="after")
    def _names_guests(self) -> Self:
        if self.every_guest == bool(self.guests):
            raise ValueError("name the guests to capture, or ask for every guest, and not both")
        return self

    @model_validator(mode="after")
    def _mountpoints_are_frozen(self) -> Self:
        freezes = any(choice.kind is not None and choice.kind.freezes for choice in self.guest_holds)
        for choice in self.guest_holds:
            # without a kind of its own it may be one of two choices for one guest, which only the planner can tell
            may_freeze = choice.kind.freezes if choice.kind is not None else self.hold.freezes or freezes
            if choice.mountpoints and not may_freeze:
                raise ValueError(f"mount points of {choice.guest} are named, and its hold freezes none")
        return self

    def hold_of(self, choice: HoldChoice | None) -> GuestHold:
        """How a guest is held for which this was chosen."""
        if choice is None:
            return GuestHold(kind=self.hold)
        return GuestHold(kind=choice.kind or self.hold, mountpoints=choice.mountpoints)


class HeldGuest(Shape):
    """How long one guest was held, for the receipt."""

    guest: str
    host: str
    hold_ms: float | None
    consistency: Consistency


class SkippedGuestDisk(SkippedDisk):
    """A disk of one guest that the capture does not have."""

    guest: str


#: The code of a fault that says: this capture may be sealed. A receipt without it that has failed says that nothing was kept.
SEAL_UNKNOWN = "seal-unknown"


class Receipt(Message):
    """How a capture stands, or how it ended. Kept in Redis for a while; the manifest is what lasts."""

    capture_id: CaptureId
    state: RunState
    asked_at: datetime
    ended_at: datetime | None = None
    consistency: Consistency | None = None
    guests: tuple[HeldGuest, ...] = ()
    skipped_disks: tuple[SkippedGuestDisk, ...] = ()
    left_out: tuple[LeftOutGuest, ...] = ()  # guests that were not captured although every guest was asked for
    bytes_read: int = 0
    bytes_stored: int = 0
    faults: tuple[Fault, ...] = ()  # what made it fail, or what it did without
    warnings: tuple[str, ...] = ()
