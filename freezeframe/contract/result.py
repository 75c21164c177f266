"""Results: what a host answers to an order. Failures are in them; none is ever raised across the wire."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from freezeframe.contract.fault import Fault
from freezeframe.contract.identity import DiskIdentity
from freezeframe.contract.message import (
    UNLESS_EMPTY,
    CaptureId,
    Digest,
    DiskTarget,
    GuestUuid,
    HostId,
    Message,
    Shape,
)
from freezeframe.contract.proof import HostProof
from freezeframe.contract.words import CaptureKind, Step

#: Codes of faults that say: the guest does not run on the host that was asked to prepare it. It may run on another.
NOT_HERE = frozenset({"guest-gone", "guest-not-running"})


class Result(Message):
    """What all results carry. `fault` is set when the whole step failed on this host."""

    capture_id: CaptureId
    host_id: HostId
    fault: Fault | None = None


class PreparedDisk(Shape):
    target: DiskTarget
    source: str
    source_format: str
    identity: DiskIdentity | None = None  # None: it could not be told which disk this is
    size_bytes: int
    readonly: bool = False  # the guest cannot write to it
    scratch_secret: Annotated[str | None, UNLESS_EMPTY] = (
        None  # of an encrypted scratch file: the UUID of its passphrase in the host's libvirt
    )
    kind: CaptureKind
    full_reason: str | None = None  # why it is full although an incremental was wished for
    parent_capture_id: CaptureId | None = None
    parent_index: Digest | None = None
    parent_checkpoint: str | None = None
    checkpoint: str | None = None  # the checkpoint that begins with this capture; None where a disk cannot carry one

    @model_validator(mode="after")
    def _builds_upon_something(self) -> Self:
        if (self.kind is CaptureKind.INCREMENTAL) != (self.parent_index is not None):
            raise ValueError(
                f"disk {self.target} is prepared for a {self.kind} capture, and its parent does not fit that"
            )
        return self


class SkippedDisk(Shape):
    target: DiskTarget
    reason: str


class PreparedGuest(Shape):
    guest_uuid: GuestUuid
    name: str
    fault: Fault | None = None
    expected_hold_ms: float | None = None  # how long it will take to be held, as far as its past tells
    # in the host's journal only: the orchestrator finds both in `names.definitions_key`
    domain_xml: Annotated[str, UNLESS_EMPTY] = ""  # the definition of its next start
    live_xml: Annotated[str, UNLESS_EMPTY] = ""  # as it runs now: with disks that are attached to this run only
    definition_bytes: Annotated[int, Field(ge=0), UNLESS_EMPTY] = 0  # of both there
    autostart: bool | None = None  # whether it starts with its host, which no definition says
    disks: tuple[PreparedDisk, ...] = ()
    skipped: tuple[SkippedDisk, ...] = ()
    moving_disks: tuple[DiskTarget, ...] = ()  # which the hold does not keep still, as far as can be proven
    filesystems: int = 0  # how many a freeze must answer at least, for the guest to count as still
    warnings: tuple[str, ...] = ()


class StorageUse(Shape):
    """The storage of one disk or passed-through device of a guest that runs on the host, captured or not.

    By the keys that mean the same storage on every host (`storage_key.is_everywhere`).
    """

    guest_uuid: GuestUuid
    guest: str
    target: str  # or the alias of a device
    readonly: bool = False
    shows: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    within: tuple[str, ...] = ()  # what it lies on: who writes to all of that writes to this


class PrepareResult(Result):
    guests: tuple[PreparedGuest, ...] = ()
    round: int = 0  # the order's
    uses: Annotated[
        tuple[StorageUse, ...], UNLESS_EMPTY
    ] = ()  # of all running guests, since each may be a second writer


_LaterUses = Annotated[tuple[StorageUse, ...], UNLESS_EMPTY]
"""Of guests that may write to storage which other hosts may have, as far as the host has not told that before."""


class HeldGuestFault(Shape):
    guest_uuid: GuestUuid
    fault: Fault


class HeldGuestWarning(Shape):
    """A premise of the guest's label that turned out not to hold."""

    guest_uuid: GuestUuid
    text: str


class HoldResult(Result):
    """`proof` is None only if the host did not get as far as holding a guest."""

    proof: HostProof | None = None
    arrived_us: int | None = None  # when this host had reported its guests held, by Redis's clock
    release_us: int | None = None
    release_arrivals: int | None = None  # how many members had arrived when the barrier released
    guest_faults: tuple[HeldGuestFault, ...] = ()
    guest_warnings: Annotated[tuple[HeldGuestWarning, ...], UNLESS_EMPTY] = ()
    uses: _LaterUses = ()  # since prepare, as they were when the guests ran again
    writers_unseen: Annotated[str, UNLESS_EMPTY] = ""  # why that could not be seen


class SeenUses(Result):
    """No step's: writers that a host has seen since its guests were held, told at once, also if they are gone by now."""

    uses: tuple[StorageUse, ...]
    writers_unseen: Annotated[str, UNLESS_EMPTY] = (
        ""  # why one that is gone was never known; the host's own guests are concerned too
    )


class TransferResult(Result):
    guest_uuid: GuestUuid
    target: DiskTarget
    index: Digest | None = None
    full_reason: str | None = None  # why it was read in full although its chain was proven
    audited_chunks: int = 0  # that are inherited, and were read and compared all the same
    inherited_differs: bool = False  # the disk was not what its older capture has of it
    writers_unseen: Annotated[str, UNLESS_EMPTY] = (
        ""  # a warning: it could not be seen whether another guest wrote to the disk while it was read
    )
    uses: _LaterUses = ()  # since prepare and the hold, as they were when the disk had been read
    bytes_read: int = 0
    bytes_stored: int = 0
    dirty_bytes: int | None = None
    chunks_new: int = 0
    chunks_known: int = 0
    seconds: float = 0.0


class ReleaseResult(Result):
    warnings: tuple[str, ...] = ()


class Acknowledgement(Message):
    """What a header task returns to its chord. The result itself is in the run's record, so that chords stay small."""

    capture_id: CaptureId
    step: Step
    host_id: HostId
    part: str = ""
    ok: bool
