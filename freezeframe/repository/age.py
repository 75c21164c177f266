"""The age of captures. The time in a capture's id is by the clock of the caller, which may be wrong; the store has its own.

    id's time ≤ manifest's time in the store + CLOCKS_APART      believed: a copied repository keeps its order
    id's time later than that                                    contradicted: the store's time counts

The store's time of a manifest is when it was sealed, or copied: later than its date is no contradiction, earlier is one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from ulid import ULID

#: What two clocks may differ by before one of them is wrong: file servers without NTP are minutes off.
CLOCKS_APART: Final = timedelta(minutes=10)


#: What the clocks of a host and a store may differ by at least, whatever the grace: seconds of a slow answer, a host that has
#: just been started.
LEAST_DRIFT: Final = timedelta(minutes=1)


def drift_allowed(grace: timedelta | None = None) -> timedelta:
    """Return how far a host's clock may be from the store's.

    A quarter of the grace at most: the argument of garbage collection is by the store's clock alone, and whatever an older
    version has decided by two hosts' clocks has half the grace left. And not more than what contradicts a capture's date:
    else captures would be made that `latest` and retention do not believe.
    """
    return CLOCKS_APART if grace is None else min(CLOCKS_APART, max(LEAST_DRIFT, grace / 4))


def credible(date: datetime, stored_at: datetime) -> datetime:
    """Return `date`, or the store's time if that contradicts it."""
    return stored_at if date > stored_at + CLOCKS_APART else date


def not_before(instant: datetime, capture_id: str, created_at: datetime) -> datetime:
    """Return the instant, or when the capture was asked for and made if both contradict it: nothing is captured before that.

    The instant is by the clock of Redis, which may have gone back.
    """
    begun_at = min(asked_at(capture_id), created_at)
    return begun_at if instant < begun_at - CLOCKS_APART else instant


def asked_at(capture_id: str) -> datetime:
    """Return the time in a capture's id. One that no calendar has is the last that one has."""
    milliseconds = ULID.from_str(capture_id).milliseconds
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def newest_first(stored: dict[str, datetime]) -> list[str]:
    """Return captures by age, from the store's times of their manifests."""
    return sorted(stored, key=lambda one: (credible(asked_at(one), stored[one]), one), reverse=True)
