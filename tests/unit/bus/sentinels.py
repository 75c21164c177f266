"""Two Redis servers on this machine, one the other's replica, and a sentinel that tells which of them is the primary."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from freezeframe import redis_fault

from .certificate import Certificate

NAME = "mymaster"
#: Of the user of all of them; a word that nothing else has.
PASSWORD = "s3kr1t-w0rd"  # noqa: S105


def until(reached: Callable[[], bool]) -> None:
    """Wait until it is so; the test's time-out bounds it."""
    while True:
        try:
            if reached():
                return
        except redis_fault.TROUBLE:
            pass
        time.sleep(0.02)


@dataclass
class Site:
    """The servers, by their ports."""

    sentinel: int
    trusted: Certificate | None = None  # all of them speak TLS, and no plain text
    servers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def url(self, *others: int) -> str:
        """Return the URL of the site; `others` are sentinels before the one that there is."""
        places = ",".join(f"127.0.0.1:{port}" for port in (*others, self.sentinel))
        scheme, trusted = "redis+sentinel", ""
        if self.trusted is not None:
            scheme, trusted = "rediss+sentinel", f"&ssl_ca_certs={self.trusted.cert}"
        return f"{scheme}://:{PASSWORD}@{places}/{NAME}/0?sentinel_password={PASSWORD}{trusted}"

    def client(self, port: int) -> redis.Redis:
        tls: dict[str, Any] = {} if self.trusted is None else {"ssl": True, "ssl_ca_certs": str(self.trusted.cert)}
        return redis.Redis(port=port, password=PASSWORD, decode_responses=True, socket_timeout=5, **tls)

    def ask(self, port: int, *words: Any) -> Any:
        with closing(self.client(port)) as client:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]

    def primary(self) -> int:
        """Return the port of the primary, as the sentinel tells."""
        return int(self.ask(self.sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def fail_over(self) -> int:
        """Have the replica be the primary, with both alive; return the new one's port."""
        before = self.primary()
        until(lambda: bool(self.ask(self.sentinel, "SENTINEL", "FAILOVER", NAME)))  # refused until it knows the replica
        until(lambda: self.primary() != before)
        until(lambda: self.ask(before, "ROLE")[0] == "slave")  # until then it takes writes, and loses them
        return self.primary()

    def kill_primary(self) -> int:
        """Kill the primary and wait for the other one to take its place; return its port."""
        before = self.primary()
        until(self._has_a_replica)
        self.servers[before].kill()
        until(lambda: self.primary() != before)
        return self.primary()

    def _has_a_replica(self) -> bool:
        """Return True if the sentinel has seen that the replica is linked to the primary."""
        told = str(self.ask(self.sentinel, "SENTINEL", "REPLICAS", NAME))
        return "master-link-status" in told and "'ok'" in told


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def site(directory: Path, trusted: Certificate | None = None) -> Iterator[Site]:
    """Start all three; with `trusted` they have that certificate, and each speaks TLS with the others too."""
    first, second, port = free_port(), free_port(), free_port()
    made = Site(port, trusted)
    common = ["--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", "", *_tls(made)]
    try:
        for one, more in ((first, []), (second, ["--replicaof", "127.0.0.1", str(first)])):
            own = directory / str(one)
            own.mkdir()
            words = ["--dir", str(own), "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"]
            made.servers[one] = _started(*_port(made, one), *common, *words, *more)
        config = directory / "sentinel.conf"
        config.write_text(
            f"bind 127.0.0.1\nrequirepass {PASSWORD}\ndir {directory}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {first} 1\nsentinel auth-pass {NAME} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 2000\n"
            f"{_lines([*_port(made, port), *_tls(made)])}"
        )
        until(lambda: _is_linked(made, second))
        made.servers[port] = _started(str(config), "--sentinel")
        until(lambda: made.primary() == first)
        yield made
    finally:
        for server in made.servers.values():
            server.kill()
            server.wait()


def _port(made: Site, port: int) -> list[str]:
    return ["--port", str(port)] if made.trusted is None else ["--port", "0", "--tls-port", str(port)]


def _tls(made: Site) -> list[str]:
    return [] if made.trusted is None else [*made.trusted.of_server(), "--tls-replication", "yes"]


def _lines(words: list[str]) -> str:
    """Return options of a command as lines of a file."""
    pairs = zip(words[::2], words[1::2], strict=True)
    return "".join(f"{name.removeprefix('--')} {value}\n" for name, value in pairs)


def _started(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)


def _is_linked(made: Site, port: int) -> bool:
    with closing(made.client(port)) as client:
        return bool(client.info("replication").get("master_link_status") == "up")
