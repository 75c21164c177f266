"""The client: ask for captures and follow them, over Redis.

    request ─▶ intake task on the orchestrator's queue        run's stream of events ─▶ caller

What is asked for carries an id that the caller drew, so nothing is lost if the caller goes away: the capture goes on, and
whoever knows the id can follow it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import ValidationError

from freezeframe import bus, known_run, presence, redis_fault
from freezeframe.contract import names
from freezeframe.contract.event import EndEvent, Event, ProgressEvent, StateEvent, WarningEvent
from freezeframe.contract.request import CaptureRequest
from freezeframe.errors import EXIT_NOT_FOUND, EXIT_UNREACHABLE, FreezeframeError
from freezeframe.known_run import KnownRun, KnownRuns
from freezeframe.settings import BusSettings

#: Seconds that a request stays valid in its queue, and that we wait for the first event: one number, so that a request
#: that was given up is never begun later.
PICK_UP_S = 30
#: Milliseconds that one look at a run's stream may block; well below the time-out of the connection.
BLOCK_MS = 1000
#: Seconds that Redis may be away while a run is followed, before the caller is told.
AWAY_S = 30.0

AnyEvent = StateEvent | WarningEvent | ProgressEvent | EndEvent


class UnreachableError(FreezeframeError):
    """A service does not answer."""

    code = "unreachable"
    exit_code = EXIT_UNREACHABLE


class RunLostError(FreezeframeError):
    """What was kept of a run is gone."""

    code = "run-lost"
    advice = (
        "Redis was emptied or lost its data. Guests are let go all the same and hosts clean up; `freezeframe captures` "
        "shows whether the capture was sealed."
    )


class AmbiguousRunError(FreezeframeError):
    """More than one run is meant."""

    code = "ambiguous-run"
    exit_code = EXIT_NOT_FOUND
    advice = "Give more of the id."


class NewerEventsError(FreezeframeError):
    """A run has ended, and its end was told in a form that this version does not know."""

    code = "newer-events"


class Client:
    """What callers outside the orchestrator and the hosts may ask. Every call may raise UnreachableError."""

    def __init__(self, settings: BusSettings) -> None:
        self._settings = settings
        self._redis = bus.connect(settings, retries=0)

    def ask(self, request: CaptureRequest) -> None:
        """Put a request on the orchestrator's queue. Asking twice with one id is asking once."""
        with _reaching_redis():
            seconds, micros = self._redis.time()
        # by Redis's clock, since Celery's `expires` goes by ours and drops without a word
        self._send(names.INTAKE_TASK, request.model_dump(mode="json"), (seconds + PICK_UP_S) * 1_000_000 + micros)

    def cancel(self, capture_id: str, who: str) -> None:
        """Ask the orchestrator to end a run without a capture, in the name of `who`. Twice is once."""
        self._send(names.CANCEL_TASK, capture_id, who)

    def _send(self, task: str, *args: object) -> None:
        with _reaching_redis():
            app = bus.celery_app("client", self._settings)
            with app.connection_for_write() as connection:
                app.send_task(
                    task, args=list(args), queue=names.ORCHESTRATOR_QUEUE, ignore_result=True, connection=connection
                )

    def follow(
        self,
        capture_id: str,
        *,
        pick_up_s: float = PICK_UP_S,
        away_s: float = AWAY_S,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> Iterator[AnyEvent]:
        """Yield the run's events from its first to its end. Raises RunLostError, NewerEventsError for an end that cannot be
        read, and UnreachableError if nobody begins the run or Redis stays away.

        An event on the way that this version does not know is passed over. The stream keeps the newest events only: an end that
        it does not have any more, as reports of transfers that came late took its place, is told from the run's record.
        `meanwhile` is called before each look at the stream, once a second as a rule.
        """
        deadline = time.monotonic() + pick_up_s
        last, begun, ended = "0", False, False
        while True:
            meanwhile()
            entries = self._entries(capture_id, last, away_s)
            for entry_id, event in entries:
                last, begun = entry_id, True
                if event is None:
                    continue
                yield event
                if isinstance(event, EndEvent):
                    return
            if entries:
                continue
            if ended:  # and no event came after that: its end is not there any more, or could not be read
                yield self._end_of(capture_id)
                return
            if begun:
                self._expect_run(capture_id)
                ended = self._has_ended(capture_id)
            elif time.monotonic() > deadline and not (begun := self._is_there(capture_id)):
                raise UnreachableError(
                    "The orchestrator has not picked up the request.",
                    advice="Start it (`freezeframe up`, or `freezeframe orchestrator`) or look into its log. The request has "
                    "expired: nothing will be captured.",
                )

    def _entries(self, capture_id: str, last: str, away_s: float) -> list[tuple[str, AnyEvent | None]]:
        """New entries of the run's stream, none if none came in time. An event that we cannot read is None."""
        key = names.events_key(capture_id)
        answer = self._patiently(lambda: self._redis.xread({key: last}, block=BLOCK_MS), away_s)
        streams = cast("list[tuple[str, list[tuple[str, dict[str, str]]]]]", answer or [])
        return [(entry_id, _parse(fields)) for _, entries in streams for entry_id, fields in entries]

    def _expect_run(self, capture_id: str) -> None:
        if not self._is_there(capture_id):
            raise _lost(capture_id)

    def _is_there(self, capture_id: str) -> bool:
        return bool(self._patiently(lambda: self._redis.exists(names.run_key(capture_id)), AWAY_S))

    def _end_of(self, capture_id: str) -> EndEvent:
        """Return the end of a run by its record. Raises RunLostError, NewerEventsError."""
        try:
            run = self._patiently(lambda: known_run.load(self._redis, capture_id), AWAY_S)
        except known_run.NewerRunError as error:
            raise _newer(capture_id) from error
        if run is None:
            raise _lost(capture_id)
        if run.receipt is None:
            raise _newer(capture_id)
        return EndEvent(capture_id=capture_id, at=run.receipt.ended_at or datetime.now(UTC), receipt=run.receipt)

    def _has_ended(self, capture_id: str) -> bool:
        """The orchestrator takes an ended run off the active ones in the step in which it tells its end."""
        return not self._patiently(lambda: self._redis.sismember(names.ACTIVE_RUNS_KEY, capture_id), AWAY_S)

    def _patiently(self, call: Callable[[], Any], away_s: float) -> Any:
        """Ask Redis, again and again for a while if it is away: a restart of it ends no capture by itself."""
        deadline = time.monotonic() + away_s
        while True:
            try:
                with _reaching_redis():
                    return call()
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def runs(self, besides: Collection[str]) -> KnownRuns:
        """Return the runs that go on, have failed lately or cannot be read, newest first, but those of `besides`."""
        with _reaching_redis():
            return known_run.runs(self._redis, besides)

    def find_run(self, word: str) -> KnownRun | None:
        """The run whose id `word` is, or alone begins so; None if there is none. Raises AmbiguousRunError, NewerRunError."""
        with _reaching_redis():
            found = known_run.find(self._redis, word)
            if len(found) > 1:
                raise AmbiguousRunError(
                    f"{len(found)} captures begin with {word!r}, among them {found[0]} and {found[-1]}."
                )
            return known_run.load(self._redis, found[0]) if found else None

    def hosts(self) -> list[presence.KnownHost]:
        """All hosts that were heard of."""
        with _reaching_redis():
            return presence.known_hosts(self._redis)

    def unread_hosts(self) -> list[presence.UnreadHost]:
        """All hosts whose entries this version cannot read."""
        with _reaching_redis():
            return presence.unread_hosts(self._redis)

    def forget_host(self, host_id: str) -> presence.KnownHost | presence.UnreadHost | None:
        """Take a host that is down out of the inventory; the host as it was, None if there was none. One that is up stays."""
        with _reaching_redis():
            known = {one.entry.host_id: one for one in presence.known_hosts(self._redis)}
            unread = {one.host_id: one for one in presence.unread_hosts(self._redis)}
            found = known.get(host_id) or unread.get(host_id)
            if found is not None and not found.alive:
                presence.forget(self._redis, host_id)
            return found


def _parse(fields: dict[str, str]) -> AnyEvent | None:
    try:
        return Event.model_validate_json(fields.get("event", "")).root
    except ValidationError:
        return None


def _lost(capture_id: str) -> RunLostError:
    return RunLostError(f"What was kept of capture {capture_id} is gone from Redis.")


def _newer(capture_id: str) -> NewerEventsError:
    return NewerEventsError(
        f"Capture {capture_id} has ended, and this version cannot read how: the orchestrator's is another, probably newer.",
        advice="Install the orchestrator's version of freezeframe here (`freezeframe version`). Whether the capture was "
        f"sealed: `freezeframe captures show {capture_id}`.",
    )


@contextmanager
def _reaching_redis() -> Iterator[None]:
    try:
        yield
    except redis_fault.TROUBLE as error:
        raise UnreachableError(redis_fault.words_of(error), advice=redis_fault.advice_for(error)) from error
