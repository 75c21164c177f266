"""A Redis of our own for `freezeframe up`: on loopback, with a password, its data in the state directory.

The password is drawn anew for every `up`. It stands in two files that only their owner can read: Redis's own config, and
the address file that other verbs on this machine find it by. It is on no command line. TCP and not a Unix socket because
Celery and redis-py write the address of a socket differently, and one address has to do for both.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from freezeframe.cli.address import address_file
from freezeframe.settings import HostSettings


@dataclass(frozen=True)
class PrivateRedis:
    """Where it is, and the file that it is started with."""

    url: str
    config: Path


@contextlib.contextmanager
def private_redis(settings: HostSettings) -> Iterator[PrivateRedis]:
    """Write the files of a private Redis; on leaving, remove the address, which nobody answers at any more."""
    data = settings.state_dir / "redis"
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    data.mkdir(mode=0o700, exist_ok=True)
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    password, port = secrets.token_urlsafe(32), free_port()
    config = data / "redis.conf"
    _write_private(config, _config(port, password, data))
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    _write_private(address_file(), f"{url}\n")
    try:
        yield PrivateRedis(url, config)
    finally:
        address_file().unlink(missing_ok=True)


def free_port(wanted: int = 0) -> int:
    """A free port on loopback; `wanted` itself if it is free. Raises OSError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", wanted))
        return int(probe.getsockname()[1])


def _config(port: int, password: str, data: Path) -> str:
    """Saves at its end and every minute: runs survive a restart of `up`, and none of it may be lost for good anyway."""
    lines = {
        "bind": "127.0.0.1",
        "port": str(port),
        "requirepass": password,
        "dir": f'"{data}"',
        "save": "60 1",
        "daemonize": "no",
        "logfile": '""',
        "loglevel": "warning",
        # broker and records must not be evicted: a full Redis has to say so
        "maxmemory-policy": "noeviction",
    }
    return "".join(f"{name} {value}\n" for name, value in lines.items())


def _write_private(path: Path, text: str) -> None:
    """Never readable for others, not even while it is written, and never there in part."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
