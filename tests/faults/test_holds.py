"""Calls that take effect when nobody waits for them any more, and guests whose QEMU hangs.

The first fault of a cell strikes before the guest is held, the second when it may be: `two_at_once` plays one before the hold
and one in it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import libvirt
import pytest

from freezeframe.contract.words import HoldKind
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for

from .bench import Bench, until
from .bounds import AGENT_S, BY_GUARD_S, BY_HOST_S, EYE_S, RESTART_S, late_call, past_libvirt
from .cell import Watch
from .kinds import LONG_AWAY_S, libvirt_back, qemu_pid
from .stage import SLOW_S, has_backup, muster, slow_freezer
from .watch import Capture

Act = Callable[[Bench], None]

#: Beyond the hold's time-out and what its host and orchestrator wait for: QEMU of one guest stands still for so long.
HANGS_S = 20.0

#: What virsh says of a guest that was suspended by a call, and the seconds for that to come when its QEMU goes on.
SUSPENDED = "event 'lifecycle' for domain 'alpha': Suspended Paused"
EVENT_S = 30.0


def two_at_once(bench: Bench, first: Act, second: Act, mend: Act) -> Capture:
    """Strike while alpha's agent is told to freeze, which takes it SLOW_S: the lease is armed, and alpha not held yet."""
    bench.forget_paces()
    with slow_freezer(bench, "alpha", SLOW_S):
        capture = Capture(bench.system)
        leases = bench.system.directory / "host-a" / "state" / "leases"
        until("a lease of host-a", lambda: any(leases.glob("*.json")))
        first(bench)
        second(bench)
        time.sleep(SLOW_S)  # the freeze takes effect meanwhile
    bench.mended(mend)
    return capture


@pytest.mark.long
@pytest.mark.case("S4")
def test_guard_killed_after_arming_and_restarted_then_the_worker_killed(bench: Bench) -> None:
    """The next guard sees a guest that is not held yet; it must not take its lease for done with."""
    watch = Watch(bench, "guard killed before the hold and restarted, worker killed in it", "freeze")

    def guard_anew(bench: Bench) -> None:
        bench.kill("guard@host-a")
        bench.restart("guard@host-a")

    capture = two_at_once(
        bench, guard_anew, lambda bench: bench.kill("control@host-a"), lambda bench: bench.restart("control@host-a")
    )
    assert not capture.end().startswith("sealed")
    watch.judge(capture, RESTART_S + late_call())


@pytest.mark.case("S4")
def test_worker_killed_while_its_freeze_is_under_way(bench: Bench) -> None:
    """The guard lets go at once, of a guest that is frozen only seconds later."""
    watch = Watch(bench, "worker killed while its freeze is under way", "freeze")
    capture = two_at_once(
        bench, lambda _: None, lambda bench: bench.kill("control@host-a"), lambda bench: bench.restart("control@host-a")
    )
    assert not capture.end().startswith("sealed")
    watch.judge(capture, late_call())


@pytest.mark.case("G4")
@pytest.mark.long  # a minute and a half, most of it waiting for bounds; the unit tests of the hold have it too
@pytest.mark.timeout(600)
def test_qemu_suspended_before_a_pause(bench: Bench) -> None:
    """Alpha's suspend hangs in QEMU's monitor: the others are let go within their bound, and alpha once its QEMU goes on."""
    watch = Watch(bench, "QEMU of one guest suspended, hold pause", "held")
    host = bench.lab.host("host-a")
    pid = qemu_pid(host, "alpha")
    with muster(bench, HoldKind.PAUSE) as capture:  # sooner, host-a would see it hang, and hold nobody
        host.run(["busybox", "kill", "-STOP", pid])
    try:
        outcome = capture.end()
        wait_for("host-a's answer", lambda: capture.answered("hold", "host-a"), 60.0)
        time.sleep(HANGS_S)
    finally:
        host.run(["busybox", "kill", "-CONT", pid])
    bench.mended(lambda bench: bench.lab.guest("alpha").wait_agent())
    assert outcome in {"guest-hangs", "hypervisor", "host-silent"}
    settled_s = bench.settle()
    assert settled_s < 120.0
    for name in ("beta", "gamma"):
        assert watch.held_s(name) <= BY_HOST_S + AGENT_S + EYE_S, name
    assert bench.exact("after a QEMU that was suspended").startswith("incremental")


