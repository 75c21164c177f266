"""The store's clock. Sessions, runs and objects are compared by it alone; a host's own clock is compared with it.

    own clock    before ──── put tmp/x ──── time of tmp/x ──── after        apart by more than is allowed: ClockDrift
    store's                    theirs

A directory's clock is its file server's. Object storage gives whole seconds, and a file system may give the time of its last
tick: `theirs` is at most a second before the put.
"""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Final

from freezeframe.repository.errors import ClockDrift, ObjectNotFound
from freezeframe.repository.layout import CONDEMNED, FORGOTTEN, MANIFESTS, SESSIONS, TMP

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezeframe.repository.store.backend import Store

#: What a store's time is coarser than: whole seconds, of what was put a moment ago.
_COARSE: Final = timedelta(seconds=2)

#: Where the newest object is of a repository that somebody has worked in.
_BUSY: Final = (SESSIONS, CONDEMNED, MANIFESTS, FORGOTTEN, TMP)


@dataclass(frozen=True)
class Measured:
    """One look at both clocks: the store's time, and what it was by the own clock."""

    theirs: datetime
    ours: datetime

    def at(self, ours: datetime) -> datetime:
        """Return the store's time at that time of the own clock. It is not later than the store's own."""
        return self.theirs + (ours - self.ours)


def measure(store: Store, clock: Callable[[], datetime], allowed: timedelta | None = None) -> Measured:
    """Look at the store's clock through an object that is put for that, and compare it with this host's if that is `allowed`.

    Raises ClockDrift if they are further apart than is allowed; RepositoryFull, RepositoryNotWritable, RepositoryNotReadable.
    """
    theirs = None
    while theirs is None:
        before = clock()
        theirs = _time_of_a_put(store)
    after = clock()
    if allowed is not None:
        check_drift(store.address, theirs, before, after, allowed)
    return Measured(theirs, after)


def _time_of_a_put(store: Store) -> datetime | None:
    """Return the time of an object that is put for that; None if this process was stopped until it was taken for garbage."""
    name = f"{TMP}/{secrets.token_hex(16)}"
    store.put(name, BytesIO())  # empty: a full file system has room for a name
    try:
        return store.modified(name)
    except ObjectNotFound:
        return None
    finally:
        store.delete(name)


def check_drift(place: str, theirs: datetime, before: datetime, after: datetime, allowed: timedelta) -> None:
    """Raise ClockDrift unless the store's time is between those two of the own clock, as far as is allowed."""
    if before - _COARSE - allowed <= theirs <= after + allowed:
        return
    apart = theirs - after if theirs > after else before - theirs
    raise ClockDrift(
        f"The clock of host {socket.gethostname()} says {_text(after)} UTC, and that of the store at {place} {_text(theirs)} "
        f"UTC: {_span(apart)} apart, and {_span(allowed)} are allowed."
    )


def newest_known(store: Store) -> datetime:
    """Return the time of the newest object that is easily found: the store's clock says at least that."""
    times = (entry.modified for folder in _BUSY for entry in store.entries(folder))
    return max(times, default=datetime.fromtimestamp(0, UTC))


def _text(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _span(amount: timedelta) -> str:
    seconds = round(amount.total_seconds())
    if seconds < 2 * 60:
        return f"{seconds} s"
    if seconds < 2 * 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h" if seconds < 48 * 3600 else f"{seconds // 86400} days"
