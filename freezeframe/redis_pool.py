"""The connections of one process to Redis: one pool for all short commands, whoever gives them.

    kombu: acknowledgements, orders, events   ┐
    Celery's results and chords               ├─▶ one pool: 1 connection while idle, at most MOST at once, the rest waits
    Freezeframe's own keys                    ┘
    kombu: BRPOP, and the channel of remote control   a connection each: they wait for what comes
    the gates of the barrier                          a connection for each hold (`freezeframe.barrier`)

kombu gives every channel two pools and Celery's backend has another, none with a bound that waits: 13 connections of an idle
host, 33 after a burst, and Redis refuses all above its `maxclients` (10,000 by default). A pool of redis-py keeps open what
a burst has needed; this one closes it again.
"""

from __future__ import annotations

import queue
import time
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import redis
from redis.backoff import ExponentialBackoff
from redis.connection import parse_url
from redis.retry import Retry

from freezeframe import sentinel
from freezeframe.redis_fault import BusyError
from freezeframe.settings import BusSettings

#: Connections of one process for short commands. A control worker has 48 threads for its steps: if each gives a command of a
#: millisecond at once, the last one waits for five others.
MOST = 8
#: Seconds that a burst may wait for a connection, several times what commands take that find Redis dead.
WAIT_S = 60.0
#: Seconds between two tries of a command at most.
LONGEST_PAUSE_S = 1.0
#: Seconds after which a connection that nobody has used is closed.
IDLE_S = 30.0

_pools: WeakValueDictionary[tuple[str, float], Pool] = WeakValueDictionary()
#: The settings of pools by names that may be shown: Celery tells its options to whoever asks (`celery inspect stats`, Flower).
_settings: dict[str, BusSettings] = {}


class Pool(redis.BlockingConnectionPool):
    """A pool whose callers wait when all connections are in use, and that closes those which it does not need any more."""

    def __init__(self, **options: Any) -> None:
        self._used_at: WeakKeyDictionary[Any, float] = WeakKeyDictionary()  # by the clock of time.monotonic
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def __del__(self) -> None:
        """Close the connections with the pool: no client does, as it is not the client's own."""
        with suppress(Exception):  # of a pool that was never made, say
            self.disconnect()
        super().__del__()

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """Return a connection. Raises BusyError if none is free in time, and redis errors."""
        try:
            return super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
        except redis.ConnectionError as error:
            if isinstance(error.__context__, queue.Empty):  # [redis/connection.py BlockingConnectionPool]
                used = f"All {self.max_connections} connections of this process to Redis were in use for {self.timeout:.0f} s."
                raise BusyError(used) from error
            raise

    def release(self, connection: Any) -> None:
        """Put a connection back, and close those that have not been used for IDLE_S."""
        self._used_at[connection] = time.monotonic()
        super().release(connection)  # type: ignore[no-untyped-call]
        self.close_idle(time.monotonic() - IDLE_S)

    def close_idle(self, since: float) -> None:
        """Close the connections in the pool that were not used after `since`. They connect again when they are needed."""
        with self.pool.mutex:  # nobody takes one out meanwhile
            for one in self.pool.queue:
                if one is not None and self._used_at.get(one, since) <= since:
                    one.disconnect()


def longest_s(client: redis.Redis) -> float:
    """Return the most seconds that one command takes on a dead Redis. Each of its tries connects, with as many tries. Pure."""
    options = client.connection_pool.connection_kwargs
    timeout_s, retry = options.get("socket_timeout") or 0.0, options.get("retry")
    tries = 1 + (retry.get_retries() if retry else 0)
    return WAIT_S + tries * (tries + 2) * (timeout_s + LONGEST_PAUSE_S)


def shared(settings: BusSettings) -> Pool:
    """Return this process's pool for that Redis: text in, text out. No command blocks for longer than the time-out."""
    key = settings.redis_url.get_secret_value(), settings.redis_timeout_s
    found = _pools.get(key)
    return _pools.setdefault(key, make(settings)) if found is None else found


def name_of(settings: BusSettings) -> str:
    """Return the name of this process's pool for that Redis, for `named`."""
    known = next((name for name, one in _settings.items() if one == settings), None)
    name = known or f"redis-{len(_settings) + 1}"
    _settings[name] = settings
    return name


def primary_of(name: str) -> sentinel.Primary | None:
    """Return what the settings of that name say of sentinels; None if they name a server."""
    url = _settings[name].redis_url.get_secret_value()
    return sentinel.Primary.parse(url) if sentinel.is_of(url) else None


def named(name: str) -> Pool:
    """Return this process's pool of that name."""
    return shared(_settings[name])


def options_named(name: str) -> dict[str, Any]:
    """Return what the settings of that name say of connections."""
    return options_of(_settings[name])


def make(settings: BusSettings, *, retries: int = 3) -> Pool:
    """Return a pool of its own for that Redis."""
    defaults = {
        "max_connections": MOST,
        "timeout": WAIT_S,
        "decode_responses": True,
        "socket_timeout": settings.redis_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "retry": Retry(ExponentialBackoff(cap=LONGEST_PAUSE_S, base=0.05), retries),
        "health_check_interval": 30,
    }
    return Pool(**defaults | options_of(settings))


def options_of(settings: BusSettings) -> dict[str, Any]:
    """Return what the URL of that Redis says of connections: their class and options, which go before a pool's own."""
    url = settings.redis_url.get_secret_value()
    if not sentinel.is_of(url):
        return dict(parse_url(url))  # type: ignore[no-untyped-call]
    primary = sentinel.Primary.parse(url)
    return {**primary.options, "connection_class": primary.connection_class, "primary": primary}