@pytest.mark.case("S4")
@pytest.mark.long  # a minute each, most of it until no call can be pending; the table of the guard's leases has it too
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("when", "longer_s"), [("within the lease", 0.0), ("long after it", HANGS_S)])
def test_worker_killed_while_its_suspend_is_pending(bench: Bench, when: str, longer_s: float) -> None:
    """Libvirt carries out the suspend of a worker that is dead, when the guard has seen every guest run."""
    watch = Watch(bench, f"worker killed while its suspend waits for QEMU, which goes on {when}", "pause")
    host, alpha, beta = bench.lab.host("host-a"), bench.lab.guest("alpha"), bench.lab.guest("beta")
    pid, leases = qemu_pid(host, "alpha"), bench.system.directory / "host-a" / "state" / "leases"
    bench.forget_paces()
    with first_event(alpha) as event:
        with muster(bench, HoldKind.PAUSE) as capture:  # sooner, host-a would see it hang, and hold nobody
            stopped = time.monotonic()
            host.run(["busybox", "kill", "-STOP", pid])
        try:
            until("beta is paused", lambda: is_paused(beta))
            until("alpha's suspend waits for QEMU", lambda: waits_for_qemu(alpha))
            bench.kill("control@host-a")
            until("the guard has let go of beta", lambda: not is_paused(beta))
            assert not is_paused(alpha)  # as far as libvirt knows, and the guard
            if longer_s:
                time.sleep(RESTART_S)
                bench.restart("control@host-a")
                time.sleep(longer_s)
            assert any(leases.glob("*.json"))  # by which the guard will let go of alpha
        finally:
            host.run(["busybox", "kill", "-CONT", pid])
            away_s = time.monotonic() - stopped
        said, _ = event.communicate(timeout=EVENT_S)
        assert said.startswith(SUSPENDED)  # nobody but the dead worker has asked for it
    until("alpha runs", lambda: not is_paused(alpha))
    bench.mended(lambda bench: None if longer_s else bench.restart("control@host-a"))
    alpha.wait_agent()
    assert not capture.end().startswith("sealed")
    for name, bound_s in (("beta", BY_GUARD_S), ("gamma", BY_HOST_S)):
        assert watch.held_s(name) <= bound_s + EYE_S, name
    watch.judge(capture, away_s + late_call())


@contextmanager
def first_event(guest: Guest) -> Iterator[subprocess.Popen[str]]:
    """Listen for the first event in the life of a guest from now on, which the process prints as it ends."""
    command = ["virsh", "-c", guest.host.uri, "event", "--domain", guest.name, "--event", "lifecycle"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"LC_ALL": "C"}) as listening:
        try:
            yield listening
        finally:
            listening.kill()


def is_paused(guest: Guest) -> bool:
    return bool(guest.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED)


def waits_for_qemu(guest: Guest) -> bool:
    """Return True while libvirt waits for an answer of QEMU's monitor. It does not wait for the guest's job to tell."""
    return bool(guest.domain.controlInfo()[0] == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED)


@pytest.mark.case("G9")
def test_libvirtd_away_for_30_s_with_guests_frozen_and_paused(bench: Bench) -> None:
    """Nobody but QEMU's monitor can take back a pause then."""
    watch = Watch(bench, "libvirtd killed, away for 30 s, hold freeze-pause", "held")
    bench.forget_paces()
    with slow_freezer(bench, "gamma"):
        capture = Capture(bench.system, hold=HoldKind.FREEZE_PAUSE)
        until("both have begun", lambda: all(has_backup(bench, name) for name in ("alpha", "beta")))
        bench.lab.host("host-a").kill_libvirtd()
    time.sleep(LONG_AWAY_S)
    bench.mended(libvirt_back)
    watch.judge(capture, past_libvirt())
