"""The changes that a capture makes to a guest and its host, as lines of the journal (`workers/journal.py`).

Every line carries the version of its format. Lines of older versions are read; a line of a newer one, with a field or a change
that this version does not know, or one that is damaged, is not understood, and never passed over as if it were not there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from freezeframe.contract.fault import Fault
from freezeframe.contract.message import UNLESS_EMPTY, DiskTarget, GuestUuid, Shape
from freezeframe.contract.words import HoldKind
from workers import durable

#: The newest version of a line's format. 2: a guest that was let go may be settled. 3: a guest may have left while it was held.
VERSION: Final = 3


class _GuestChange(Shape):
    """`v` is the version of the line's format. A line without it is older; this version reads all older ones."""

    v: Literal[1, 2] = 2
    guest_uuid: GuestUuid


class ClaimChange(_GuestChange):
    """The guest was claimed."""

    change: Literal["claim"] = "claim"


class ScratchChange(_GuestChange):
    """A scratch file was made, and if it is encrypted its passphrase was given to libvirt."""

    change: Literal["scratch"] = "scratch"
    path: Path
    secret: Annotated[str | None, UNLESS_EMPTY] = None  # the UUID by which libvirt knows the passphrase


class ReservationChange(_GuestChange):
    """Room for the guest's scratch files was promised (`workers/scratch`)."""

    change: Literal["reservation"] = "reservation"
    guest: str
    needed_bytes: int
    targets: tuple[DiskTarget, ...]
    images: tuple[Path, ...] = ()  # of this host, in which a new bitmap of the guest may be stored


class GivenUpChange(_GuestChange):
    """The guest's backup is ended before its transfers are done, for this reason."""

    change: Literal["given-up"] = "given-up"
    fault: Fault


class FreedChange(_GuestChange):
    """The guest's backup was ended before the release, and its scratch files are gone. Its checkpoint stays."""

    change: Literal["freed"] = "freed"


class BackupChange(_GuestChange):
    """A backup was begun, and a checkpoint with it."""

    change: Literal["backup"] = "backup"
    socket: Path
    checkpoint: str | None
    repository_id: str


class HoldChange(_GuestChange):
    """The guest was held."""

    change: Literal["hold"] = "hold"
    hold: HoldKind


class LetGoChange(_GuestChange):
    """The guest was let go and has confirmed it: the hold before this line needs no undoing any more.

    It is *settled* if the process that held it says so: no call is pending that could hold it again.
    """

    change: Literal["let-go"] = "let-go"
    settled: Annotated[bool, UNLESS_EMPTY] = False


class LeftChange(Shape):
    """The guest is not on this host any more, and nobody has seen it run since it was held: it may go on so elsewhere."""

    v: Literal[3] = 3
    change: Literal["left"] = "left"
    guest_uuid: GuestUuid
    at: AwareDatetime


class ThawPendingChange(_GuestChange):
    """All is undone but for a thaw that the agent does not answer. Another capture may take the guest over."""

    change: Literal["thaw-pending"] = "thaw-pending"


AnyChange = (
    ClaimChange
    | ReservationChange
    | ScratchChange
    | BackupChange
    | HoldChange
    | LetGoChange
    | LeftChange
    | ThawPendingChange
    | GivenUpChange
    | FreedChange
)


_line: TypeAdapter[AnyChange] = TypeAdapter(Annotated[AnyChange, Field(discriminator="change")])


def left_held(changes: Sequence[AnyChange]) -> LeftChange | None:
    """Return that the guest left this host while it was held; None if it has not, or was seen running since. Pure."""
    if any(isinstance(change, LetGoChange) for change in changes):
        return None
    return next((change for change in changes if isinstance(change, LeftChange)), None)


def hold_kind(changes: Sequence[AnyChange]) -> HoldKind:
    """Return how the guest is held, if it is. Pure."""
    return next((change.hold for change in reversed(changes) if isinstance(change, HoldChange)), HoldKind.NONE)


def thaw_is_pending(changes: Sequence[AnyChange]) -> bool:
    """Return True if all of a guest is undone but for a thaw that its agent has not answered. Pure."""
    kinds = {type(change) for change in changes}
    return ThawPendingChange in kinds and LetGoChange not in kinds


def is_freed(changes: Sequence[AnyChange]) -> bool:
    """Return True if a guest's scratch files are gone, and it was not claimed anew since. Pure."""
    last = next((one for one in reversed(changes) if isinstance(one, FreedChange | ClaimChange)), None)
    return isinstance(last, FreedChange)


def read_lines(text: str) -> tuple[list[AnyChange], str | None]:
    """Return the changes that are understood, oldest first, and which line is not, and why. Pure.

    A part of a line at the end is what a crash left of a change that was not made: it is passed over.
    """
    changes, trouble = [], None
    *whole, last = text.split("\n")
    for number, line in enumerate([*whole, "" if last and durable.is_torn(last) else last], 1):
        if line:
            try:
                changes.append(_line.validate_json(line))
            except ValidationError as error:
                trouble = trouble or f"line {number} is not understood: {_reason(line, error)}"
    return changes, trouble


def _reason(line: str, error: ValidationError) -> str:
    """Return in a few words why a line is not understood."""
    if durable.is_torn(line):
        return "it is damaged"
    fields = json.loads(line)
    version = fields.get("v", 1) if isinstance(fields, dict) else 1
    if isinstance(version, int) and version > VERSION:
        return f"a newer version of freezeframe wrote it (format {version})"
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:2])
