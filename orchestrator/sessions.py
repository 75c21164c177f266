"""The sessions that the orchestrator has in the repository: one a run, from before it is planned until it has ended.

What begins them is intake, what ends them is the look that ends the run. A session that is left, as the repository was away
just then or the run's record is gone, is ended by the reconciler: it would keep garbage for a week.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import structlog

from freezeframe.errors import FreezeframeError
from freezeframe.repository import Repository, Session
from orchestrator.run import Run, Runs

log = structlog.get_logger("sessions")

#: By this the orchestrator knows its own from those of other writers.
PROGRAM = "orchestrator"

#: A session without a run of that age is not one that is just being planned.
PLANNED_BY_NOW = timedelta(hours=1)


def end(repository: Repository, run: Run) -> None:
    """End the session of a run that ends now. Best effort: the reconciler does it otherwise."""
    try:
        repository.sessions.end(run.capture_id, sealed=run.sealed)
    except FreezeframeError as error:
        log.warning("a session was not ended", capture=run.capture_id, why=error.message)


def end_left(repository: Repository, runs: Runs) -> None:
    """End this orchestrator's sessions whose runs have ended, or are not known any more.

    Raises RepositoryNotReadable, SessionDamaged.
    """
    for session in repository.sessions.all():
        if session.ended_at is None and (session.program, session.host) == (PROGRAM, socket.gethostname()):
            _end_if_left(repository, runs, session)


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
