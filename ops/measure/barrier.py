"""`ops/bench barrier`: from the last arrival to the last wake-up, with many simulated hosts on one Redis.

Each simulated host is a process with the product's own Gate on a connection of its own, as a host's worker is. The last to
arrive is the bench itself. The time begins before its call and ends when the last of all hosts is awake, by the machine's
one monotonic clock, which every host writes into memory that all share: nothing is sent until all are awake.
"""

from __future__ import annotations

import gc
import mmap
import os
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import redis
from ulid import ULID

from freezeframe.barrier import Gate, gate_client
from freezeframe.settings import BusSettings

SIZES = (10, 100, 1000)
DEADLINE_S = 60.0
_TIME = struct.Struct("d")


def run(rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All sizes, `rounds` meetings each."""
    rows = []
    with redis_server() as url:
        for hosts in SIZES:
            with Crowd(url, hosts) as crowd:
                times = [crowd.meeting(epoch) for epoch in range(rounds)]
            row = {"hosts": hosts, "p50_ms": _percentile(times, 50), "p99_ms": _percentile(times, 99)}
            say(f"{hosts} hosts: p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms")
            rows.append(row)
    return {"bench": "barrier", "rounds": rounds, "rows": rows, "cores": os.cpu_count()}


class Crowd:
    """All hosts but the last as processes, which meet again and again until the turnstile is closed."""

    def __init__(self, url: str, hosts: int) -> None:
        self._settings = BusSettings.model_validate({"redis_url": url})
        self._names = [f"host-{number}" for number in range(hosts)]
        self._capture_id = str(ULID())
        self._woken = mmap.mmap(-1, _TIME.size * hosts)  # a time for each host, 0 while it waits
        self._turnstile, self._let_in = os.pipe()
        self._last = gate_client(self._settings)

    def __enter__(self) -> Self:
        gc.freeze()  # or the children's collector would copy every page
        self._pids = [self._start(number) for number in range(1, len(self._names))]
        os.close(self._turnstile)
        self._last.ping()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._let_in)
        for pid in self._pids:
            os.waitpid(pid, 0)
        gc.unfreeze()

    def meeting(self, epoch: int) -> float:
        """Let all but one host arrive, then the last; ms from before its call to the last wake-up."""
        others = len(self._names) - 1
        self._woken[:] = bytes(len(self._woken))
        _write(self._let_in, bytes([epoch]) * others)
        last = self._gate(self._last, epoch, 0)
        _until(lambda: last.look().so_far == others)
        time.sleep(0.2)  # the last of them goes to sleep on its list
        began = time.monotonic()
        last.meet(began + DEADLINE_S)
        _TIME.pack_into(self._woken, 0, time.monotonic())
        _until(lambda: all(self._times()))
        return (max(self._times()) - began) * 1000

    def _times(self) -> Sequence[float]:
        return [woken for (woken,) in _TIME.iter_unpack(self._woken[:])]

    def _gate(self, client: redis.Redis, epoch: int, number: int) -> Gate:
        return Gate(client, self._capture_id, epoch, "held", self._names[number], len(self._names))

    def _start(self, number: int) -> int:
        """Fork one host. A fork costs it no memory but what it writes, so that a thousand fit."""
        if pid := os.fork():
            return pid
        try:
            os.close(self._let_in)
            self._live(number)
        finally:
            os._exit(0)  # nothing of the parent's is the child's to end

    def _live(self, number: int) -> None:
        client = gate_client(self._settings)
        client.ping()
        while epoch := os.read(self._turnstile, 1):
            self._gate(client, epoch[0], number).meet(time.monotonic() + DEADLINE_S)
            _TIME.pack_into(self._woken, number * _TIME.size, time.monotonic())


def _until(true: Callable[[], bool]) -> None:
    """Raises TimeoutError: a host has died."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("not every simulated host came, or woke")
        time.sleep(0.02)


def _write(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]


def _percentile(values: list[float], percent: int) -> float:
    if len(values) == 1:
        return round(values[0], 2)
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 2)


@contextmanager
def redis_server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ff-bench-") as directory:
        socket = Path(directory) / "s"
        command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--maxclients", "4000"]
        with subprocess.Popen([*command, "--dir", directory], stdout=subprocess.DEVNULL) as server:
            try:
                _wait_for(redis.Redis.from_url(f"unix://{socket}"))
                yield f"unix://{socket}"
            finally:
                server.terminate()


def _wait_for(client: redis.Redis) -> None:
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.02)
        else:
            return
