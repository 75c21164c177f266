"""`freezeframe up`: the whole system on one machine, or one machine's share of it, in one terminal."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
from enum import StrEnum
from typing import Annotated, Final, TextIO

import typer

from freezeframe.access import ConfiguredKey, expected_of, make_default_parent
from freezeframe.cli import parts
from freezeframe.cli.lines import Lines
from freezeframe.cli.private_redis import PrivateRedis, free_port, private_redis
from freezeframe.errors import EXIT_REFUSED, FreezeframeError
from freezeframe.missing import remedy
from freezeframe.repository import Repository
from freezeframe.repository.config import default_chunk_bytes
from freezeframe.repository.errors import RepositoryNotFound
from freezeframe.settings import BusSettings, HostSettings, RepositorySettings, load
from freezeframe.supervise import Part, Supervisor

_STYLES = {
    "redis": "red",
    "guard": "cyan",
    "control": "green",
    "data": "blue",
    "orchestrator": "magenta",
    "flower": "yellow",
}


class Share(StrEnum):
    """What of the system runs here."""

    HOST = "host"
    GUARD = "guard"
    ORCHESTRATOR = "orchestrator"


#: The locks of each share: a host has its guard, so neither starts beside the other.
_LOCKS: Final = {Share.HOST: ("host", "guard"), Share.GUARD: ("guard",), Share.ORCHESTRATOR: ("orchestrator",)}


class CannotStartError(FreezeframeError):
    """Something that must be there to begin is not."""

    code = "cannot-start"
    exit_code = EXIT_REFUSED


def up(
    only: Annotated[
        Share | None,
        typer.Option(
            help="Only one share of the system. host: guard, control and data worker. orchestrator: orchestrator and "
            "Flower. Both use the Redis of the settings. guard: the guard alone, where something else starts the workers; it "
            "needs no Redis.",
            show_default=False,
        ),
    ] = None,
    *,
    redis_from_settings: Annotated[
        bool,
        typer.Option(
            "--redis-url-from-settings",
            help="Start no Redis; use the one of the settings even if they only have their default for it.",
        ),
    ] = False,
    flower_port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="PORT", help="Where Flower listens, on loopback.")
    ] = 5555,
    flower: Annotated[bool, typer.Option("--flower/--no-flower", help="Whether to run Flower.")] = True,
) -> None:
    """Start everything on this machine, and keep it running until Ctrl-C.

    A private Redis (unless FREEZEFRAME_REDIS_URL names one), the orchestrator, this host's thaw guard and workers, and
    Flower. A repository is made if there is none. A part that dies is started again. The first Ctrl-C ends all in good
    order, a second one hurries; guests that are held are let go in either case. It goes on when its terminal is closed:
    `kill` ends it then, and a second `freezeframe up` tells its process.
    """
    host = load(HostSettings)
    with contextlib.ExitStack() as stack:
        _lock(stack, host, only)
        own = None
        if only is None and not redis_from_settings and "redis_url" not in load(BusSettings).model_fields_set:
            own = _own_redis(stack, host)
        wanted = _parts(host, own, only, flower_port if flower else None)
        console = stack.enter_context(Lines(["repository", *(part.name for part in wanted)], _STYLES))
        if only in {None, Share.ORCHESTRATOR}:
            _ensure_repository(console)
        _run(wanted, console)


def _run(wanted: list[Part], console: Lines) -> None:
    supervisor = Supervisor(wanted, tell=console.tell, announce=console.announce)
    # captures go on when a terminal is closed or a connection to this machine breaks. No SIG_IGN, which parts would inherit
    does = {signal.SIGHUP: lambda *_: None} | dict.fromkeys(
        (signal.SIGINT, signal.SIGTERM), lambda *_: supervisor.stop()
    )
    handlers = {number: signal.signal(number, do) for number, do in does.items()}
    try:
        supervisor.run()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _parts(host: HostSettings, own: PrivateRedis | None, only: Share | None, flower_port: int | None) -> list[Part]:
    settings = load(BusSettings)
    env: dict[str, str] = {}
    found: list[Part] = []
    if own is not None:
        settings = BusSettings.model_validate({**settings.model_dump(), "redis_url": own.url})
        # whatever this machine calls itself: no other host is on a Redis of one's own
        env = {"FREEZEFRAME_REDIS_URL": own.url, "FREEZEFRAME_HOST_ID": host.host_id}
        found.append(parts.redis_part(own, settings))
    if only is not Share.ORCHESTRATOR:
        _expect_modules("libvirt", "lxml")
        found.append(parts.guard_part(host))
    if only in {None, Share.HOST}:
        _expect_modules("nbd")
        found += [parts.control_part(host, settings, env), parts.data_part(env)]
    if only in {None, Share.ORCHESTRATOR}:
        _expect_modules("prometheus_client")
        found.append(parts.orchestrator_part(env))
        if flower_port is not None:
            found.append(_flower(flower_port, env))
    return found


def _flower(port: int, env: dict[str, str]) -> Part:
    _expect_modules("flower", besides=" Or say --no-flower.")
    try:
        free_port(port)
    except OSError as error:
        raise CannotStartError(
            f"Flower cannot listen on 127.0.0.1:{port}: {error.strerror}.",
            advice="Give it another port with --flower-port, or leave it out with --no-flower.",
        ) from error
    return parts.flower_part(port, env)


def _own_redis(stack: contextlib.ExitStack, host: HostSettings) -> PrivateRedis:
    if shutil.which("redis-server") is None:
        raise CannotStartError(
            "There is no redis-server on this machine.",
            advice="Install it (Debian: apt install redis-server), or let FREEZEFRAME_REDIS_URL name a Redis.",
        )
    return stack.enter_context(private_redis(host))


def _expect_modules(*names: str, besides: str = "") -> None:
    """Raise CannotStartError for the first module that is not there, with how to install it."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            advice = remedy(ModuleNotFoundError(name=name)) or "Install freezeframe again, in one piece."
            raise CannotStartError(f"The Python module {name} is not installed.", advice=f"{advice}.{besides}")


