"""Manifests: the one document that makes a capture exist. Written last; enough to restore without anything but the
repository.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, NonNegativeInt, PositiveInt, StringConstraints

from freezeframe.contract.identity import DiskIdentity
from freezeframe.contract.message import CaptureId, Digest, DiskTarget, GuestUuid, HostId, Label, Shape
from freezeframe.contract.proof import Proof
from freezeframe.contract.result import SkippedDisk
from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy
from freezeframe.repository.document import Document, DocumentDamagedError, DocumentNewerError, parse
from freezeframe.repository.errors import ManifestDamaged, ManifestNewer
from freezeframe.repository.lineage import Lineage

__all__ = ["DiskCapture", "GuestCapture", "Imported", "Instant", "Manifest", "SkippedDisk", "parse_manifest"]

#: A guest's name, only a label: libvirt refuses `/` and newlines in it, and so do we.
GuestName = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^/\n]+$")]


class DiskCapture(Shape):
    """One disk of a guest: where its bytes are, and how they were read."""

    target: DiskTarget
    source: str  # the file or device that the guest used
    source_format: str
    #: What the disk is. Without it nobody can tell later whether a disk is this one, so no incremental is built upon it.
    identity: Annotated[DiskIdentity | None, Field(exclude_if=lambda identity: identity is None)] = None
    size_bytes: PositiveInt
    chunk_bytes: PositiveInt
    kind: CaptureKind
    full_reason: str | None = None  # why it is full although an incremental was wished for
    parent_capture_id: CaptureId | None = None
    parent_index: Digest | None = None
    checkpoint: str | None = None  # the checkpoint that begins with this capture; None where a disk cannot carry one
    index: Digest
    bytes_read: NonNegativeInt
    bytes_stored: NonNegativeInt  # what the repository grew by, in envelopes and the index
    chunks_new: NonNegativeInt
    chunks_known: NonNegativeInt
    dirty_bytes: NonNegativeInt | None = None  # what the checkpoint's bitmap said; None for a full


class GuestCapture(Shape):
    """One guest's part of a capture."""

    guest_uuid: GuestUuid
    name: GuestName
    host_id: HostId
    domain_xml: str  # the definition of its next start
    live_xml: str = ""  # as it ran when it was captured: with disks that were attached to that run only
    autostart: bool | None = None  # whether it started with its host; None where that is not known
    consistency: Consistency
    hold_ms: float | None
    disks: tuple[DiskCapture, ...]
    skipped: tuple[SkippedDisk, ...] = ()
    warnings: tuple[str, ...] = ()


class Instant(Shape):
    """When the capture's instant was. For people: what is proven is in the proof, which compares no two clocks."""

    at: AwareDatetime


class Imported(Shape):
    """Where a capture comes from that no host of ours has made. What was claimed of it there is kept, not believed."""

    source: Literal["export", "images"]
    capture_id: CaptureId | None = None  # what it was when it was exported
    consistency: Consistency | None = None
    program: str | None = None


class Manifest(Document):
    """A sealed capture. One manifest has one form, so that sealing twice can be told from sealing differently."""

    format: Literal[1] = 1
    capture_id: CaptureId
    created_at: AwareDatetime
    group: Label | None = None
    tags: tuple[Label, ...] = ()
    instant: Instant
    hold: HoldKind
    policy: Policy
    consistency: Consistency
    kind: CaptureKind
    guests: tuple[GuestCapture, ...]
    proof: Proof | None
    imported: Annotated[Imported | None, Field(exclude_if=lambda imported: imported is None)] = None
    #: Where it stands among all that were sealed; given by the seal, and none in one that an older version has sealed.
    lineage: Annotated[Lineage | None, Field(exclude_if=lambda lineage: lineage is None)] = None

    def __eq__(self, other: object) -> bool:
        """Return True for the same capture, wherever it stands among others: sealing it twice is sealing it once."""
        if not isinstance(other, Manifest):
            return NotImplemented
        return super(Manifest, self.unplaced()).__eq__(other.unplaced())

    def __hash__(self) -> int:
        return hash(self.capture_id)

    def unplaced(self) -> Manifest:
        """Return it without its lineage."""
        return self if self.lineage is None else self.changed({"lineage": None})

    def disks(self) -> list[tuple[GuestCapture, DiskCapture]]:
        return [(guest, disk) for guest in self.guests for disk in guest.disks]


def parse_manifest(data: bytes, capture_id: str, place: str) -> Manifest:
    """Return the manifest of `capture_id` in `data`, which was found at `place`.

    Raises ManifestDamaged, and ManifestNewer for one that a newer version has written; both name the place.
    """
    try:
        manifest = parse(Manifest, data)
    except DocumentNewerError as error:
        raise ManifestNewer(f"Manifest {place} was written by a newer version of freezeframe: {error}.") from error
    except DocumentDamagedError as error:
        raise ManifestDamaged(f"Manifest {place} {error}.") from error
    if manifest.capture_id != capture_id:
        raise ManifestDamaged(f"Manifest {place} is of another capture, {manifest.capture_id}.")
    return manifest
