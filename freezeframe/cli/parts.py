"""The parts of a running system, for `freezeframe up`: how each is started, when it is ready, in which order they end.

    ends 1st   control, data    no guest may be held by a worker when the guard goes
         2nd   guard
         3rd   orchestrator
         4th   flower
         5th   redis

If `up` itself is killed, all get SIGKILL from the kernel but two: the guard is told to end, and does so when it has let go of
what the dead workers held; Redis saves.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import redis

from freezeframe import bus
from freezeframe.cli.private_redis import PrivateRedis
from freezeframe.contract import names
from freezeframe.settings import BusSettings, HostSettings
from freezeframe.supervise import Part

#: Seconds for one question whether a part is ready.
PROBE_S = 1.0
#: Seconds for a worker to end. A hold ends within its own bound, 10 s by default; a transfer is not waited for: it is
#: undone by recovery.
WORKER_END_S = 15.0
#: Seconds without a sign of life after which the guard is killed and started again.
GUARD_WATCHDOG_S = 5.0
#: The same of the orchestrator: many times what a look at one run takes, whatever hangs.
ORCHESTRATOR_WATCHDOG_S = 120.0

#: -P: without it Python imports from the directory in which `up` was typed, before it looks where the packages are.
_PYTHON = (sys.executable, "-P")
_FREEZEFRAME = (*_PYTHON, "-m", "freezeframe")


def redis_part(own: PrivateRedis, settings: BusSettings) -> Part:
    argv = ("redis-server", str(own.config))
    return Part(
        "redis", argv, ready=lambda: _redis_answers(settings), end_rank=5, end_s=10.0, orphan_signal=signal.SIGTERM
    )


def guard_part(settings: HostSettings) -> Part:
    """Started again at once: while there is no guard, no guest can be held."""
    return Part(
        "guard",
        (*_FREEZEFRAME, "guard"),
        ready=lambda: guard_answers(settings.guard_socket),
        end_rank=2,
        end_s=30.0,
        hurries=False,  # it may have to let go of what a killed worker held
        orphan_signal=signal.SIGTERM,
        first_pause_s=0.0,
        longest_pause_s=1.0,
        watchdog_s=GUARD_WATCHDOG_S,  # one that stands still beside a worker that does too leaves guests held
    )


def control_part(host: HostSettings, settings: BusSettings, env: Mapping[str, str]) -> Part:
    return _worker("control", ("worker", "control"), lambda: _is_published(settings, host.host_id), env)


def data_part(env: Mapping[str, str]) -> Part:
    return _worker("data", ("worker", "data"), _told_so, env)


def orchestrator_part(env: Mapping[str, str]) -> Part:
    """Started again if its loop stands still: nobody else ends runs that are late."""
    return _worker("orchestrator", ("orchestrator",), _told_so, env, end_rank=3, watchdog_s=ORCHESTRATOR_WATCHDOG_S)


def flower_part(port: int, env: Mapping[str, str]) -> Part:
    """On loopback only. The broker's address reaches it through the environment, not its command line."""
    app = ("-m", "celery", "--workdir=/", "-A", "orchestrator.app")  # celery looks for the app in its directory first
    argv = (*_PYTHON, *app, "flower", "--address=127.0.0.1", f"--port={port}", "--logging=warning")
    return Part(
        "flower",
        argv,
        ready=lambda: _http_answers(port),
        env=env,
        after=("redis", "orchestrator"),
        end_rank=4,
        end_s=5.0,
    )


def guard_answers(path: Path) -> bool:
    """Whether the thaw guard answers a ping: one line of JSON each way. Its own client belongs to the host's package."""
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(PROBE_S)
        line.connect(str(path))
        line.sendall(b'{"v": 1, "verb": "ping"}\n')
        with line.makefile("rb") as answers:
            return json.loads(answers.readline()).get("ok") is True
    return False


def _worker(
    name: str,
    verb: tuple[str, ...],
    ready: Callable[[], bool],
    env: Mapping[str, str],
    *,
    end_rank: int = 1,
    watchdog_s: float | None = None,
) -> Part:
    """Return a Celery worker, which tells when it takes tasks: a question over Redis would reach every worker of the fleet."""
    return Part(
        name,
        (*_FREEZEFRAME, *verb),
        ready=ready,
        env=env,
        after=("redis",),
        end_rank=end_rank,
        end_s=WORKER_END_S,
        watchdog_s=watchdog_s,
        notifies=True,
    )


def _told_so() -> bool:
    """Return True: that it has told so is all there is to know."""
    return True


def _redis_answers(settings: BusSettings) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(bus.connect(settings, retries=0).ping())
    return False


def _is_published(settings: BusSettings, host_id: str) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(bus.connect(settings, retries=0).exists(names.alive_key(host_id)))
    return False


def _http_answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_S)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
