"""kombu's transport over Redis, with what it lacks: a bound on its connections, and an end to a channel without one.

kombu has no option to name another channel with a URL, so these take the place of its own when this module is imported.
"""

from __future__ import annotations

from typing import Any

import redis
from kombu.transport import redis as redis_transport

from freezeframe import redis_pool

#: The transport option with the name of the pool for short commands (`freezeframe.redis_pool`).
SHARED_POOL = "shared_pool"
#: Seconds that a worker waits for an order until it asks again. kombu asks each second: of a thousand idle hosts that was
#: nearly half of what Redis had to do. A worker that is told to end waits for the answer.
POLL_S = 2


class QoS(redis_transport.QoS):
    """The messages that a channel has not acknowledged.

    A worker whose connection breaks takes the connection from its transport first and closes its channels then; a channel that
    has a message in hand wants to give it back, finds no connection, and the whole worker ends for it ("Unrecoverable
    error … has no attribute 'hostname'"). Met with celery and kombu 5.7 when Redis dies between a message and its
    acknowledgement. The message is lost to the queue either way, which is the reconciler's to find. [celery
    worker/consumer/consumer.py on_connection_error_after_connected; kombu connection.py collect]
    """

    def restore_unacked(self, client: redis.Redis | None = None) -> None:
        if self.channel.connection.client is None:
            self._delivered.clear()
        else:
            super().restore_unacked(client)  # type: ignore[no-untyped-call]


class Channel(redis_transport.Channel):
    """A channel that gives its short commands over the pool that it shares with the rest of its process.

    Only a channel that waits for messages has a connection of its own: for BRPOP, or for broadcasts. kombu opens one with
    every channel, to see whether Redis answers, and keeps it. Here it is closed again; a channel that waits reopens it.
    """

    QoS = QoS
    from_transport_options = (*redis_transport.Channel.from_transport_options, SHARED_POOL)  # type: ignore[assignment]
    shared_pool: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._short: redis.Redis | None = None
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        if self._async_pool is not None:
            self._async_pool.disconnect(inuse_connections=False)

    def _get_pool(self, asynchronous: bool = False) -> redis.ConnectionPool:  # noqa: FBT001, FBT002  as in kombu
        if asynchronous or self.shared_pool is None:
            return super()._get_pool(asynchronous)  # type: ignore[no-untyped-call, no-any-return]
        return redis_pool.named(self.shared_pool)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002  as in kombu
        """Return the options of the connections that wait for messages: to the primary of now, if sentinels tell it.

        And to the database of all others: kombu does not read it from the address of a Unix socket.
        """
        if self.shared_pool is None:
            return super()._connparams(asynchronous)  # type: ignore[no-untyped-call, no-any-return]
        database = {"db": redis_pool.options_named(self.shared_pool).get("db", 0)}
        primary = redis_pool.primary_of(self.shared_pool)
        if primary is None:
            return {**super()._connparams(asynchronous), **database}  # type: ignore[no-untyped-call]
        setattr(self, "connection_class_ssl" if primary.tls else "connection_class", primary.connection_class)
        return {**super()._connparams(asynchronous), **database, "primary": primary}  # type: ignore[no-untyped-call]

    def _create_client(self, asynchronous: bool = False) -> redis.Redis:  # noqa: FBT001, FBT002  as in kombu
        """Return a client; for short commands always the same. kombu makes one for each, which takes as long as the command."""
        if asynchronous or self.shared_pool is None:
            return super()._create_client(asynchronous)  # type: ignore[no-untyped-call, no-any-return]
        if self._short is None or self._short.connection_pool is not self.pool:
            self._short = redis.Redis(connection_pool=self.pool)
        return self._short

    def _disconnect_pools(self) -> None:
        """Leave the shared pool alone: other threads have its connections in hand."""
        if self.shared_pool is not None:
            self._pool = None
        super()._disconnect_pools()  # type: ignore[no-untyped-call]


redis_transport.Transport.Channel = Channel
redis_transport.Transport.brpop_timeout = POLL_S
