"""A Redis that a test can make refuse writes, in each of the ways in which real ones do, and heal again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis

#: The user that heals what the default user must not do any more.
ADMIN = "admin"
PASSWORD = "for-tests-only"  # noqa: S105  of a Redis that lives for one test, on a socket in the test's directory


@dataclass(frozen=True)
class Refusing:
    """A Redis server of one test. `admin` may always write to its configuration."""

    url: str
    directory: Path
    admin: redis.Redis

    @contextmanager
    def refusing(self, how: str) -> Iterator[None]:
        """Refuse writes for as long as the block takes."""
        refuse, heal = _WAYS[how]
        refuse(self)
        try:
            yield
        finally:
            heal(self)

    def forbid(self, command: str) -> None:
        """Take the right to one command from the default user."""
        _acl(f"-{command}")(self)

    def dump(self) -> Path:
        return self.directory / "dump.rdb"


@contextmanager
def refusing_redis(directory: Path) -> Iterator[Refusing]:
    """Start a Redis server that saves, so that it can fail to."""
    socket = directory / "s"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(directory), "--save", "3600 1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            plain = redis.Redis.from_url(f"unix://{socket}", decode_responses=True)
            _until(lambda: _answers(plain))
            plain.acl_setuser(
                ADMIN, enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], channels=["*"], categories=["+@all"]
            )
            plain.close()
            admin = redis.Redis(unix_socket_path=str(socket), username=ADMIN, password=PASSWORD, decode_responses=True)
            yield Refusing(f"unix://{socket}", directory, admin)
            admin.close()
        finally:
            server.kill()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _until(reached: Callable[[], bool]) -> None:
    """Wait for what must come; the test's own time-out bounds it."""
    while not reached():
        time.sleep(0.01)


def _save(server: Refusing, wanted: str) -> None:
    server.admin.bgsave()
    _until(lambda: not _persistence(server)["rdb_bgsave_in_progress"])
    assert _persistence(server)["rdb_last_bgsave_status"] == wanted


def _persistence(server: Refusing) -> dict[str, object]:
    return cast("dict[str, object]", server.admin.info("persistence"))


def _fill_disk(server: Refusing) -> None:
    """A save that fails, as on a full disk: its file cannot get its name."""
    server.dump().unlink(missing_ok=True)
    server.dump().mkdir()
    _save(server, "err")


def _free_disk(server: Refusing) -> None:
    server.dump().rmdir()
    _save(server, "ok")


def _lock_out(server: Refusing) -> None:
    """Another password, which only new connections meet: those that are open go too."""
    _acl("resetpass", ">another")(server)
    server.admin.client_kill_filter(_type="normal", skipme=True)


def _command(server: Refusing, *words: str) -> None:
    server.admin.execute_command(*words)  # type: ignore[no-untyped-call]


def _acl(*rules: str) -> Callable[[Refusing], None]:
    return lambda server: _command(server, "ACL", "SETUSER", "default", *rules)


def _replicate(*primary: str) -> Callable[[Refusing], None]:
    return lambda server: _command(server, "REPLICAOF", *primary)


def _limit_memory(most_bytes: int) -> Callable[[Refusing], None]:
    return lambda server: _command(server, "CONFIG", "SET", "maxmemory", str(most_bytes))


_WAYS: dict[str, tuple[Callable[[Refusing], None], Callable[[Refusing], None]]] = {
    "MISCONF": (_fill_disk, _free_disk),
    "OOM": (_limit_memory(1), _limit_memory(0)),
    "READONLY": (_replicate("127.0.0.1", "1"), _replicate("NO", "ONE")),
    "NOPERM": (_acl("-@write"), _acl("+@all")),
    "NOAUTH": (_lock_out, _acl("nopass")),
}
WAYS = tuple(_WAYS)
