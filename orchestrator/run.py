"""Runs: what the orchestrator keeps of a capture until it has ended, changed by compare-and-set only.

asked ─┬──────────▶ preparing ─▶ holding ─▶ transferring ─▶ sealing ─▶ releasing ─▶ done
  │    └▶ queued ─────▲  │           │            │             │           └──────▶ failed
  │         │            └───────────┴────────────┴─────────────┴─▶ releasing (with faults)
  └─────────┴─▶ failed: it cannot be planned, waited for too long, or was cancelled before a host had an order
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, cast

import redis
from pydantic import Field, ValidationError

from freezeframe.contract import names
from freezeframe.contract.definition import Definition
from freezeframe.contract.event import EndEvent, Queued, StateEvent, WarningEvent
from freezeframe.contract.fault import Fault
from freezeframe.contract.message import UNLESS_EMPTY, GuestUuid, HostId, Message, Shape
from freezeframe.contract.plan import HostPlan, Plan
from freezeframe.contract.request import CaptureRequest, Receipt
from freezeframe.contract.words import RunState
from orchestrator.answers import Answers, Unread, why_unread
from orchestrator.told import AT_ONCE, Record, Told

#: Events that a run's stream keeps; a caller that comes late sees the newest.
EVENTS_KEPT = 2000

#: Seconds that a run which goes on may stay as it is: its session lasts seven days, and then its hosts release. The setting
#: `run_retention_s` may be shorter; a record that is gone would be a capture that nobody seals, and that its hosts undo.
LONGEST_RUN_S = 9 * 86400

_SWAP = """
-- Change a run and tell of it, or do neither.
-- KEYS     the run, its events, the active runs, the guests that are kept, then all keys that end with the run
-- ARGV     the version it must have ("0": it must not exist), the new record, the event, events to keep,
--          the capture id, "1" if the run has ended, seconds to keep, the format, the state, a word that no other record has,
--          then the guests that are kept
-- Returns 1 if the record was set, 0 if somebody else was here first.
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if version ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[2], 'version', version + 1, 'written', ARGV[10])
redis.call('HSET', KEYS[1], 'stated', version + 1, 'v', ARGV[8], 'state', ARGV[9], 'kept', #ARGV - 10)
redis.call('DEL', KEYS[4])
for i = 11, #ARGV, 1000 do redis.call('SADD', KEYS[4], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
if ARGV[3] ~= '' then redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'event', ARGV[3]) end
if ARGV[6] == '1' then redis.call('SREM', KEYS[3], ARGV[5]) else redis.call('SADD', KEYS[3], ARGV[5]) end
for i, key in ipairs(KEYS) do if i ~= 3 then redis.call('EXPIRE', key, ARGV[7]) end end
return 1
"""

_NEXT_EPOCH = """
-- KEYS[1] the last epoch, ARGV[1] the highest that hosts have seen. Returns the next one: higher than any before, also after
-- Redis came back empty, since it is at least the time in µs, and runs are not made that fast. The clock may have been ahead
-- before that: hosts tell.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local epoch = math.max(now, last + 1, tonumber(ARGV[1]) + 1)
redis.call('SET', KEYS[1], string.format('%.0f', epoch))
return epoch
"""


class Search(Shape):
    """Guests are looked for that do not run where the plan has them."""

    until: datetime
    seen: dict[HostId, datetime]  # each host's newest entry when the search began; only a newer one says more


class Dates(Shape):
    """When a run came to its state, and when it counts as late, by a clock that was set back since."""

    entered_at: datetime
    due_at: datetime


class Lease(Shape):
    """A process sends the orders of a run's state (`lease`)."""

    by: str
    since: datetime
    seconds: float


