"""What will be captured, on which host, and what each disk may build upon."""

from __future__ import annotations

from freezeframe.contract.epoch import Epoch
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.identity import DiskIdentity
from freezeframe.contract.message import CaptureId, Digest, DiskTarget, GuestUuid, HostId, Message, Shape
from freezeframe.contract.words import Method


class ParentDisk(Shape):
    """A sealed capture of a disk: what an incremental may build upon, if the host proves the disk and the chain."""

    capture_id: CaptureId
    checkpoint: str
    index: Digest
    size_bytes: int
    chunk_bytes: int
    identity: DiskIdentity | None = None  # None: the capture does not say which disk it read
    suspect: bool = False  # an audit has found a disk that is not what this capture has of it


class DiskPlan(Shape):
    """A capture of a disk, and the target that the disk had then: it may have another one now."""

    target: DiskTarget
    parent: ParentDisk


class GuestPlan(Shape):
    """One guest of a capture. `parents` holds the newest capture of each disk known; the host finds out which disk is which."""

    guest_uuid: GuestUuid
    name: str
    hold: GuestHold
    parents: tuple[DiskPlan, ...] = ()
    skip: tuple[DiskTarget, ...] = ()
    decrypt: tuple[DiskTarget, ...] = ()  # encrypted disks whose plain text may be captured


class HostPlan(Shape):
    host_id: HostId
    guests: tuple[GuestPlan, ...]


class LeftOutGuest(Shape):
    """A guest that a capture of every guest does without, and why."""

    guest: str
    host: HostId
    reason: str


class Plan(Message):
    """The whole of a capture, made once from the inventory and the repository, and then only followed.

    But for guests that have moved to another host since: they are found again before any guest is held.
    """

    capture_id: CaptureId
    epoch: Epoch
    method: Method
    chunk_bytes: int
    repository_id: str
    hosts: tuple[HostPlan, ...]
    left_out: tuple[LeftOutGuest, ...] = ()
