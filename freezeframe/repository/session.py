"""Sessions: somebody is at work on a capture, and may rely on anything that was in the repository when they began.

    open ──▶ sealed      its manifest is visible
      └────▶ failed      it will never be

A session is visible before its writer's first look at anything else, and is ended, not deleted, when its manifest is visible or
will never be. It is *live* until grace is over after its end, or after it expired. Garbage collection deletes nothing that a
live session may rely on (docs/repository.md). When it began, and ended, is told by the store's clock: `store_clock.py`.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal, Self

from pydantic import AwareDatetime

from freezeframe.contract.message import CaptureId
from freezeframe.repository.age import CLOCKS_APART, drift_allowed
from freezeframe.repository.errors import (
    AlreadyExists,
    ClockDrift,
    ObjectNotFound,
    RepositoryFull,
    RepositoryNotWritable,
    RepositoryUnsupported,
    SealedAfterFailure,
    SealedTooLate,
    SessionDamaged,
    SessionLost,
)
from freezeframe.repository.layout import SESSIONS, session_id_of, session_name
from freezeframe.repository.notice import Notice, read_notice
from freezeframe.repository.store_clock import Measured, check_drift, measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezeframe.repository.objects import Objects

#: The longest capture: 100 TiB at 200 MB/s, which is a busy link's, take six days. It is not renewed, so that a writer that
#: nobody hears of any more cannot keep garbage for ever.
TERM: Final = timedelta(days=7)

#: What must be left of a session when its manifest is put: longer than that takes, with all tries again, by a hundred times.
MARGIN: Final = timedelta(hours=1)


#: How much later than a term after its object was put, by the store's clock, a session that was not refused may expire: no
#: clock that is further ahead begins one. Twice that, since a store's time is a little coarse.
_LATEST: Final = 2 * CLOCKS_APART


class SessionState(StrEnum):
    OPEN = "open"
    SEALED = "sealed"
    FAILED = "failed"


class Session(Notice):
    """As it stands in the repository."""

    format: Literal[1] = 1
    session_id: CaptureId
    begun_at: AwareDatetime
    expires_at: AwareDatetime
    host: str
    pid: int
    program: str
    installation: str | None = None  # of the orchestrator; None for other writers, and of an older version
    state: SessionState = SessionState.OPEN
    ended_at: AwareDatetime | None = None

    def by_store(self, first: datetime, last: datetime) -> Self:
        """Return the session with the store's times: it had begun when its object was put, and ended with the one that says so.

        `first`, `last`: the times of its object in listings before and after it was read. A host whose clock is days ahead may
        die before it ends the session that it is refused: that one expires a term after it was put, too.
        """
        ended_at = None if self.ended_at is None else last
        expires_at = min(self.expires_at, first + TERM + _LATEST)
        return self.model_copy(
            update={"begun_at": min(self.begun_at, first), "ended_at": ended_at, "expires_at": expires_at}
        )

    def is_live(self, now: datetime, grace: timedelta) -> bool:
        return now <= (self.ended_at or self.expires_at) + grace


class Sessions:
    """The sessions of a repository. `clock` is this machine's, in UTC; `look` reads the repository's config again."""

    def __init__(
        self, objects: Objects, clock: Callable[[], datetime] | None = None, look: Callable[[], None] = lambda: None
    ) -> None:
        self._objects = objects
        self._look = look
        self.clock = clock or (lambda: datetime.now(UTC))

    def begin(self, session_id: str, program: str, installation: str | None = None) -> Session:
        """Begin the session of that capture; visible, and settled, when this returns. Twice is once.

        Raises ClockDrift if this host's clock is too far from the store's, and RepositoryUnsupported if a feature was switched
        on meanwhile that this version does not know; the session has ended then. Whoever switches one on looks for sessions
        afterwards, so the config is read once this one is visible.
        """
        now = self.clock()
        session = Session(
            session_id=session_id,
            begun_at=now,
            expires_at=now + TERM,
            host=socket.gethostname(),
            pid=os.getpid(),
            program=program,
            installation=installation,
        )
        name = session_name(session_id)
        try:
            self._objects.store.put_if_absent(name, session.stored(self._objects, name))
        except AlreadyExists:
            self._objects.store.settle([SESSIONS])  # another may have died before it did
            self._look()
            return self.load(session_id)
        try:
            self._look()
            stored_at = self._objects.store.modified(name)
            check_drift(self._objects.store.address, stored_at, now, self.clock(), drift_allowed())
        except ObjectNotFound as error:  # this process was stopped for longer than its term
            raise SessionLost(f"The session of capture {session_id} is gone.") from error
        except (ClockDrift, RepositoryUnsupported):
            self.end(session_id, sealed=False)
            raise
        return session

    def load(self, session_id: str) -> Session:
        """Raises SessionLost if it is not there, SessionDamaged."""
        name = session_name(session_id)
        place = f"{self._objects.store.address}/{name}"
        try:
            session = read_notice(self._objects, name, Session)
        except ObjectNotFound as error:
            raise SessionLost(f"The session of capture {session_id} is gone.") from error
        if session is None:
            raise SessionDamaged(f"Session {place} has other bytes than were written.")
        if session.session_id != session_id:
            raise SessionDamaged(f"Session {place} is of another capture, {session.session_id}.")
        return session

    def check(self, session_id: str, margin: timedelta = timedelta(0), *, looked_at: datetime | None = None) -> Session:
        """Raise SessionLost unless it is open and has `margin` left at `looked_at`, which is now if it is not given."""
        now = looked_at or self.clock()
        session = self.load(session_id)
        if session.ended_at is not None:
            raise SessionLost(f"The session of capture {session_id} was ended at {session.ended_at:%Y-%m-%d %H:%M:%S}.")
        if now + margin >= session.expires_at:
            raise SessionLost(f"The session of capture {session_id} expires at {session.expires_at:%Y-%m-%d %H:%M:%S}.")
        return session

    def measure(self) -> Measured:
        """Look at the store's clock. Raises ClockDrift, which may be over in a while, RepositoryFull, RepositoryNotWritable."""
        try:
            return measure(self._objects.store, self.clock, drift_allowed())
        except ClockDrift as error:
            error.transient = True
            raise

    def measure_again(self, before: Measured) -> datetime:
        """Return the store's time. If nothing can be put any more it is told from the own clock, and what was `before`."""
        try:
            return measure(self._objects.store, self.clock).theirs
        except (RepositoryFull, RepositoryNotWritable):
            return before.at(self.clock())

    def check_sealed(self, session: Session, looked_at: datetime, visible_at: datetime) -> None:
        """Return if a manifest may stay that is visible since `visible_at`, or before; `session` was read at `looked_at`.

        Raises SealedTooLate if an object of its may be gone, and SealedAfterFailure if the session was ended as failed.
        Raises SessionLost if the session is gone although it was in time: another has ended it, perhaps because it has sealed
        the same, so the manifest is not ours to take back.
        """
        if visible_at >= session.expires_at:
            raise SealedTooLate(f"Capture {session.session_id} was sealed after its session had expired.")
        try:
            state = self.load(session.session_id).state
        except SessionLost as error:
            if visible_at - looked_at > MARGIN:
                raise SealedTooLate(error.message) from error
            raise
        if state is SessionState.FAILED:
            raise SealedAfterFailure(f"The session of capture {session.session_id} was ended while it was sealed.")

    def end(self, session_id: str, *, sealed: bool) -> None:
        """Say that the manifest is visible, or will never be. Twice is once, and one that is gone is ended."""
        name = session_name(session_id)
        with suppress(SessionLost, ObjectNotFound):
            stored_at = self._objects.store.modified(name)  # which the new object will not tell any more
            session = self.load(session_id)
            if session.ended_at is None:
                state = SessionState.SEALED if sealed else SessionState.FAILED
                begun_at = min(session.begun_at, stored_at)
                ended = session.changed({"state": state, "ended_at": self.clock(), "begun_at": begun_at})
                self._objects.store.put(name, BytesIO(ended.stored(self._objects, name)))

    def all(self) -> list[Session]:
        """Return every session that is there, oldest first, with times by the store's clock (`Session.by_store`).

        One that is deleted while this reads is not in the answer. Raises SessionDamaged, RepositoryNotReadable.
        """
        found, first = [], self.stored_at()
        for session_id in first:
            with suppress(SessionLost):
                found.append(self.load(session_id))
        last = self.stored_at() if found else {}
        found = [one.by_store(first[one.session_id], last.get(one.session_id, first[one.session_id])) for one in found]
        return sorted(found, key=lambda one: (one.begun_at, one.session_id))

    def stored_at(self) -> dict[str, datetime]:
        """Return the store's times of all sessions by their ids; nothing is read of them."""
        entries = self._objects.store.entries(SESSIONS)
        return {session_id: one.modified for one in entries if (session_id := session_id_of(one.name)) is not None}

    def delete(self, session_id: str) -> None:
        """For garbage collection only, of one that is not live."""
        self._objects.store.delete(session_name(session_id))
