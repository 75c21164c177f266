"""The faults of parts: how each strikes, how long it lasts, how it is mended, and how long a guest may be held because of it.

What is struck is on host-a, where guests are held first and wait for others, unless it is the machine's (Redis, orchestrator).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ops.lab.host import Host

from .bench import AGENT_PID, REPOSITORY_BYTES, Bench
from .bounds import (
    BY_GUARD_S,
    BY_HOST_S,
    EITHER_S,
    GRACE_S,
    HOLD_S,
    RESTART_S,
    by_agent,
    by_libvirt,
    by_next_guard,
    past_libvirt,
)
from .hand import do

#: Longer than the deadline of a hold and the guard's grace together.
STOP_S = HOLD_S + GRACE_S + 1.0

#: An agent is gone for long enough for the capture to miss it.
AGENT_AWAY_S = 3.0

#: libvirtd is gone for longer than anything may be held.
LONG_AWAY_S = 30.0

Act = Callable[[Bench], None]


@dataclass(frozen=True)
class Kind:
    """`bound_s` is of the seconds that it took from the strike until all was mended and up."""

    name: str
    strike: Act
    mend: Act
    lasts_s: float
    bound_s: Callable[[float], float]
    steps: tuple[str, ...] = ("prepare", "muster", "held", "transfer", "seal", "release")
    full_after: bool = False  # the next capture may be a full one
    blind: tuple[str, ...] = ()  # guests whose memory of their writers is lost


def _killed(name: str, *parts: str, bound_s: Callable[[float], float]) -> Kind:
    def strike(bench: Bench) -> None:
        bench.struck |= set(parts)
        bench.kill(*parts)

    def mend(bench: Bench) -> None:
        bench.restart(*parts)
        bench.struck -= set(parts)

    return Kind(name, strike, mend, RESTART_S, bound_s)


def _stopped(name: str, *parts: str, bound_s: Callable[[float], float]) -> Kind:
    def strike(bench: Bench) -> None:
        bench.struck |= set(parts)
        for part in parts:
            bench.stop(part)

    def mend(bench: Bench) -> None:
        bench.struck -= set(parts)
        for part in parts:
            bench.go_on(part)

    return Kind(name, strike, mend, STOP_S, bound_s)


def _both_stopped(bench: Bench) -> None:
    """Neither of the two who could let a guest go runs any code, and neither is dead."""
    parts = ("control@host-a", "guard@host-a")
    bench.struck |= set(parts)
    for part in parts:
        bench.stop(part)


def _guard_missed(bench: Bench) -> None:
    """The supervisor misses the guard's sign of life; the next guard lets go, while the worker still stands still."""
    bench.kill_when_lost("guard@host-a")
    time.sleep(RESTART_S)
    bench.restart("guard@host-a")
    bench.struck.discard("guard@host-a")
    bench.wait_let_go("host-a")
    bench.struck.discard("control@host-a")
    bench.go_on("control@host-a")


def _agent_stopped(bench: Bench) -> None:
    do(bench.lab.guest("alpha"), f"kill -STOP {AGENT_PID}")


def _agent_goes_on(bench: Bench) -> None:
    do(bench.lab.guest("alpha"), f"kill -CONT {AGENT_PID}")
    bench.lab.guest("alpha").wait_agent()


def _agent_killed(bench: Bench) -> None:
    do(bench.lab.guest("alpha"), f"kill -KILL {AGENT_PID}")


def _agent_back(bench: Bench) -> None:
    do(bench.lab.guest("alpha"), "/run/agent")
    bench.lab.guest("alpha").wait_agent()


def _repository_full(bench: Bench) -> None:
    bench.resize_repository(bench.repository_bytes())


def _repository_has_room(bench: Bench) -> None:
    bench.resize_repository(REPOSITORY_BYTES)


def _task_killed(bench: Bench) -> None:
    for pid in bench.task_processes("data@host-a"):
        bench.kill_process(pid)


def _task_stopped(bench: Bench) -> None:
    bench.struck.add("data@host-a")
    bench.go_on_main_only("data@host-a")


def _task_goes_on(bench: Bench) -> None:
    bench.struck.discard("data@host-a")
    bench.go_on("data@host-a")


def _nothing(_: Bench) -> None:
    """It mends itself."""


def _redis_killed(bench: Bench) -> None:
    bench.kill("redis")


def _redis_emptied(bench: Bench) -> None:
    bench.system.redis.flushall()


