"""What will be captured, on which host, and what each disk may build upon."""

from __future__ import annotations

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.message import CaptureId, Digest, DiskTarget, GuestUuid, HostId, Message, Shape
from freezeframe.contract.words import Method


class ParentDisk(Shape):
    """The newest sealed capture of a disk: what an incremental would build upon, if the host can prove the chain."""

    capture_id: CaptureId
    checkpoint: str
    index: Digest
    size_bytes: int
    chunk_bytes: int


class DiskPlan(Shape):
    target: DiskTarget
    parent: ParentDisk | None = None


class GuestPlan(Shape):
    """One guest of a capture. `parents` holds the disks known from earlier captures; the host finds the rest."""

    guest_uuid: GuestUuid
    name: str
    hold: GuestHold
    parents: tuple[DiskPlan, ...] = ()
    skip: tuple[DiskTarget, ...] = ()

    def parent_of(self, target: str) -> ParentDisk | None:
        return next((disk.parent for disk in self.parents if disk.target == target), None)


class HostPlan(Shape):
    host_id: HostId
    guests: tuple[GuestPlan, ...]


class Plan(Message):
    """The whole of a capture, made once from the inventory and the repository, and then only followed.

    But for guests that have moved to another host since: they are found again before any guest is held.
    """

    capture_id: CaptureId
    epoch: int
    method: Method
    chunk_bytes: int
    repository_id: str
    hosts: tuple[HostPlan, ...]
