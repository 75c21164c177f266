"""`ops/bench barrier`: from the last arrival to the last wake-up, with many simulated hosts on one Redis.

Each simulated host is a process with the product's own Gate on a connection of its own, as a host's worker is. The last to
arrive is the bench itself. The time begins before its call and ends when the last of all hosts is awake, by the machine's
one monotonic clock, which every host writes into memory that all share: nothing is sent until all are awake.

The floor is the same with bare clients: as many processes, each with a socket that waits for bytes of a blocking pop, and a
script that pushes to all of their lists and does nothing else. Rounds of both take turns.
"""

from __future__ import annotations

import gc
import mmap
import os
import socket
import statistics
import struct
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import redis
from ulid import ULID

from freezeframe.barrier import Gate, gate_client
from freezeframe.settings import BusSettings

SIZES = (10, 100, 1000)
#: KEYS none; ARGV[1] the meeting, ARGV[2] how many wait.
_WAKE_ALL = "for i = 1, ARGV[2] do redis.call('RPUSH', 'wake:' .. ARGV[1] .. ':' .. i, 'x') end"
DEADLINE_S = 60.0
_TIME = struct.Struct("d")


def run(rounds: int, say: Callable[[str], None], sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """All sizes, `rounds` meetings each, of gates and of bare clients."""
    rows = []
    with redis_server() as url:
        for hosts in sizes:
            with GateCrowd(url, hosts) as gates, BareCrowd(url, hosts) as bare:
                pairs = [(gates.meeting(epoch), bare.meeting(epoch)) for epoch in range(rounds)]
            row = _row(hosts, [ours for ours, _ in pairs], [floor for _, floor in pairs])
            say(", ".join(f"{name} {value}" for name, value in row.items()))
            rows.append(row)
    return {"bench": "barrier", "rounds": rounds, "rows": rows, "cores": os.cpu_count()}


def _row(hosts: int, ours: list[float], floor: list[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"hosts": hosts}
    for percent in (50, 99):
        mine, bare = _percentile(ours, percent), _percentile(floor, percent)
        row |= {f"p{percent}_ms": mine, f"floor_p{percent}_ms": bare, f"p{percent}_over_floor": round(mine / bare, 2)}
    return row


class Crowd(ABC):
    """All hosts but the last as processes, which meet again and again until the turnstile is closed."""

    def __init__(self, url: str, hosts: int) -> None:
        self._settings = BusSettings.model_validate({"redis_url": url})
        self._hosts = hosts
        self._woken = mmap.mmap(-1, _TIME.size * hosts)  # a time for each host, 0 while it waits
        self._turnstile, self._let_in = os.pipe()
        self._last = gate_client(self._settings)

    def __enter__(self) -> Self:
        gc.freeze()  # or the children's collector would copy every page
        self._pids = [self._start(number) for number in range(1, self._hosts)]
        os.close(self._turnstile)
        self._last.ping()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._let_in)
        for pid in self._pids:
            os.waitpid(pid, 0)
        gc.unfreeze()

    @abstractmethod
    def waiting(self, epoch: int) -> int:
        """Return how many hosts wait for the last one."""

    @abstractmethod
    def come_last(self, epoch: int) -> None:
        """Arrive as the last host, which wakes the others."""

    @abstractmethod
    def meet_all(self, number: int) -> Iterator[None]:
        """Meet the others as host `number`, again and again: yield when awake. In a process of its own."""

    def meeting(self, epoch: int) -> float:
        """Let all but one host arrive, then the last; ms from before its call to the last wake-up."""
        self._woken[:] = bytes(len(self._woken))
        _write(self._let_in, bytes([epoch]) * (self._hosts - 1))
        _until(lambda: self.waiting(epoch) == self._hosts - 1)
        time.sleep(0.2)  # the last of them goes to sleep on its list
        began = time.monotonic()
        self.come_last(epoch)
        _TIME.pack_into(self._woken, 0, time.monotonic())
        _until(lambda: all(self._times()))
        return (max(self._times()) - began) * 1000

    def let_in(self) -> Iterator[int]:
        """Yield the number of each meeting, in a host's process."""
        while epoch := os.read(self._turnstile, 1):
            yield epoch[0]

    def _times(self) -> Sequence[float]:
        return [woken for (woken,) in _TIME.iter_unpack(self._woken[:])]

    def _start(self, number: int) -> int:
        """Fork one host. A fork costs it no memory but what it writes, so that a thousand fit."""
        if pid := os.fork():
            return pid
        try:
            os.close(self._let_in)
            for _ in self.meet_all(number):
                _TIME.pack_into(self._woken, number * _TIME.size, time.monotonic())
        finally:
            os._exit(0)  # nothing of the parent's is the child's to end


class GateCrowd(Crowd):
    """Hosts with the product's own gate."""

    def __init__(self, url: str, hosts: int) -> None:
        super().__init__(url, hosts)
        self._capture_id = str(ULID())

    def waiting(self, epoch: int) -> int:
        return self._gate(self._last, epoch, 0).look().so_far

    def come_last(self, epoch: int) -> None:
        self._gate(self._last, epoch, 0).meet(time.monotonic() + DEADLINE_S)

    def meet_all(self, number: int) -> Iterator[None]:
        client = gate_client(self._settings)
        client.ping()
        for epoch in self.let_in():
            self._gate(client, epoch, number).meet(time.monotonic() + DEADLINE_S)
            yield

    def _gate(self, client: redis.Redis, epoch: int, number: int) -> Gate:
        return Gate(client, self._capture_id, epoch, "held", f"host-{number}", self._hosts)


class BareCrowd(Crowd):
    """Clients that wait for bytes, and do nothing with them."""

    def waiting(self, epoch: int) -> int:
        assert epoch >= 0
        return int(self._last.info("clients")["blocked_clients"])

    def come_last(self, epoch: int) -> None:
        self._last.eval(_WAKE_ALL, 0, str(epoch), str(self._hosts - 1))

    def meet_all(self, number: int) -> Iterator[None]:
        path = self._settings.redis_url.get_secret_value().removeprefix("unix://")
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(path)
            for epoch in self.let_in():
                line.sendall(f"BLPOP wake:{epoch}:{number} 0\r\n".encode())  # Redis takes a line of words too
                line.recv(4096)
                yield


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
        place = Path(directory) / "s"
        command = ["redis-server", "--port", "0", "--unixsocket", str(place), "--save", "", "--maxclients", "10000"]
        with subprocess.Popen([*command, "--dir", directory], stdout=subprocess.DEVNULL) as server:
            try:
                _wait_for(redis.Redis.from_url(f"unix://{place}"))
                yield f"unix://{place}"
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
