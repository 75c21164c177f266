"""Recovery: undo what interrupted captures left on this host.

Run when the control worker starts, every few seconds while it lives, and on demand. A capture is left alone while its run goes
on: the orchestrator will send its release. But what this host answered while Redis was away is told again, so that the run
need not wait for its deadline. A run that has ended, or that Redis no longer knows, is undone here: if its manifest is in the
repository it was sealed, and its guests keep their checkpoints; if not, they do not (invariants 4, 5 and 7). Nobody else would:
a Redis that lost its data has lost the release too, and the workers live on.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import redis
import structlog

from freezeframe import redis_fault
from freezeframe.contract import names
from freezeframe.contract.words import RunState
from freezeframe.errors import FreezeframeError
from freezeframe.repository.errors import CaptureNotFound, RepositoryError
from workers.host import Host
from workers.journal import CaptureJournal
from workers.steps.frame import publish_again
from workers.steps.undo import undo_capture

log = structlog.get_logger("recovery")

#: Seconds between two looks for captures that nobody will release any more.
LOOK_S = 5.0


class State(StrEnum):
    """What recovery did with a capture, and why."""

    UNDONE = "undone"
    RUNNING = "running"  # left alone: its run goes on
    BUSY = "busy"  # left alone: a step of it is at work on this host
    UNKNOWN = "unknown"  # left alone: Redis does not answer, so nobody knows whether its run goes on
    STUCK = "stuck"  # not all could be undone


@dataclass(frozen=True)
class Recovered:
    """What became of one capture's traces."""

    capture_id: str
    state: State
    problems: tuple[str, ...] = ()


def recover(host: Host, *, force: bool = False) -> list[Recovered]:
    """Undo every interrupted capture on this host; `force` does not ask Redis whether a run still goes on."""
    sealed = _Sealed(host)
    return [_recover_one(host, journal, sealed, force=force) for journal in host.journal.unended()]


def recover_forever(host: Host, stop: threading.Event) -> None:
    """Recover until told to stop."""
    while not stop.wait(LOOK_S):
        try:
            recover(host)
        except Exception:
            log.exception("recovery failed")  # a defect, or a full disk; the next look may still help


def _recover_one(host: Host, journal: CaptureJournal, sealed: _Sealed, *, force: bool) -> Recovered:
    if not force:
        try:
            goes_on = _goes_on(host, journal.capture_id)
        except redis.RedisError as error:  # no reason to touch a guest
            return Recovered(journal.capture_id, State.UNKNOWN, (redis_fault.words_of(error),))
        if goes_on:
            publish_again(host, journal)
            return Recovered(journal.capture_id, State.RUNNING)
    try:
        with journal.at_rest():
            problems = undo_capture(host, journal, sealed=sealed.guests(journal.capture_id))
    except BlockingIOError:
        return Recovered(journal.capture_id, State.BUSY)
    except (FreezeframeError, OSError) as error:
        problems = [str(error)]
    log.info("recovered", capture=journal.capture_id, problems=problems)
    return Recovered(journal.capture_id, State.STUCK if problems else State.UNDONE, tuple(problems))


def _goes_on(host: Host, capture_id: str) -> bool:
    """Whether the orchestrator still works on it. Raises redis errors."""
    record = cast("str | None", host.redis.hget(names.run_key(capture_id), "record"))
    return record is not None and not RunState(json.loads(record)["state"]).ended


class _Sealed:
    """The guests that captures' manifests have, as one look of recovery asks for them.

    A repository that cannot be reached is asked once: each asking waits for `s3_patience_s`, and the control worker takes no
    orders before its first look has ended.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._unreachable: RepositoryError | None = None

    def guests(self, capture_id: str) -> set[str]:
        """None of them if there is no manifest. Raises repository errors."""
        if self._unreachable is not None:
            raise self._unreachable
        try:
            manifest = self._host.open_repository().manifest(capture_id)
        except CaptureNotFound:
            return set()
        except RepositoryError as error:
            self._unreachable = error if error.transient else None
            raise
        return {guest.guest_uuid for guest in manifest.guests}
