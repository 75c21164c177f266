"""A line: the connection of one worker that waits for its orders, as kombu's has it.

    BRPOP queue…, each at four priorities, for two seconds at most  ─▶  an order, or nothing: then again

One thread reads the lines of all workers of a fleet, by a selector. [kombu/transport/redis.py _brpop_start, _brpop_read]
"""

from __future__ import annotations

import json
import selectors
from collections.abc import Iterator, Sequence
from typing import Any, Final

import redis

from freezeframe.transport import POLL_S

#: kombu's, without transport options that say otherwise.
PRIORITIES: Final = (0, 3, 6, 9)
SEPARATOR: Final = "\x06\x16"


class Line:
    """One worker's connection for the orders of its queues."""

    def __init__(self, client: redis.Redis, queues: Sequence[str], poll_s: int = POLL_S) -> None:
        connection: Any = client.connection_pool.make_connection()
        connection.connect()
        self._connection = connection
        self._command = ("BRPOP", *(_key(queue, one) for one in PRIORITIES for queue in queues), poll_s)

    def fileno(self) -> int:
        """Return the socket's number, for a selector."""
        return int(self._connection._sock.fileno())  # noqa: SLF001  redis-py tells it nowhere else

    def wait(self) -> None:
        """Ask for an order."""
        self._connection.send_command(*self._command)

    def read(self) -> dict[str, Any] | None:
        """Return the message that has come; None if none came in time."""
        answer = self._connection.read_response()
        return None if answer is None else json.loads(answer[1])

    def close(self) -> None:
        self._connection.disconnect()


class Listener:
    """A worker's other connections: one that hears what is broadcast, and one for short commands, which rests."""

    def __init__(self, client: redis.Redis) -> None:
        self._connections: list[Any] = [client.connection_pool.make_connection() for _ in range(2)]
        for one in self._connections:
            one.connect()
        heard, _ = self._connections
        heard.send_command("PSUBSCRIBE", "/0.celery.pidbox")

    def close(self) -> None:
        for one in self._connections:
            one.disconnect()


class Lines:
    """The lines of many workers."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, line: Line) -> None:
        """Have a worker wait for its orders."""
        line.wait()
        self._selector.register(line, selectors.EVENT_READ)

    def messages(self, seconds: float) -> Iterator[dict[str, Any]]:
        """Yield the messages that come within this time. Each line waits again at once."""
        for ready, _ in self._selector.select(seconds):
            line = ready.fileobj
            assert isinstance(line, Line)
            message = line.read()
            line.wait()
            if message is not None:
                yield message

    def close(self) -> None:
        for one in list(self._selector.get_map().values()):
            line = one.fileobj
            assert isinstance(line, Line)
            line.close()
        self._selector.close()


def _key(queue: str, priority: int) -> str:
    return f"{queue}{SEPARATOR}{priority}" if priority else queue
