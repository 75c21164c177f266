"""A Redis that has no address of its own: sentinels know which of several servers is the primary now.

    redis+sentinel://[user:password@]host[:port][,host[:port]…]/NAME[/database][?sentinel_username=…&sentinel_password=…]
    rediss+sentinel://…                                              TLS, to the sentinels too

A connection asks the sentinels each time that it connects, and a primary that was made a replica ends it: so after a failover
each connection finds the new primary by itself, within the tries that it has for any other loss. redis-py's own pool for that
has no bound on its connections, and kombu's channel none that it shares (`redis_pool`), so here the connection asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import redis
from redis.connection import parse_url

SCHEMES: Final = ("redis+sentinel", "rediss+sentinel")
#: Where a sentinel listens by default.
PORT: Final = 26379
#: Options of a URL that are for sentinels, and not for the primary.
OWN: Final = frozenset({"sentinel_username", "sentinel_password"})
#: A blank in a host's name, or a part of an address that was to be quoted.
_NO_HOST: Final = re.compile(r"[\s,;/\\?#@\"'<>]|%(?!25)")


class _AddressError(ValueError):
    """What is wrong with a URL, without any part of it."""


class NoPrimaryError(redis.ConnectionError):
    """No sentinel tells of a primary: it is waited for like a server that is away."""


@dataclass(frozen=True)
class Primary:
    """What a URL says of a primary and its sentinels."""

    name: str
    sentinels: tuple[tuple[str, int], ...]
    options: Mapping[str, Any] = field(repr=False)  # of a connection to the primary, as redis-py reads them from a URL
    sentinel_options: Mapping[str, Any] = field(repr=False)
    url: str = field(
        repr=False
    )  # for what takes a plain one: with the name in place of a host, which no resolver is asked

    @classmethod
    def parse(cls, url: str) -> Primary:
        """Raises ValueError, which tells no password."""
        try:
            return cls._parse(url)
        except _AddressError:
            raise
        except ValueError:  # urllib's names all of it
            raise _AddressError("it cannot be read as an address") from None

    @classmethod
    def _parse(cls, url: str) -> Primary:
        scheme, _, rest = url.partition("://")
        scheme = scheme.partition("+")[0]
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]  # which urlsplit refuses with an IPv6 address among several
        user, _, hosts = authority.rpartition("@")
        parts = urlsplit(f"//{rest.removeprefix(authority)}")
        name, _, database = parts.path.strip("/").partition("/")
        # a number alone is a database's, and the name is missing
        if not name or not re.fullmatch("[0-9]*", database) or (not database and re.fullmatch("[0-9]+", name)):
            raise _AddressError(
                "its path is no name of a primary, as in redis+sentinel://s1.example.org:26379/mymaster/0"
            )
        query = dict(parse_qsl(parts.query))
        others = urlencode({key: value for key, value in query.items() if key not in OWN}, quote_via=quote)
        plain = f"{scheme}://{f'{user}@' if user else ''}{quote(unquote(name), safe='')}/{database or 0}"
        plain += f"?{others}" if others else ""
        read = parse_url(plain)  # type: ignore[no-untyped-call]
        options = {key: value for key, value in read.items() if key not in {"host", "port", "connection_class"}}
        tls = {key: value for key, value in options.items() if key.startswith("ssl_")}
        own = {key.removeprefix("sentinel_"): value for key, value in query.items() if key in OWN}
        return cls(
            name=unquote(name),
            sentinels=tuple(_place(one) for one in hosts.split(",")),
            options=options,
            sentinel_options={**tls, **own, "ssl": scheme == "rediss"},
            url=plain,
        )

    @property
    def tls(self) -> bool:
        return bool(self.sentinel_options["ssl"])

    @property
    def connection_class(self) -> type[redis.Connection]:
        return PrimaryTlsConnection if self.tls else PrimaryConnection

    def find(self, timeout_s: float) -> tuple[str, int]:
        """Return where the primary is, by the first sentinel that knows. Raises NoPrimaryError. `timeout_s` is for all."""
        refused = []
        each_s = timeout_s / len(self.sentinels)
        for host, port in self.sentinels:
            bounds = {"socket_timeout": each_s, "socket_connect_timeout": each_s, "retry": None}
            options: dict[str, Any] = {**self.sentinel_options, **bounds}
            try:
                with closing(redis.Redis(host=host, port=port, **options)) as sentinel:
                    return _up(cast("dict[str, Any]", sentinel.sentinel_master(self.name)))
            except redis.RedisError as error:
                refused.append(f"{host}:{port}: {error}")
        raise NoPrimaryError(f"no sentinel tells where Redis {self.name} is ({'; '.join(refused)})")


def _up(state: Mapping[str, Any]) -> tuple[str, int]:
    if not state["is_master"] or state["is_sdown"] or state["is_odown"]:
        raise NoPrimaryError("its primary is down")
    return str(state["ip"]), int(state["port"])


def _place(text: str) -> tuple[str, int]:
    """Return host and port. Raises ValueError."""
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not is_host(parts.hostname) or port == 0 or parts.path:
        raise _AddressError(
            "it names no host and port of a sentinel, as in redis+sentinel://s1.example.org:26379/mymaster/0"
        )
    return str(parts.hostname), PORT if port is None else port


class _Asks:
    """What makes a connection one to the primary of now."""

    def __init__(self, *, primary: Primary, **options: Any) -> None:
        self._primary = primary
        super().__init__(**options)

    def _connect(self) -> Any:
        self.host, self.port = self._primary.find(self.socket_connect_timeout)  # type: ignore[attr-defined]
        return super()._connect()  # type: ignore[misc]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except redis.exceptions.ReadOnlyError as error:
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.ConnectionError(f"Redis {self._primary.name} has another primary now") from error


class PrimaryConnection(_Asks, redis.Connection):
    """A connection to the primary."""


class PrimaryTlsConnection(_Asks, redis.SSLConnection):
    """The same with TLS."""


def is_host(name: str | None) -> bool:
    """Return True for what may be the name or the address of a host."""
    return bool(name) and not _NO_HOST.search(name or "")


def is_of(url: str) -> bool:
    """Return True if a URL names sentinels."""
    return url.partition("://")[0] in SCHEMES
