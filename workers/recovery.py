"""Recovery: undo what interrupted captures left on this host.

Run when the control worker starts, every few seconds while it lives, and on demand. A capture is left alone while its run
goes on: the orchestrator will send its release. But what this host answered while Redis was away is told again, so that the
run need not wait for its deadline. A run that has ended, or that Redis no longer knows, is undone here: if its manifest is in
the repository it was sealed, and its guests keep their checkpoints; if not, they do not (invariants 4, 5 and 7), once its
session is ended as failed, so that a seal which still hangs somewhere takes its manifest back. Nobody else would: a Redis
that lost its data has lost the release too, and the workers live on. This host may be the only one whose Redis does not know
the run: the others' session is ended for that only when it has lasted (`unknown_runs`); until then this host's guests are let
go and their backups end, and checkpoints and claims stay. By hand a Redis that does not know a run ends it at once, and only
if it is the one that the control worker has its orders from (`own_redis`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import redis
import structlog

from freezeframe import redis_fault
from freezeframe.bounded import answered
from freezeframe.errors import FreezeframeError
from freezeframe.repository import Manifest, Repository
from freezeframe.repository.errors import RepositoryError
from freezeframe.repository.sealed import final_manifest, sealed_manifest
from workers import durable, left_held, own_redis
from workers.host import Host
from workers.journal import CaptureJournal
from workers.runs import RunUnreadableError, run_state
from workers.steps.publication import publish_again
from workers.steps.undo import undo_capture, undo_guests
from workers.unknown_runs import UnknownRuns

log = structlog.get_logger("recovery")

#: Seconds between two looks for captures that nobody will release any more.
LOOK_S = 5.0
#: Seconds for the repository to answer. More than object storage may take to fail, which knows better why.
REPOSITORY_PATIENCE_S = 100.0


class State(StrEnum):
    """What recovery did with a capture, and why."""

    UNDONE = "undone"
    RUNNING = "running"  # left alone: its run goes on
    BUSY = "busy"  # left alone: a step of it is at work on this host
    UNKNOWN = "unknown"  # left alone, but for holds and backups: whether its run goes on is not known
    STUCK = "stuck"  # not all could be undone


#: Stands for the capture of a claim that cannot be read.
UNKNOWN_CAPTURE = "unknown"


#: Of a run of which a Redis that is not known to be this host's own has no record.
_STRANGE = (
    "The Redis that was asked has no record of the run, and is not known to be the one that this host's workers use: it is "
    "another, or was emptied while they were down."
)
#: Of a run that has just become unknown.
_JUST_UNKNOWN = "Redis has no record of the run: its checkpoints are settled if that lasts."


@dataclass(frozen=True)
class Recovered:
    """What became of one capture's traces."""

    capture_id: str
    state: State
    problems: tuple[str, ...] = ()


class Looks:
    """The open captures of the last look, for the inventory; the log tells only changes since the look before."""

    def __init__(self) -> None:
        self.stuck: tuple[Recovered, ...] = ()

    def note(self, found: Sequence[Recovered]) -> None:
        stuck = tuple(one for one in found if one.state is State.STUCK)
        for one in found:
            if one.state is State.UNDONE or (one.state is State.STUCK and one not in self.stuck):
                log.info("recovered", capture=one.capture_id, state=str(one.state), problems=one.problems)
        self.stuck = stuck


def recover(
    host: Host, *, force: bool = False, by_hand: bool = False, unknown: UnknownRuns | None = None
) -> list[Recovered]:
    """Undo every interrupted capture on this host; `force` does not ask Redis whether a run still goes on.

    `by_hand`: not in the control worker, so `host` may ask another Redis than the one that the captures run over. `unknown` is
    what earlier looks have seen; without it a run that Redis does not know is lost at once. Each capture is its own: whatever
    is odd about one keeps recovery from no other. Raises OSError if the journals cannot be listed.
    """
    _look_for_left(host)
    try:
        claimed, unreadable = host.claims.held()
    except OSError as error:
        claimed, unreadable = {}, {"any": f"the claims cannot be read: {error}"}
    captures = {journal.capture_id for journal in host.journal.unended()} | set(claimed)
    if unknown is not None:
        unknown.keep(captures)
    look = _Look(_Sealed(host), unknown, force=force, by_hand=by_hand)
    found = [_recover_one(host, host.journal.of(capture_id), look) for capture_id in sorted(captures)]
    found += [Recovered(UNKNOWN_CAPTURE, State.STUCK, (f"guest {guest}: {why}",)) for guest, why in unreadable.items()]
    return found


def _look_for_left(host: Host) -> None:
    """Let go of guests that have moved while they were held, whether or not their runs go on: they must not wait for those."""
    try:
        left_held.look(host)
    except (redis.RedisError, OSError) as error:
        log.info("guests that have moved are not looked for", why=str(error))
    except Exception:  # a defect: what captures have left is undone all the same
        log.exception("guests that have moved are not looked for")


