"""The sessions that the orchestrator has in the repository: one a run, from before it is planned until it has ended.

What begins them is intake, what ends them is the look that ends the run. A session that is left, as the repository was away
just then or the run's record is gone, is ended by the reconciler: it would keep garbage for a week.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import redis
import structlog

from freezeframe.bounded import answered
from freezeframe.errors import FreezeframeError
from freezeframe.repository import Repository, Session
from freezeframe.repository.errors import NewerFormat, ObjectNotReadable, RepositoryDamaged, SessionLost
from orchestrator.defect import words_of
from orchestrator.run import Run, Runs

log = structlog.get_logger("sessions")

#: By this the orchestrator knows its own from those of other writers.
PROGRAM = "orchestrator"

#: Seconds for the repository to answer, while a run waits: more than object storage takes to fail as a rule.
PATIENCE_S = 45.0

#: A session without a run of that age is not one that is just being planned.
PLANNED_BY_NOW = timedelta(hours=1)


def end(repository: Repository, run: Run) -> None:
    """End the session of a run that ends now. Best effort: the reconciler does it otherwise."""
    try:
        answered(f"The repository at {repository.address}", PATIENCE_S, lambda: _end(repository, run))
    except Exception as error:  # noqa: BLE001  a session that is left is no reason to keep a run
        log.warning("a session was not ended", capture=run.capture_id, why=words_of(error))


def _end(repository: Repository, run: Run) -> None:
    repository.sessions.end(run.capture_id, sealed=bool(run.sealed) or repository.is_sealed(run.capture_id))


#: Sessions that one look reads at most, the newest first: 15 s of object storage. The others are for the next look.
READ_AT_ONCE = 500


class Seen:
    """The sessions that were read, by their ids. One that has ended never changes, and one that changes has another time."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[datetime, Session]] = {}

    def open(self, repository: Repository) -> list[Session]:
        """Return the sessions that are open; reads only those that are new, or were changed. Raises RepositoryNotReadable."""
        stored = repository.sessions.stored_at()
        self._seen = {one: seen for one, seen in self._seen.items() if stored.get(one) == seen[0]}
        for session_id in sorted(stored.keys() - self._seen.keys(), reverse=True)[:READ_AT_ONCE]:
            try:
                at, session = stored[session_id], repository.sessions.load(session_id)
                self._seen[session_id] = (at, session.by_store(at, at))
            except SessionLost:  # since it was listed
                continue
            except (RepositoryDamaged, NewerFormat, ObjectNotReadable) as error:  # one keeps no other open
                log.warning("a session cannot be read", capture=session_id, why=error.message)
        return [session for _, session in self._seen.values() if session.ended_at is None]


def is_ours(session: Session, installation: str | None) -> bool:
    """Return True if a session is of an orchestrator on this Redis. One without an installation is told by its host."""
    if session.program != PROGRAM:
        return False
    if session.installation is None:
        return session.host == socket.gethostname()
    return session.installation == installation


def end_left(repository: Repository, runs: Runs, seen: Seen | None = None) -> None:
    """End this installation's sessions whose runs have ended, or are not known any more. Another's are left alone.

    Raises redis errors, RepositoryNotReadable.
    """
    installation = runs.installation()
    for session in (seen or Seen()).open(repository):
        if is_ours(session, installation):
            try:
                _end_if_left(repository, runs, session)
            except (FreezeframeError, OSError, redis.ResponseError) as error:  # one keeps no other open
                log.warning("a session was not ended", capture=session.session_id, why=words_of(error))


def _end_if_left(repository: Repository, runs: Runs, session: Session) -> None:
    loaded = runs.load(session.session_id)
    if loaded is not None and loaded[0].state.ended:
        end(repository, loaded[0])
    elif loaded is None and runs.is_there(session.session_id):
        return  # a newer orchestrator may be at work on it
    elif loaded is None and datetime.now(UTC) - session.begun_at > PLANNED_BY_NOW:
        # nobody will seal it: its run is lost. That a manifest is visible all the same is possible, if the loss was just then
        log.warning("the session of a lost run is ended", capture=session.session_id)
        repository.sessions.end(session.session_id, sealed=repository.is_sealed(session.session_id))
