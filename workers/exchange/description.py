"""The description of an image set: export.json, for programs. Its version is its own, not the repository's.

It has no checksum (SHA256SUMS has one of it), and else follows the rule of `freezeframe.repository.document`: a key that this
version does not know is ignored, unless it is listed as critical: then a newer version has written the set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, PositiveInt, StringConstraints

from freezeframe.contract.message import UNLESS_EMPTY, CaptureId, Digest, DiskTarget, GuestUuid, HostId, Label, Shape
from freezeframe.contract.words import Consistency, HoldKind, Policy
from freezeframe.repository import SkippedDisk
from freezeframe.repository.document import Document, DocumentDamagedError, DocumentNewerError, understood, whole
from freezeframe.repository.manifest import GuestName
from workers.exchange.errors import ImageSetNewerError, ImageSetNotFoundError, ImageSetUnfitError
from workers.restore.image import ImageFormat

FILE: Final = "export.json"
SUMS: Final = "SHA256SUMS"
README: Final = "README.txt"
DEFINE: Final = "define"

#: A description of 10,000 disks has 5 MB; of a longer file no more is read.
_MOST_BYTES: Final = 64 << 20

#: A file of the set itself: no separator, and nothing that is a way out of the directory.
FileName = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^/\x00.-][^/\x00]*$")]


class ExportedDisk(Shape):
    target: DiskTarget
    file: FileName
    format: ImageFormat
    size_bytes: PositiveInt  # as the guest saw it
    sha256: Digest  # of the file
    source: str  # what the guest used when it was captured
    source_format: str


class ExportedGuest(Shape):
    guest_uuid: GuestUuid
    name: GuestName
    host_id: HostId
    consistency: Consistency
    hold_ms: float | None
    xml: FileName  # as captured
    define: str | None  # for `virsh define`; None if none could be made
    disks: tuple[ExportedDisk, ...]
    skipped: tuple[SkippedDisk, ...] = ()
    warnings: tuple[str, ...] = ()
    live_xml: Annotated[str, UNLESS_EMPTY] = ""  # as it ran: with disks that were attached to that run only
    autostart: Annotated[bool | None, Field(exclude_if=lambda value: value is None)] = None  # None: not known


class Description(Document):
    kind: Literal["freezeframe-export"] = "freezeframe-export"
    format: Literal[1] = 1
    program: str  # the version of freezeframe that wrote it
    capture_id: CaptureId
    created_at: AwareDatetime
    instant: AwareDatetime
    group: Label | None
    tags: tuple[Label, ...]
    hold: HoldKind
    policy: Policy
    consistency: Consistency
    guests: tuple[ExportedGuest, ...]


def read(directory: Path) -> Description:
    """Read the description of an image set.

    Raises ImageSetNotFoundError, ImageSetNewerError and ImageSetUnfitError, whatever is in there.
    """
    place = directory / FILE
    try:
        with place.open("rb") as file:
            data = file.read(_MOST_BYTES)
    except OSError as error:
        raise ImageSetNotFoundError(f"{directory} is no image set: {FILE} cannot be read: {error.strerror}.") from error
    try:
        return understood(Description, whole(Description, data, lambda _: True))
    except DocumentNewerError as error:
        raise ImageSetNewerError(f"{place} was written by a newer version of freezeframe: {error}.") from error
    except DocumentDamagedError as error:
        raise ImageSetUnfitError(f"{place} {error}, so it cannot be used.") from error