class Run(Message):
    """A run's record."""

    capture_id: str
    request: CaptureRequest
    asked_at: datetime
    state: RunState
    queued: Annotated[Queued | None, UNLESS_EMPTY] = None  # while it waits for a place (`admission`)
    plan: Plan | None = None
    entered_at: datetime  # when it came to this state
    due_at: datetime  # when it counts as late
    dated_before: Annotated[tuple[Dates, ...], UNLESS_EMPTY] = ()  # the first first; each by a clock set back since
    dispatched: bool = False  # the orders of this state are on their queues
    lease: Annotated[Lease | None, UNLESS_EMPTY] = None  # they are being sent (`lease`)
    sent_to: dict[HostId, str] = Field(default_factory=dict)  # the worker of each host that they were sent to (`again`)
    round: int = 0  # of prepare: above 0 for guests that were found on another host than planned
    moved: tuple[HostPlan, ...] = ()  # these guests, with the hosts that prepare them in this round
    search: Search | None = None
    members: tuple[HostId, ...] = ()  # hosts with guests to hold
    kept: tuple[GuestUuid, ...] = ()  # guests that are still part of the capture
    sealed: bool | None = (
        False  # None: it was given up, and the repository has not said yet whether it is (`seal_state`)
    )
    seal_begun: Annotated[bool, UNLESS_EMPTY] = (
        False  # a manifest may be written, also when nobody waits for it any more
    )
    cancelled: Annotated[Fault | None, UNLESS_EMPTY] = None  # who asked for that, as the fault that it ends with
    faults: tuple[Fault, ...] = ()
    unsealed_faults: Annotated[tuple[Fault, ...], UNLESS_EMPTY] = ()  # that count if it is not sealed
    warnings: tuple[str, ...] = ()
    receipt: Receipt | None = None  # once it has ended

    @property
    def first_entered_at(self) -> datetime:
        """When it came to this state, whatever was done to the clock since: the same at each look."""
        return self.dated_before[0].entered_at if self.dated_before else self.entered_at

    @property
    def to_prepare(self) -> tuple[HostPlan, ...]:
        """Whom the orders to prepare of this round are for."""
        if self.round:
            return self.moved
        return self.plan.hosts if self.plan else ()


