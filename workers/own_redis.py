"""Own Redis: the Redis over which this host's captures run, told from any other.

    Redis has              │ and no record of a run, which means
    this host's id of it   │ the run has ended, or its record was lost
    another id, or none    │ nothing: this is another Redis, or one that was emptied and that no worker has met since

The control worker has orders from one Redis only, and no run that this one does not have can go on here. A verb that is typed
may ask another: a Redis that Debian's package has started is as good as empty. `<state_dir>/redis-id` has the id that the
control worker has met last; it puts one into a Redis that has none.
"""

from __future__ import annotations

import secrets
from typing import cast

import structlog

from freezeframe.contract import names
from workers import durable
from workers.host import Host

log = structlog.get_logger("own-redis")

FILE = "redis-id"


def note(host: Host, found: str | None) -> None:
    """Note that the control worker's Redis, which has the id `found` or none, is this host's own.

    Raises redis errors; a disk that is full is logged.
    """
    try:
        kept = durable.read(host.settings.state_dir / FILE)
        if found is None:
            host.redis.set(names.REDIS_ID_KEY, kept or secrets.token_hex(16), nx=True)
            found = cast("str | None", host.redis.get(names.REDIS_ID_KEY))
        if found and found != kept:
            durable.replace(host.settings.state_dir / FILE, found)
    except OSError as error:
        log.warning("`freezeframe recover` will not know this host's Redis", why=str(error))


def is_own(host: Host) -> bool:
    """Return True if the host's Redis is the one that its control worker has met last. Raises redis errors, OSError."""
    found = cast("str | None", host.redis.get(names.REDIS_ID_KEY))
    return bool(found) and found == durable.read(host.settings.state_dir / FILE)
