"""The guests that this host has prepared for a capture, by its stored results: one for each order, which may be several.

A result that cannot be read costs the guests that it alone has, and no others (invariant 11). It is named, and it stays.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from freezeframe.contract.result import HoldResult, PreparedGuest, PrepareResult, StorageUse
from freezeframe.contract.words import Step
from workers import durable
from workers.journal import CaptureJournal


@dataclass(frozen=True)
class Prepared:
    """What the results say: guests by their UUID, and why some of it cannot be read, a sentence a file."""

    guests: dict[str, PreparedGuest]
    unread: tuple[str, ...] = ()
    uses: tuple[StorageUse, ...] = ()  # that the other hosts were told of

    def name_of(self, guest_uuid: str) -> str:
        """Return a guest's name; its UUID if this host has not prepared it."""
        return self.guests[guest_uuid].name if guest_uuid in self.guests else guest_uuid


def read_prepared(journal: CaptureJournal) -> Prepared:
    """Return all guests that were prepared, by whichever order. Raises OSError if the results cannot be listed."""
    guests: dict[str, PreparedGuest] = {}
    unread: list[str] = []
    uses: list[StorageUse] = []
    for path in journal.result_paths(Step.PREPARE):
        try:
            result = PrepareResult.model_validate_json(durable.read(path) or "")
        except OSError as error:
            unread.append(f"{path} cannot be read: {error.strerror}.")
        except ValidationError as error:
            unread.append(f"{path} is damaged or of another version of freezeframe: {error.error_count()} faults.")
        else:
            guests |= {guest.guest_uuid: guest for guest in result.guests if not guest.fault}
            uses += result.uses
    return Prepared(guests, tuple(unread), tuple(uses))


def name_of(journal: CaptureJournal, guest_uuid: str) -> str:
    """Return a guest's name; its UUID if this host has not prepared it, or its results cannot be listed."""
    try:
        return read_prepared(journal).name_of(guest_uuid)
    except OSError:
        return guest_uuid


def told_uses(journal: CaptureJournal) -> tuple[StorageUse, ...]:
    """Return all uses of storage that this host has told in prepare and hold. What cannot be read is told again."""
    uses: list[StorageUse] = []
    with suppress(OSError):
        uses += read_prepared(journal).uses
    with suppress(OSError, ValidationError):
        if (text := journal.result(Step.HOLD, "")) is not None:
            uses += HoldResult.model_validate_json(text).uses
    return tuple(uses)
