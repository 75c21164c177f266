"""A lease: the session of a copy on one side. A copy may take longer than a session lasts, so it is renewed between captures.

What was seen in an earlier session counts for nothing in a later one: whoever renews asks again.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ulid import ULID

from freezeframe.repository.errors import RepositoryError
from freezeframe.repository.session import TERM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezeframe.repository.repository import Repository

#: A capture is begun with nearly all of the term before it. So only one that takes six days outlives its session.
RENEWED_AFTER: Final = timedelta(days=1)
assert RENEWED_AFTER < TERM  # noqa: S101


class Lease:
    """The open session of a copy in a repository."""

    def __init__(self, repository: Repository, program: str) -> None:
        self._sessions = repository.sessions
        self._program = program
        self.id = self._begin()

    def renew_if_old(self) -> None:
        """Begin another session, and then end this one, if it has lasted for a day."""
        if self._sessions.clock() - self._begun_at >= RENEWED_AFTER:
            before = self.id
            self.id = self._begin()
            self._sessions.end(before, sealed=True)

    def end(self, *, done: bool) -> None:
        self._sessions.end(self.id, sealed=done)

    def _begin(self) -> str:
        self._begun_at = self._sessions.clock()
        return self._sessions.begin(str(ULID()), self._program).session_id


@contextmanager
def leased(repository: Repository, program: str) -> Iterator[Lease]:
    """Give a lease for as long as the block lasts."""
    lease = Lease(repository, program)
    try:
        yield lease
    except BaseException:
        with suppress(RepositoryError):  # it expires by itself; the first error is the one to tell
            lease.end(done=False)
        raise
    lease.end(done=True)
