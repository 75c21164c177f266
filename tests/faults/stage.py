"""Bringing a capture to a step and keeping it there. Leaving the block lets it go on, but for what a fault has in hand.

prepare    host-a has prepared, host-b's control worker is stopped
muster     both have prepared; host-a waits at the muster, host-b's control worker is stopped
held       alpha and beta are frozen, their backups begun; host-a waits at the barrier for gamma, whose agent is slow to freeze
transfer   host-a's transfers have begun and their processes are stopped
seal       the run says so, and the orchestrator is stopped before the manifest is written
release    the run says so, and host-a's control worker is stopped
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import libvirt

from freezeframe.contract.words import HoldKind, RunState, WantedKind
from ops.lab.guest import Guest
from ops.trial.truth import transfers_paused

from .bench import Bench, until
from .hand import do
from .watch import Capture

#: Seconds that gamma's agent takes to freeze while the others are held; well within the hold's time-out.
SLOW_S = 3.5

#: Seconds that the agents of alpha and beta take where a fault must strike while they are told to freeze.
FREEZING_S = 1.5

#: Written by alpha's agent around those seconds. Not on a disk: the guest is frozen soon after.
_BEGUN, _DONE = "/run/freeze-begun", "/run/freeze-done"
#: Looks for such a file, 0.05 s apart; then the freeze has not come about, or will not.
_LOOKS = 60


@contextmanager
def _stopped(bench: Bench, name: str) -> Iterator[None]:
    bench.stop(name)
    try:
        yield
    finally:
        if name not in bench.struck:
            bench.go_on(name)


@contextmanager
def prepare(bench: Bench) -> Iterator[Capture]:
    with _stopped(bench, "control@host-b"):
        capture = Capture(bench.system)
        until("host-a has prepared", lambda: capture.answered("prepare", "host-a"))
        yield capture


@contextmanager
def muster(bench: Bench, hold: HoldKind = HoldKind.FREEZE) -> Iterator[Capture]:
    with _stopped(bench, "control@host-b"):
        capture = Capture(bench.system, hold=hold)
        until("host-a has prepared", lambda: capture.answered("prepare", "host-a"))
        with _stopped(bench, "orchestrator"):
            bench.go_on("control@host-b")
            until("host-b has prepared", lambda: capture.answered("prepare", "host-b"))
            bench.stop("control@host-b")
        capture.wait(RunState.HOLDING)
        until("host-a musters", lambda: _waits_at_the_muster(bench, capture))
        yield capture


@contextmanager
def held(bench: Bench) -> Iterator[Capture]:
    bench.forget_paces()
    with slow_freezer(bench, "gamma"):
        capture = Capture(bench.system)
        # libvirt first, which answers at once: an agent that is asked meanwhile freezes later, and gamma does not wait.
        until("both have begun", lambda: all(has_backup(bench, name) for name in ("alpha", "beta")))
        for name in ("alpha", "beta"):
            assert bench.lab.guest(name).fsfreeze_status() == "frozen", f"{name}: its hold was over before it was seen"
        yield capture


@contextmanager
def freezing(bench: Bench) -> Iterator[Capture]:
    """host-a's guard is armed and alpha's agent is told to freeze, but no guest of host-a is held yet; gamma takes longer."""
    bench.forget_paces()
    bench.lab.guest("alpha").shell(f"rm -f {_BEGUN} {_DONE}")
    with slow_freezer(bench, "alpha"), slow_freezer(bench, "beta", FREEZING_S), slow_freezer(bench, "gamma"):
        bench.on_freeze("alpha", f": >{_BEGUN}; sleep {FREEZING_S:g}; : >{_DONE}")
        capture = Capture(bench.system)
        leases = bench.system.directory / "host-a" / "state" / "leases"
        until("a lease of host-a", lambda: any(leases.glob("*.json")))
        _wait_in_guest(bench, _BEGUN)
        yield capture


def wait_frozen(bench: Bench) -> None:
    """Wait until alpha, which was told to freeze, is frozen; asked without libvirt, and not of the agent. Or until it is
    plain that it never was told.
    """
    _wait_in_guest(bench, _DONE)


def _wait_in_guest(bench: Bench, path: str) -> None:
    looks = f"i=0; until [ -e {path} ] || [ $i -ge {_LOOKS} ]; do sleep 0.05; i=$((i+1)); done; sleep 0.05"
    do(Guest(bench.lab.host("host-a"), "alpha"), looks)  # not looked up: libvirtd may be suspended


@contextmanager
def slow_freezer(bench: Bench, guest: str, seconds: float = SLOW_S) -> Iterator[None]:
    bench.on_freeze(guest, f"sleep {seconds:g}")
    try:
        yield
    finally:
        bench.later.append(lambda: bench.on_freeze(guest, None))


@contextmanager
def transfer(bench: Bench) -> Iterator[Capture]:
    capture = Capture(bench.system, kind=WantedKind.FULL)
    capture.wait(RunState.HOLDING)
    until("host-a transfers", lambda: _begun(bench, capture, "transfer"), interval_s=0.0005)
    with _stopped(bench, "data@host-a"):
        yield capture


@contextmanager
def seal(bench: Bench) -> Iterator[Capture]:
    capture = Capture(bench.system)
    capture.wait(RunState.SEALING)
    with _stopped(bench, "orchestrator"):
        yield capture


@contextmanager
def release(bench: Bench) -> Iterator[Capture]:
    with transfers_paused(bench.system):
        capture = Capture(bench.system)
        capture.wait(RunState.TRANSFERRING)
        bench.stop("control@host-a")
    try:
        capture.wait(RunState.RELEASING)
        yield capture
    finally:
        if "control@host-a" not in bench.struck:
            bench.go_on("control@host-a")


def has_backup(bench: Bench, name: str) -> bool:
    """Whether libvirt has begun the backup, and written that down. The question about the job waits its turn until then; the
    backup's own description is there sooner, while libvirt still talks to QEMU.
    """
    try:
        operation = bench.lab.guest(name).domain.jobStats().get("operation")
    except libvirt.libvirtError:
        return False
    return bool(operation == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP)


def _begun(bench: Bench, capture: Capture, step: str) -> bool:
    """Whether host-a is at work on a step, as its journal tells."""
    begun = bench.system.directory / "host-a" / "state" / "captures" / capture.capture_id / "begun"
    return any(begun.glob(f"{step}.*json"))


def _waits_at_the_muster(bench: Bench, capture: Capture) -> bool:
    """Whether host-a has arrived there: it looks at its guests before that."""
    arrived = bench.system.redis.keys(f"*{capture.capture_id}*muster*:arrived")
    return any(bench.system.redis.zscore(key, "host-a") is not None for key in arrived)


STAGES: dict[str, Callable[[Bench], AbstractContextManager[Capture]]] = {
    "prepare": prepare,
    "muster": muster,
    "held": held,
    "transfer": transfer,
    "seal": seal,
    "release": release,
}