class Runs:
    """All runs, in Redis."""

    def __init__(self, client: redis.Redis, retention_s: int) -> None:
        self._redis = client
        self._retention_s = retention_s
        self._told = Told(client)
        self._parsed: dict[str, tuple[Record, Run]] = {}  # the last of each run that goes on
        self._swap = client.register_script(_SWAP)
        self._next_epoch = client.register_script(_NEXT_EPOCH)

    def next_epoch(self, seen: int = 0) -> int:
        """Return an epoch above all that were given out, and above `seen`, the highest that hosts have seen."""
        return int(cast("int", self._next_epoch(keys=[names.EPOCH_KEY], args=[seen])))

    def installation(self) -> str | None:
        """Return the id of all that share this Redis, which hosts keep and put back if Redis is lost; None before any has."""
        return cast("str | None", self._redis.get(names.REDIS_ID_KEY))

    def create(self, run: Run) -> bool:
        """Whether this made the run; False if there is one of that id already."""
        return self._set(run, "0", tell=True)

    def load(self, capture_id: str) -> tuple[Run, str] | None:
        """A run and its version; None if there is none, or none that can be read."""
        return self._going_on(capture_id, self._loaded(capture_id, self._told.record(capture_id)))

    def load_with_answers(self, capture_id: str) -> tuple[Run, str, Answers] | None:
        """As `load`, and all answers that have come, of one moment. Raises redis errors."""
        record, answers = self._told.with_record(capture_id)
        loaded = self._going_on(capture_id, self._loaded(capture_id, record))
        return None if loaded is None else (*loaded, answers)

    def answers(self, capture_id: str) -> Answers:
        """Return all answers that have come. Raises redis errors."""
        return self._told.with_record(capture_id)[1]

    def _loaded(self, capture_id: str, record: Record | None) -> tuple[Run, str] | None:
        """Return a run, parsed once, and its version; None if there is none, or none that can be read."""
        if record is None:
            return None
        known = self._parsed.get(capture_id)
        if known is not None and known[0] is record:
            return known[1], record.version
        try:
            run = Run.model_validate_json(record.text)
        except ValidationError:
            return None
        if not run.state.ended:
            self._parsed[capture_id] = record, run
        return run, record.version

    def _going_on(self, capture_id: str, loaded: tuple[Run, str] | None) -> tuple[Run, str] | None:
        """Return what was loaded, and remember nothing of a run that has ended."""
        if loaded is None or loaded[0].state.ended:
            self._told.forget(capture_id)
            self._parsed.pop(capture_id, None)
        return loaded

    def is_there(self, capture_id: str) -> bool:
        """Return True if there is a run of that id, also one that cannot be read."""
        return bool(self._redis.exists(names.run_key(capture_id)))

    def change(self, run: Run, version: str, *, tell: bool = True) -> bool:
        """Whether this changed the run; False if somebody else has since it was loaded as `version`."""
        return self._set(run, version, tell=tell)

    def warn(self, run: Run, version: str, text: str) -> bool:
        """Add a warning to a run and tell its callers; return False if somebody has changed it since `version`."""
        event = WarningEvent(capture_id=run.capture_id, at=datetime.now(UTC), text=text).model_dump_json()
        return self._swapped(run.model_copy(update={"warnings": (*run.warnings, text)}), version, event)

    def _set(self, run: Run, version: str, *, tell: bool) -> bool:
        return self._swapped(run, version, _event(run) if tell else "")

    def _swapped(self, run: Run, version: str, event: str) -> bool:
        makers = (
            names.run_key,
            names.events_key,
            lambda _: names.ACTIVE_RUNS_KEY,
            names.kept_key,
            names.results_key,
            names.definitions_key,
            names.pulse_key,
        )
        args: list[str | int] = [
            version,
            run.model_dump_json(),
            event,
            EVENTS_KEPT,
            run.capture_id,
            int(run.state.ended),
            self._retention_s if run.state.ended else max(self._retention_s, LONGEST_RUN_S),
            run.v,
            str(run.state),
            secrets.token_hex(8),
            *dict.fromkeys(run.kept),
        ]
        return bool(self._swap(keys=[maker(run.capture_id) for maker in makers], args=args))

    def active(self) -> list[str]:
        """Return the runs that have not ended, and remember nothing of others. Raises redis errors.

        A run that another orchestrator has ended is not looked at here any more, and a look may come late to any: of a thousand
        hosts what is known of a run takes tens of MB.
        """
        active = cast("set[str]", self._redis.smembers(names.ACTIVE_RUNS_KEY))
        self._told.keep_only(active)
        for capture_id in [one for one in list(self._parsed) if one not in active]:
            self._parsed.pop(capture_id, None)
        return sorted(active)

    def forget_active(self, capture_id: str) -> None:
        """A run whose record is gone cannot be looked at any more."""
        self._redis.srem(names.ACTIVE_RUNS_KEY, capture_id)

    def definitions(self, capture_id: str, fields: Sequence[str]) -> dict[str, Definition | Unread]:
        """Return the definitions of guests that are there, by names.definition_field."""
        found: dict[str, Definition | Unread] = {}
        for start in range(0, len(fields), AT_ONCE):
            some = fields[start : start + AT_ONCE]
            texts = cast("list[str | None]", self._redis.hmget(names.definitions_key(capture_id), list(some)))
            for field, text in zip(some, texts, strict=True):
                if text is not None:  # else it is missed where it is needed
                    found[field] = _definition(text)
        return found

    def pulses(self, capture_id: str) -> dict[str, str]:
        """Return what each transfer last said, by names.pulse_field: two numbers.

        It lives while either changes: the first does as it moves, the second while it waits for the repository or a limit.
        """
        return cast("dict[str, str]", self._redis.hgetall(names.pulse_key(capture_id)))


def _definition(text: str) -> Definition | Unread:
    try:
        return Definition.model_validate_json(text)
    except ValidationError as error:
        return Unread(why_unread(text, error))


def _event(run: Run) -> str:
    now = datetime.now(UTC)
    if run.receipt is not None:
        return EndEvent(capture_id=run.capture_id, at=now, receipt=run.receipt).model_dump_json()
    return StateEvent(capture_id=run.capture_id, at=now, state=run.state, queued=run.queued).model_dump_json()
