"""The account of a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Why(StrEnum):
    """The reason for which a capture was not copied."""

    DAMAGED = "damaged"
    NEWER = "newer"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Left:
    """A capture that was wanted, and is not whole in the copy."""

    capture_id: str
    why: Why
    reason: str
    in_copy: bool = False  # its manifest is in the copy
    advice: str = ""


class Progress(NamedTuple):
    """The state of a copy while it goes on."""

    capture_id: str
    number: int  # of the capture, from 1
    captures: int  # that are to be copied
    bytes_done: int  # of this capture's disks
    bytes_total: int
    bytes_copied: int  # of all chunks that were sent


OnProgress = Callable[[Progress], None]


@dataclass
class CopyReport:
    """The captures that are at the destination now, and those that are not. Ids in the order of the captures."""

    source: str
    destination: str
    id: str
    dry_run: bool = False
    created: bool = False
    copied: list[str] = field(default_factory=list)  # or to be copied, if it was only asked
    there: list[str] = field(default_factory=list)  # before, of those that were wanted; their data is not looked at
    left: list[Left] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # forgotten at the source while this copied
    forgotten_there: list[str] = field(default_factory=list)  # and so not copied again
    only_there: list[str] = field(default_factory=list)  # forgotten at the source, and kept in the copy
    chunks_copied: int = 0
    chunks_known: int = 0  # asked for, and there
    bytes_copied: int = 0
    notes: list[str] = field(default_factory=list)  # documents that could not be copied

    @property
    def damaged(self) -> bool:
        return any(one.why is Why.DAMAGED for one in self.left)

    @property
    def whole(self) -> bool:
        """Return True if all that was wanted is there."""
        return not self.left and not self.notes
