"""A whole Freezeframe on a lab: Redis, orchestrator and Flower on the machine, guard and workers on every host.

What `ops/try`, the lab's tests and the benches run on; the parts are the product's own, started by its own verbs, as an
operator's supervisor would. Each part can be ended and started by itself, so faults can be tried from outside.

    machine     redis · orchestrator · flower     on the bridge's address, so that a host that is cut off is cut off
    host-a …    guard · control · data            in that host's namespaces, with state of their own

Its repository is a directory; or encrypted, with a copy of the key file on each host; or in object storage, on a server of its
own on the bridge's address; or both. Several systems may be on one lab, each with a FREEZEFRAME_RUN_DIR of its own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from freezeframe import bus, presence
from freezeframe.access import ConfiguredKey
from freezeframe.cli.parts import GUARD_WATCHDOG_S, guard_answers
from freezeframe.heartbeat import Pulse
from freezeframe.repository import Repository
from freezeframe.repository.crypto import Secret
from freezeframe.repository.store.address import create_store, open_store
from freezeframe.settings import BusSettings, S3Settings
from ops.lab import Lab
from ops.lab.daemon import PASSABLE
from ops.lab.host import Host
from ops.object_storage import BUCKET, ObjectStorage
from ops.ports import draw_ports
from ops.program import Program

HOST_PARTS = ("guard", "control", "data")
#: Seconds for all parts to be ready. Starting Python and Celery takes three of a core's own; seven do it on two busy ones.
READY_S = 180.0
#: Seconds for the nodes to answer a ping, after which those that start are asked again; all having answered ends it.
PING_S = 2.0
#: Seconds for a part to end by itself before it is killed.
END_S = 20.0
#: Seconds that everybody is patient with object storage: a server that is started again needs four, on busy cores ten.
STORAGE_PATIENCE_S = 20.0

_VERBS = {
    "orchestrator": ["orchestrator"],
    "guard": ["guard"],
    "control": ["worker", "control"],
    "data": ["worker", "data"],
}


class PartError(RuntimeError):
    """A part did not start. The message has the end of its log."""


@dataclass
class Part:
    """One process of the system."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    on_host: bool
    pulse: Pulse | None = None  # of a part that gives its supervisor signs of life

    @property
    def pid(self) -> int:
        """The program itself: on a host it is nsenter's only child, which alone is inside the host's PID namespace."""
        own = self.process.pid
        if not self.on_host:
            return own
        children = Path(f"/proc/{own}/task/{own}/children").read_text(encoding="ascii").split()
        return int(children[0])

    def signal(self, number: int) -> None:
        """Send a signal to the program, unless it has ended."""
        with contextlib.suppress(OSError, IndexError):
            os.kill(self.pid, number)

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@dataclass
class System:
    """Freezeframe on a lab. A context manager: leaving it ends every part that was started."""

    lab: Lab
    directory: Path
    env: Mapping[str, str] = field(default_factory=dict)  # settings on top of the usual ones
    encrypted: bool = False
    storage: ObjectStorage | None = (
        None  # where the repository is, if not in a directory; started and ended with the rest
    )
    parts: dict[str, Part] = field(default_factory=dict)
    port: int = 0
    program: Program = field(default_factory=Program.of_checkout)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        # QEMU's user passes through it to the hosts' scratch files
        self.directory.chmod(PASSABLE)
        (self.port,) = (self.port,) if self.port else draw_ports(str(self.lab.address))

    @property
    def redis_url(self) -> str:
        return f"redis://:{self.password}@{self.lab.address}:{self.port}/0"

    @property
    def repository_path(self) -> Path:
        return Path(self.env.get("FREEZEFRAME_REPOSITORY", self.directory / "repository"))

    @property
    def repository_address(self) -> str:
        return str(self.repository_path) if self.storage is None else f"s3://{BUCKET}/system"

    @property
    def repository(self) -> Repository:
        key = ConfiguredKey(self.key_file() if self.encrypted else None)
        return Repository.open_in(open_store(self.repository_address, self._s3_settings), key)

    @property
    def _s3_settings(self) -> S3Settings | None:
        return None if self.storage is None else self.storage.s3_settings(patience_s=STORAGE_PATIENCE_S)

    def key_file(self, host: Host | None = None) -> Path:
        """The machine's copy of the key, or a host's."""
        return (self.directory / host.name if host else self.directory) / "key"

    @property
    def run_dir(self) -> Path:
        """The same path on each host, in a file system of the host's own."""
        return Path(self.env.get("FREEZEFRAME_RUN_DIR", "/run/freezeframe"))

    @property
    def bus_settings(self) -> BusSettings:
        return BusSettings.model_validate({"redis_url": self.redis_url})

    @property
    def redis(self) -> redis.Redis:
        return bus.connect(self.bus_settings)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self) -> None:
        """Start all parts and wait until each is ready."""
        self._make_repository()
        self.start_redis()
        self.start_part("orchestrator")
        for host in self.lab.hosts.values():
            for part in HOST_PARTS:
                self.start_part(part, host)
        self.wait_ready()

    def end(self) -> None:
        """End all parts, workers before what they need; none is left."""
        order = ["control", "data", "guard", "orchestrator", "flower", "redis"]
        for name in sorted(self.parts, key=lambda name: order.index(name.split("@")[0])):
            self.end_part(name)
        if self.storage is not None:
            self.storage.kill()

    def settings(self, host: Host | None = None) -> dict[str, str]:
        """The environment of a part: settings of the machine, or of a host."""
        usual = {
            "FREEZEFRAME_REDIS_URL": self.redis_url,
            "FREEZEFRAME_REPOSITORY": self.repository_address,
            "FREEZEFRAME_CONFIG": os.devnull,
        }
        if self.encrypted:
            usual["FREEZEFRAME_KEY_FILE"] = str(self.key_file(host))
        if self.storage is not None:
            usual |= self.storage.settings(patience_s=STORAGE_PATIENCE_S)
        if host is not None:
            usual |= {
                "FREEZEFRAME_HOST_ID": host.name,
                "FREEZEFRAME_STATE_DIR": str(self.directory / host.name / "state"),
                "FREEZEFRAME_SCRATCH_DIR": str(self.directory / host.name / "scratch"),
            }
        return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **self.program.env, **usual, **self.env}

    def _make_repository(self) -> None:
        """Unless there is one at its path already; with a key file for everybody who opens it, if it is to be encrypted."""
        if self.storage is not None:
            self.storage.start()
        elif self.repository_path.exists():
            return
        secret = self._make_key() if self.encrypted else None
        store = create_store(self.repository_address, authenticated=self.encrypted, s3=self._s3_settings)
        Repository.init_in(store, secret=secret, label="lab")

    def _make_key(self) -> Secret:
        key = secrets.token_bytes(32)
        for host in (None, *self.lab.hosts.values()):
            path = self.key_file(host)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(key)
        return Secret.key_file(self.key_file())

    def start_redis(self) -> None:
        """A Redis that keeps nothing on disk: whatever is lost with it must not matter (invariant 5)."""
        config = self.directory / "redis.conf"
        config.write_text(
            f"bind {self.lab.address}\nport {self.port}\nrequirepass {self.password}\nsave ''\ndir {self.directory}\n"
            "enable-debug-command yes\n"
        )
        config.chmod(0o600)
        self._spawn("redis", ["redis-server", str(config)], None)
        self._wait("redis", self._redis_answers, ("redis",))

    def start_part(self, part: str, host: Host | None = None) -> Part:
        """Start one part by its verb; `wait_ready` waits for it."""
        name = f"{part}@{host.name}" if host else part
        return self._spawn(name, self.command_line(*_VERBS[part]), host)

    def command_line(self, *arguments: str) -> list[str]:
        """The `freezeframe` command with arguments."""
        return [*self.program.argv, *arguments]

    def end_part(self, name: str, signal_number: int = signal.SIGTERM) -> None:
        """End one part, by its pid, in its own way first."""
        part = self.forget_part(name)
        if part.process.poll() is None:
            part.signal(signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            part.process.wait(END_S)
        if part.process.poll() is None:
            part.signal(signal.SIGKILL)
            part.process.wait()

    def forget_part(self, name: str) -> Part:
        """A part that has ended, or is to end; another may be started in its place."""
        part = self.parts.pop(name)
        if part.pulse is not None:
            part.pulse.close()
        return part

    def wait_ready(self) -> None:
        """Wait until every part that was started can do its work."""
        nodes = {name for name in self.parts if name.split("@")[0] in {"control", "data", "orchestrator"}}
        self._wait("guards", lambda: all(guard_answers(path) for path in self._guard_sockets()))
        self._wait("workers", lambda: self._nodes(len(nodes)) >= nodes)
        self._wait("inventory", lambda: self._published() >= set(self.lab.hosts))

    def _guard_sockets(self) -> list[Path]:
        """Of the guards that were started. That a socket is there says nothing: a guard that was killed leaves its own."""
        hosts = [name.partition("@")[2] for name in self.parts if name.startswith("guard@")]
        socket = self.run_dir.relative_to("/") / "guard.sock"
        return [self.lab.host(name).root / socket for name in hosts]

    def _nodes(self, expected: int) -> set[str]:
        app = bus.celery_app("probe", self.bus_settings)
        with app.connection_for_write() as connection:
            answers = app.control.ping(timeout=PING_S, limit=expected, connection=connection)
        names = {node for answer in answers for node in answer}
        return {"orchestrator" if name.startswith("orchestrator@") else name for name in names}

    def _published(self) -> set[str]:
        return {host.entry.host_id for host in presence.known_hosts(self.redis) if host.alive and host.entry.guests}

    def _redis_answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(bus.connect(self.bus_settings, retries=0).ping())
        return False

    def _spawn(self, name: str, argv: list[str], host: Host | None) -> Part:
        log = self.directory / f"{name.replace('@', '.')}.log"
        pulse = Pulse(log.with_suffix(".pulse"), GUARD_WATCHDOG_S) if name.startswith("guard") else None
        inside = host.inside(argv) if host else argv
        with log.open("ab") as output:
            process = subprocess.Popen(
                inside,
                env=self.settings(host) | (pulse.env if pulse else {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.parts[name] = Part(name, log, process, on_host=host is not None, pulse=pulse)
        return self.parts[name]

    def _wait(self, what: str, ready: Callable[[], bool], on: Iterable[str] | None = None) -> None:
        """Wait until it is ready, on these parts (None: all), each of which must live."""
        deadline = time.monotonic() + READY_S
        while not ready():
            parts = [self.parts[name] for name in (self.parts if on is None else on)]
            dead = next((part for part in parts if part.process.poll() is not None), None)
            if dead is not None:
                raise PartError(f"{dead.name} ended with {dead.process.returncode}:\n{dead.tail()}")
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {part.name}\n{part.tail()}" for part in self.parts.values())
                raise PartError(f"not ready after {READY_S:g} s: {what}\n{logs}")
            time.sleep(0.1)


@contextlib.contextmanager
def system_on(lab: Lab, directory: Path, **env: str) -> Iterator[System]:
    """A system with settings of its own, for as long as the block lasts."""
    with System(lab, directory, env) as system:
        yield system
