"""The guests that this host has prepared for a capture, by its stored results: one for each order, which may be several.

A result that cannot be read costs the guests that it alone has, and no others (invariant 11). It is named, and it stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from freezeframe.contract.result import PreparedGuest, PrepareResult
from freezeframe.contract.words import Step
from workers import durable
from workers.journal import CaptureJournal


@dataclass(frozen=True)
class Prepared:
    """What the results say: guests by their UUID, and why some of it cannot be read, a sentence a file."""

    guests: dict[str, PreparedGuest]
    unread: tuple[str, ...] = ()


def read_prepared(journal: CaptureJournal) -> Prepared:
    """Return all guests that were prepared, by whichever order. Raises OSError if the results cannot be listed."""
    guests: dict[str, PreparedGuest] = {}
    unread: list[str] = []
    for path in journal.result_paths(Step.PREPARE):
        try:
            result = PrepareResult.model_validate_json(durable.read(path) or "")
        except OSError as error:
            unread.append(f"{path} cannot be read: {error.strerror}.")
        except ValidationError as error:
            unread.append(f"{path} is damaged or of another version of freezeframe: {error.error_count()} faults.")
        else:
            guests |= {guest.guest_uuid: guest for guest in result.guests if not guest.fault}
    return Prepared(guests, tuple(unread))
