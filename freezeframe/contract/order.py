"""Orders: what the orchestrator asks of a host, one kind for each step of the path."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from freezeframe.contract.epoch import Epoch
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.message import CaptureId, Digest, DiskTarget, GuestUuid, HostId, Message, Shape
from freezeframe.contract.names import transfer_part
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.words import CaptureKind, Method


class Order(Message):
    """What all orders carry. A host refuses an order after `not_after`, and one whose epoch is older than it has seen
    for the guest.
    """

    capture_id: CaptureId
    epoch: Epoch
    host_id: HostId
    not_after: datetime

    @property
    def part(self) -> str:
        """Which part of the step this is, for a step that has more than one on a host."""
        return ""


class PrepareOrder(Order):
    """Do everything that is slow or doubtful before any guest is touched."""

    method: Method
    repository_id: str
    chunk_bytes: int
    guests: tuple[GuestPlan, ...]
    round: int = 0  # above 0: guests that were not found where the plan had them first

    @property
    def part(self) -> str:
        return f"round{self.round}" if self.round else ""


class GuestToHold(Shape):
    """One guest of a hold, and how it is held."""

    guest_uuid: GuestUuid
    hold: GuestHold


class HoldOrder(Order):
    """Hold the prepared guests, begin their backups, meet the other hosts, let the guests go."""

    repository_id: str
    members: Annotated[int, Field(ge=1)]  # how many hosts meet
    guests: tuple[GuestToHold, ...]
    muster_timeout_s: float
    hold_timeout_s: float
    slowest_hold_ms: float | None = None  # of all guests of the capture; faster ones start later
    all_or_nothing: bool  # policy `all`: one guest's failure lets every host go at once


class TransferOrder(Order):
    """Read one disk's export and write what was read to the repository."""

    guest_uuid: GuestUuid
    guest_name: str
    target: DiskTarget
    size_bytes: int
    chunk_bytes: int
    kind: CaptureKind
    checkpoint: str | None
    parent_index: Digest | None
    parent_capture_id: CaptureId | None = (
        None  # whose index that is; it is marked if it turns out to be of another disk
    )
    parent_checkpoint: str | None = None  # since which the export tells changes; the parent's index must have begun it
    limit_bytes_s: int | None = None  # of this capture; the host's own settings may be stricter

    @model_validator(mode="after")
    def _builds_upon_something(self) -> Self:
        """Chunks that are not dirty would become holes without a parent."""
        if (self.kind is CaptureKind.INCREMENTAL) != (self.parent_index is not None):
            raise ValueError(
                f"an order for a {self.kind} capture {'without' if self.parent_index is None else 'with'} a parent"
            )
        return self

    @property
    def part(self) -> str:
        return transfer_part(self.guest_uuid, self.target)


class ReleaseOrder(Order):
    """End the backups and leave each guest as it was found; only the guests of the sealed manifest keep checkpoints.

    None: the orchestrator does not know whether there is a manifest. All guests keep their checkpoints and their claims until
    recovery has found out.
    """

    sealed_guests: tuple[GuestUuid, ...] | None = ()