def _redis_sleeps(bench: Bench) -> None:
    """Answers nobody for a while; asked by a connection of its own, which does not wait for the answer."""
    bench.redis_cli("DEBUG", "SLEEP", f"{STOP_S:g}")


def _cut(bench: Bench) -> None:
    bench.lab.host("host-a").cut()


def _joined(bench: Bench) -> None:
    bench.lab.host("host-a").mend()


def _cut_while_redis_is_lost(bench: Bench) -> None:
    """The host's connections are to a Redis that is gone, and nobody has told it."""
    _cut(bench)
    bench.kill("redis")


def _redis_and_cable(bench: Bench) -> None:
    bench.restart_redis()
    time.sleep(RESTART_S)
    _joined(bench)


def _libvirt_killed(bench: Bench) -> None:
    bench.lab.host("host-a").kill_libvirtd()


def libvirt_back(bench: Bench) -> None:
    bench.lab.host("host-a").start_libvirtd()
    for name in ("alpha", "beta"):
        bench.lab.guest(name).wait_agent()


def _past_libvirt(_: float) -> float:
    return past_libvirt()


def qemu_pid(host: Host, guest: str) -> str:
    """Return the pid of a guest's QEMU, within its host's PID namespace."""
    return (host.root / f"run/libvirt/qemu/{guest}.pid").read_text().strip()


def _qemu_killed(bench: Bench) -> None:
    host = bench.lab.host("host-a")
    host.run(["busybox", "kill", "-KILL", qemu_pid(host, "alpha")])


def _qemu_back(bench: Bench) -> None:
    guest = bench.lab.guest("alpha")
    guest.start()
    guest.wait_ready()
    bench.equip_guest(guest)


def _host(_: float) -> float:
    return BY_HOST_S


def _either(_: float) -> float:
    return EITHER_S


def _guard(_: float) -> float:
    return BY_GUARD_S


KINDS = (
    _killed("control worker killed", "control@host-a", bound_s=_guard),
    _stopped("control worker stopped", "control@host-a", bound_s=_guard),
    _killed("data worker killed", "data@host-a", bound_s=_host),
    _stopped("data worker stopped", "data@host-a", bound_s=_host),
    Kind("task's process killed", _task_killed, _nothing, RESTART_S, _host, steps=("transfer",)),
    Kind("task's process stopped", _task_stopped, _task_goes_on, STOP_S, _host, steps=("transfer",)),
    _killed("guard killed", "guard@host-a", bound_s=_host),
    _stopped("guard stopped", "guard@host-a", bound_s=_host),
    _killed("control worker and guard killed", "control@host-a", "guard@host-a", bound_s=by_next_guard),
    Kind("control worker and guard stopped", _both_stopped, _guard_missed, 0.0, by_next_guard),
    _killed("orchestrator killed", "orchestrator", bound_s=_host),
    _stopped("orchestrator stopped", "orchestrator", bound_s=_host),
    Kind("Redis killed, back empty", _redis_killed, Bench.restart_redis, RESTART_S, _host),
    Kind("Redis emptied (FLUSHALL)", _redis_emptied, _nothing, 0.0, _host),
    Kind("Redis stalled (DEBUG SLEEP)", _redis_sleeps, _nothing, STOP_S, _host),
    _stopped("Redis stopped", "redis", bound_s=_host),
    Kind("host cut off", _cut, _joined, STOP_S, _host),
    Kind("host cut off, Redis back empty meanwhile", _cut_while_redis_is_lost, _redis_and_cable, STOP_S, _host),
    Kind("repository full", _repository_full, _repository_has_room, STOP_S, _host),
    Kind("agent stopped", _agent_stopped, _agent_goes_on, STOP_S, by_agent),
    Kind("agent killed", _agent_killed, _agent_back, AGENT_AWAY_S, by_agent),
    Kind("libvirtd killed", _libvirt_killed, libvirt_back, RESTART_S, by_libvirt),
    Kind("libvirtd killed, away for 30 s", _libvirt_killed, libvirt_back, LONG_AWAY_S, _past_libvirt, steps=("held",)),
    Kind("QEMU killed", _qemu_killed, _qemu_back, RESTART_S, _either, full_after=True, blind=("alpha",)),
)

#: The same fault where virtqemud is in libvirtd's place. Its cells are played on a lab of their own, in tests/debian13.
MODULAR = Kind("virtqemud killed (Debian 13)", _libvirt_killed, libvirt_back, RESTART_S, by_libvirt)