def _ensure_repository(console: Lines) -> None:
    settings = load(RepositorySettings)
    address = settings.repository
    configured = ConfiguredKey.of(settings)
    try:
        found = Repository.open(address, configured, expected_of(settings))
    except RepositoryNotFound:
        stated = {settings.repository_encrypted, settings.repository_authenticated}
        if settings.repository_id is not None or not stated <= {None, configured.expected}:
            raise  # one is expected that this could not make
        make_default_parent(settings)
        chunk_bytes = default_chunk_bytes(address)
        found = Repository.init(address, chunk_bytes=chunk_bytes, secret=configured.secret(), label="first")
        console.announce("repository", f"made at {found.address}")
    else:
        console.announce("repository", f"is at {found.address}")


def _lock(stack: contextlib.ExitStack, host: HostSettings, only: Share | None) -> None:
    """Two of a kind on one state directory would answer each other's orders."""
    host.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in sorted({name for share in ([only] if only else Share) for name in _LOCKS[share]}):
        lock = stack.enter_context((host.run_dir / f"up-{name}.lock").open("a+"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _runs_already(host, lock) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()


def _runs_already(host: HostSettings, lock: TextIO) -> CannotStartError:
    """Return what is told of the `up` that has a lock, and has written its process there."""
    lock.seek(0)
    pid = lock.read(32).strip()
    who, end = (f", process {pid},", f", end it with `kill {pid}`,") if pid.isdecimal() else ("", "")
    return CannotStartError(
        f"`freezeframe up` is running already{who} with {host.run_dir}.",
        advice=f"Use that one{end} or give this one directories of its own (FREEZEFRAME_RUN_DIR, FREEZEFRAME_STATE_DIR).",
    )