def recover_forever(host: Host, stop: threading.Event, looks: Looks | None = None) -> None:
    """Recover at once, and until told to stop."""
    looks = looks or Looks()
    unknown = UnknownRuns()
    while not stop.is_set():
        try:
            looks.note(recover(host, unknown=unknown))
        except Exception:
            log.exception("recovery failed")  # a defect, or a full disk; the next look may still help
        stop.wait(LOOK_S)


def sweep(host: Host) -> None:
    """Remove the temporary files that crashes have left in the state directory."""
    try:
        durable.sweep(host.settings.state_dir)
    except OSError as error:
        log.warning("temporary files stay", why=str(error))


@dataclass(frozen=True)
class _Look:
    """One look of recovery."""

    sealed: _Sealed
    unknown: UnknownRuns | None
    force: bool
    by_hand: bool

    def is_lost(self, capture_id: str) -> bool:
        """Return True for a run that Redis does not know if it counts as lost."""
        return self.unknown is None or self.unknown.is_lost(capture_id)

    def forget(self, capture_id: str) -> None:
        """Note that a run is not one that Redis does not know, as far as can be told."""
        if self.unknown is not None:
            self.unknown.forget(capture_id)


def _recover_one(host: Host, journal: CaptureJournal, look: _Look) -> Recovered:
    try:
        return _attempt(host, journal, look)
    except (FreezeframeError, OSError) as error:
        return Recovered(journal.capture_id, State.STUCK, (str(error),))
    except Exception as error:  # a defect, or a document that is odd in a new way
        log.exception("a capture was not recovered", capture=journal.capture_id)
        return Recovered(journal.capture_id, State.STUCK, (f"{type(error).__name__}: {error}",))


def _attempt(host: Host, journal: CaptureJournal, look: _Look) -> Recovered:
    """Raises FreezeframeError, OSError."""
    give_up = True
    if not look.force:
        try:
            state = run_state(host, journal.capture_id)
            if state is None and look.by_hand and not own_redis.is_own(host):
                return Recovered(journal.capture_id, State.UNKNOWN, (_STRANGE,))
        except redis.RedisError as error:  # no reason to touch a guest
            look.forget(journal.capture_id)
            return Recovered(journal.capture_id, State.UNKNOWN, (redis_fault.words_of(error),))
        except RunUnreadableError as error:
            look.forget(journal.capture_id)
            return Recovered(journal.capture_id, State.UNKNOWN, (f"{error} {error.hint}",))
        if state is not None:
            look.forget(journal.capture_id)
        if state is not None and not state.ended:
            publish_again(host, journal)
            return Recovered(journal.capture_id, State.RUNNING)
        give_up = state is not None or look.is_lost(journal.capture_id)
    try:
        with journal.at_rest():
            return _undo(host, journal, look, give_up=give_up)
    except BlockingIOError:
        return Recovered(journal.capture_id, State.BUSY)


def _undo(host: Host, journal: CaptureJournal, look: _Look, *, give_up: bool) -> Recovered:
    """Undo a capture as the repository knows it, as far as that may be.

    By force its run may go on, and other hosts' guests are still sealed. Unless it may be given up, they are too.
    """
    find = final_manifest if give_up and not look.force else sealed_manifest
    try:
        guests = look.sealed.guests(journal.capture_id, find)
    except (RepositoryError, OSError) as error:
        return Recovered(journal.capture_id, State.STUCK, (str(error), *undo_guests(host, journal, sealed=None)))
    if guests is None and not give_up:
        left = undo_guests(host, journal, sealed=None)
        return Recovered(journal.capture_id, State.STUCK if left else State.UNKNOWN, (_JUST_UNKNOWN, *left))
    problems = undo_capture(host, journal, sealed=guests or set())
    return Recovered(journal.capture_id, State.STUCK if problems else State.UNDONE, tuple(problems))


class _Sealed:
    """The guests that captures' manifests have, as one look of recovery asks for them.

    A repository that cannot be reached is asked once: each asking waits for `s3_patience_s`.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._unreachable: RepositoryError | None = None

    def guests(self, capture_id: str, find: Callable[[Repository, str], Manifest | None]) -> set[str] | None:
        """Return None if there is no manifest. Raises repository errors."""
        if self._unreachable is not None:
            raise self._unreachable
        try:
            manifest = answered(
                f"The repository at {self._host.repository}",
                REPOSITORY_PATIENCE_S,
                lambda: find(self._host.open_repository(), capture_id),
            )
        except RepositoryError as error:
            self._unreachable = error if error.transient else None
            raise
        return {guest.guest_uuid for guest in manifest.guests} if manifest else None
