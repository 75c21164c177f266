"""A gate as one of its members sees it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, cast

import redis

from freezeframe import redis_fault, redis_pool
from freezeframe.contract import names

if TYPE_CHECKING:
    from freezeframe.settings import BusSettings

_SCRIPT = resources.files(__package__).joinpath("gate.lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()  # EVALSHA's own name for a script

#: Seconds for connecting, and for an answer that is not waited for with guests held.
EXCHANGE_S = 1.0
#: Seconds that a gate's keys outlive it: long enough to be looked at, short enough not to pile up.
KEEP_S = 3600
#: Seconds between two tries while Redis refuses connections.
RETRY_PAUSE_S = 0.02

State = Literal["open", "released", "broken", "taken"]


class GateBrokenError(Exception):
    """A member gave up, so nobody is released. `look` tells why."""


class GateTakenError(Exception):
    """Another visit of this member had arrived before: the others are released by that one, and not by this."""


class GateUnreachableError(Exception):
    """The deadline passed before this member was told anything, or Redis will not let it pass at all.

    `fault` is Redis's last error, if Redis was away or refused when the wait ended.
    """

    def __init__(self, message: str, fault: redis.RedisError | None = None) -> None:
        super().__init__(message if fault is None else f"{message}: {redis_fault.words_of(fault)}")
        self.fault = fault


@dataclass(frozen=True)
class GateReply:
    """A gate as Redis has it.

    `arrived` is how many had arrived when it was decided, `so_far` how many have. `own_us` is when this member did, by Redis's
    clock; None if it has not, or came too late to count.
    """

    state: State
    at_us: int
    why: str
    arrived: int
    so_far: int
    own_us: int | None


def gate_client(settings: BusSettings) -> redis.Redis:
    """A connection fit for a gate: every exchange bounded, no retry of its own (the deadline is the gate's).

    A connection that was lost without a word is found out by TCP's keepalive, which redis-py turns on.
    """
    defaults = {
        "decode_responses": True,
        "socket_timeout": EXCHANGE_S,
        "socket_connect_timeout": EXCHANGE_S,
        "retry": None,
    }
    return redis.Redis.from_pool(redis.ConnectionPool(**defaults | redis_pool.options_of(settings)))


def pause_after(error: redis.RedisError) -> redis.RedisError:
    """Wait a moment before the next try; the error, as the last one. Raises GateUnreachableError if no try can help.

    A refusal passes as a lost connection does: a failover (READONLY) or free space (MISCONF, OOM) ends it, and the gate's
    deadline bounds the wait.
    """
    if redis_fault.is_lasting(error):
        raise GateUnreachableError("Redis lets this host into no gate", error) from error
    time.sleep(RETRY_PAUSE_S)
    return error


class Gate:
    """One gate of one run. Deadlines are of `time.monotonic()`."""

    def __init__(self, client: redis.Redis, capture_id: str, epoch: int, name: str, member: str, members: int) -> None:
        """`members` is how many there are; who they are the gate need not know."""
        if members < 1:
            raise ValueError(f"a gate of {members} members")
        self._pool = client.connection_pool
        self._member = member
        self._members = members
        #: When this member arrived, by Redis's clock in µs; None until Redis has said so. It needs no exchange after the hold.
        self.own_us: int | None = None
        self._key = names.gate_key(capture_id, epoch, name)

    def meet(self, deadline: float, visit: str = "") -> None:
        """Arrive, and wait until every member has. A member arrives once: `visit` tells its arrival from that of another try.

        Raises GateBrokenError if a member gave up, GateTakenError if this member has arrived in another visit,
        GateUnreachableError if the deadline passed first. In the last case this member must let its guests go and then
        `break_up`; others may have been released all the same.
        """
        fault: redis.RedisError | None = None
        while True:
            if time.monotonic() >= deadline:
                raise GateUnreachableError("the deadline passed before every host had reported", fault)
            try:
                state, fault = self._arrive_and_wait(deadline, visit), None
            except redis.RedisError as error:
                fault = pause_after(error)  # then it arrives again: a wake-up may have been lost with the connection
                continue
            if state == "released":
                return
            if state == "broken":
                raise GateBrokenError("a host gave up")  # asking why would be one more exchange with guests held
            if state == "taken":
                raise GateTakenError("this host has reported before, in another delivery of the order")

    def has_arrived(self, deadline: float) -> bool:
        """Return True if this member has arrived, in whatever process. Raises GateUnreachableError if Redis does not say."""
        while True:
            try:
                return self.look().own_us is not None
            except redis.RedisError as error:
                if time.monotonic() >= deadline:
                    raise GateUnreachableError(
                        "the deadline passed before Redis told who has arrived", error
                    ) from error
                pause_after(error)

    def arrive(self) -> State:
        """Arrive and wait for nobody. One exchange; may raise redis errors."""
        return self._call("arrive", time.monotonic() + EXCHANGE_S).state

    def break_up(self, why: str) -> GateReply:
        """Give up for all members, unless the gate has been released already. One exchange; may raise redis errors."""
        return self._call("break", time.monotonic() + EXCHANGE_S, why)

    def look(self) -> GateReply:
        """The gate as it is. One exchange; may raise redis errors."""
        return self._call("look", time.monotonic() + EXCHANGE_S)

    def _arrive_and_wait(self, deadline: float, visit: str) -> State:
        """`open` if nobody decided by the deadline. May be repeated."""
        reply = self._call("arrive", deadline, visit=visit)
        self.own_us = reply.own_us
        if reply.state != "open":
            return reply.state
        left_s = max(deadline - time.monotonic(), 0.01)
        wake = f"{self._key}:wake:{self._member}"
        # moved to where it was: a wake-up that is read twice is there twice
        try:
            woken = self._exchange(deadline, "BLMOVE", wake, wake, "LEFT", "LEFT", f"{left_s:.3f}")
        except redis.TimeoutError:
            if time.monotonic() < deadline:
                raise
            return (
                "open"  # Redis took the arrival and nobody woke this member: others are late, and Redis is not at fault
            )
        return cast("State", woken or "open")

    def _call(self, verb: str, deadline: float, why: str = "", visit: str = "") -> GateReply:
        words = (2, self._key, f"{self._key}:arrived", verb, self._member, self._members, KEEP_S, why, visit)
        try:
            reply = cast("list[str]", self._exchange(deadline, "EVALSHA", _SHA, *words))
        except redis.exceptions.NoScriptError:
            reply = cast("list[str]", self._exchange(deadline, "EVAL", _SCRIPT, *words))
        state, at_us, reason, arrived, so_far, own_us = reply
        return GateReply(
            cast("State", state), int(at_us), reason, int(arrived), int(so_far), int(own_us) if own_us else None
        )

    def _exchange(self, deadline: float, *words: str | int) -> str | list[str] | None:
        """One command and its answer, which is waited for until the deadline and no longer.

        On a connection taken in hand, because the client's own calls have one time-out for all commands. One whose answer
        did not come is closed: what comes late must not be taken for the answer to the next.
        """
        connection: Any = self._pool.get_connection()  # untyped in redis-py
        try:
            connection.send_command(*words)
            answer: str | list[str] | None = connection.read_response(timeout=max(deadline - time.monotonic(), 0.01))
            return answer
        finally:
            self._pool.release(connection)
