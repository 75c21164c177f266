"""Eviction: a Redis that may drop keys to make room is refused at the start of each part that keeps something there.

A run's record has an end of its life, and so has what hosts answered. `volatile-lru`, which some providers set by default,
takes just those first: captures that are under way end as if they had never been.
"""

from __future__ import annotations

import time
from typing import cast

import redis
import structlog

from freezeframe import redis_fault
from freezeframe.errors import EXIT_REFUSED, FreezeframeError

log = structlog.get_logger("redis")

#: The policy with which a full Redis refuses writes and keeps what it has.
KEEPING = "noeviction"
#: Seconds between two tries while Redis does not answer.
PAUSE_S = 1.0


class EvictingRedisError(FreezeframeError):
    """Redis may evict what captures need."""

    code = "redis-evicts"
    exit_code = EXIT_REFUSED


def check(client: redis.Redis) -> None:
    """Raise EvictingRedisError if Redis may evict keys. Waits for one that does not answer; warns if it does not say."""
    policy = _policy(client)
    if policy is None:
        log.warning(
            "Redis does not say whether it evicts keys: see that its `maxmemory-policy` is noeviction, or give the user in "
            "FREEZEFRAME_REDIS_URL the right to INFO (`redis-cli ACL SETUSER USER +info`)"
        )
    elif policy != KEEPING:
        raise EvictingRedisError(
            f"The `maxmemory-policy` of this Redis is {policy}: it may evict captures that are under way.",
            advice="Set it to noeviction: `redis-cli CONFIG SET maxmemory-policy noeviction`, and in redis.conf or where your "
            "provider keeps its parameters, for its next start. Then start this again.",
        )


def _policy(client: redis.Redis) -> str | None:
    """Return Redis's policy; None if it refuses to tell.

    INFO first: an ACL that leaves out the administrators' commands, as providers' do, leaves out CONFIG.
    """
    for ask in (_by_info, _by_config):
        while True:
            try:
                found = ask(client)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if redis_fault.is_refusal(error):  # of the password: whatever comes next tells it
                    return None
                log.warning("Redis does not answer", why=redis_fault.words_of(error))
                time.sleep(PAUSE_S)
            except redis.ResponseError:
                break
            else:
                if found:
                    return found
                break
    return None


def _by_info(client: redis.Redis) -> str | None:
    return cast("dict[str, str]", client.info("memory")).get("maxmemory_policy")


def _by_config(client: redis.Redis) -> str | None:
    return cast("dict[str, str]", client.config_get("maxmemory-policy")).get("maxmemory-policy")
