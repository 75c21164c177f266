"""Trouble with Redis, told in Redis's words: which kind it is, and what an operator does about it. Pure.

Redis that answers and refuses (a full disk, full memory, a replica, a missing right) raises ResponseErrors, not
ConnectionErrors: `except redis.ConnectionError` lets them pass. Callers that go on without Redis catch `TROUBLE`.
"""

from __future__ import annotations

from collections.abc import Iterator

import kombu.exceptions
import redis

from freezeframe.errors import EXIT_UNREACHABLE, FreezeframeError

#: All that redis-py, kombu and Celery raise when Redis is away or refuses. kombu wraps a refusal in a ChannelError.
TROUBLE = (redis.RedisError, kombu.exceptions.OperationalError, kombu.exceptions.ChannelError)

_START = "Start the system (`freezeframe up`), or let FREEZEFRAME_REDIS_URL name the Redis that it uses."
_PASSWORD = "Check the user and the password in FREEZEFRAME_REDIS_URL."  # noqa: S105  no password
#: How Redis tells a missing right: of a command, and of one within a script.
_NO_RIGHT = ("NOPERM", "has no permissions", "can't run this command")
#: Of each refusal: how Redis's message tells it, as it is or after redis-py has cut off its first word, and the advice.
_REFUSALS = (
    (
        ("MISCONF",),
        (
            "Redis cannot save to its disk, so it takes no writes: free space in its directory (`redis-cli CONFIG GET dir`), "
            "or see why its last save failed (`redis-cli INFO persistence`). Workers continue when it takes writes again."
        ),
    ),
    (
        ("OOM", "command not allowed when used memory"),
        "Redis's memory is full: raise its `maxmemory` (`redis-cli INFO memory`). Workers continue when it takes writes again.",
    ),
    (
        ("READONLY", "You can't write against a read only"),
        (
            "This Redis is a replica, after a failover or by its configuration: let FREEZEFRAME_REDIS_URL name the primary "
            "(`redis-cli INFO replication`)."
        ),
    ),
    (
        _NO_RIGHT,
        (
            "The user in FREEZEFRAME_REDIS_URL lacks a right: give it the command and the keys that the message names "
            "(`redis-cli ACL GETUSER USER`)."
        ),
    ),
    (("NOAUTH", "WRONGPASS", "Authentication required", "invalid username-password", "invalid password"), _PASSWORD),
    (
        ("MASTERDOWN", "Link with MASTER is down", "NOREPLICAS", "CLUSTERDOWN", "LOADING", "Redis is loading", "BUSY"),
        "Redis is not ready yet, or has lost its primary: wait, or look at `redis-cli INFO`.",
    ),
)


class BusyError(redis.ConnectionError):
    """All of this process's connections to Redis are in use. That says nothing of Redis."""


class RedisTroubleError(FreezeframeError):
    """Redis is away, or answers and refuses."""

    code = "redis"
    exit_code = EXIT_UNREACHABLE


def is_refusal(error: BaseException) -> bool:
    """Return True if Redis answered and refused; False if it did not answer."""
    return any(
        isinstance(one, (redis.ResponseError, redis.AuthenticationError, redis.exceptions.ReadOnlyError))
        for one in _chain(error)
    )


def is_lasting(error: BaseException) -> bool:
    """Return True for a refusal that no failover and no free space ends: a missing right."""
    return any(sign in str(_innermost(error)) for sign in _NO_RIGHT)


def words_of(error: BaseException) -> str:
    """Return what happened, as a sentence with Redis's own words."""
    told = _innermost(error)
    if isinstance(told, BusyError):
        return str(told)
    said = str(told).strip().rstrip(".") or type(told).__name__
    return f"Redis refuses: {said}." if is_refusal(error) else f"Redis does not answer: {said}."


def advice_for(error: BaseException) -> str:
    """Return what to do about it."""
    if isinstance(_innermost(error), BusyError):
        return "It works for too many at once, or Redis is slow (`redis-cli INFO` tells its load). Try again."
    if not is_refusal(error):
        return _START
    said = str(_innermost(error))
    found = (advice for signs, advice in _REFUSALS if any(sign in said for sign in signs))
    return next(found, "Redis's log says more (`redis-cli INFO`).")


def trouble(error: BaseException) -> RedisTroubleError:
    """Return the error to tell an operator."""
    return RedisTroubleError(words_of(error), advice=advice_for(error))


def _innermost(error: BaseException) -> BaseException:
    """Return Redis's own error, which kombu and Celery wrap."""
    return next((one for one in _chain(error) if isinstance(one, redis.RedisError)), error)


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__
