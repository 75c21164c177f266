"""libvirtd killed at the one moment from which it does not come back by itself: while it begins a backup.

What libvirt loses then stands in `workers.hypervisor.lost`.
"""

from __future__ import annotations

import json

import libvirt
import libvirt_qemu
import pytest

from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from tests.lab.traces import traces

from .bench import SETTLE_S, Bench, until
from .bounds import EYE_S, RESTART_S, by_libvirt
from .cell import Watch
from .stage import slow_freezer
from .watch import Capture, Clocks, longest_gap_s

#: A begin takes some tens of milliseconds, and a kill comes some after it was seen.
TRIES = 8

pytestmark = pytest.mark.long


@pytest.mark.timeout(600)
def test_libvirtd_killed_while_it_begins_a_backup(bench: Bench) -> None:
    """All that is ours goes, the guest runs on; the next capture says what an operator must do, and that helps."""
    fault = "libvirtd killed in the middle of a begin; guests off, libvirtd started anew"
    host = bench.lab.host("host-a")
    for _ in range(TRIES):
        watch = Watch(bench, fault, "begin")
        since = {name: Clocks.of(guest) for name, guest in bench.guests().items()}
        capture, guests = _strike(bench)
        assert not capture.end().startswith("sealed")
        if guests:
            break
        bench.settle()
    assert guests, "never struck in the middle of a begin"
    wait_for("clean but for libvirt's lost job", lambda: _only_lost(bench, guests), SETTLE_S, 0.3)
    bound_s = by_libvirt(RESTART_S)
    held = {name: longest_gap_s(bench.lab.guest(name), then) for name, then in since.items()}
    assert max(held.values()) <= bound_s + EYE_S, held
    for guest in guests:
        assert not _told(guest, "query-jobs")
        assert not [node for node in _told(guest, "query-named-block-nodes") if "scratch" in str(node["file"])]
    assert Capture(bench.system).end() == "lost-backup"
    for guest in guests:
        guest.shutdown()
    host.kill_libvirtd()
    host.start_libvirtd()
    for guest in guests:
        guest.start()
        guest.wait_ready()
        bench.equip_guest(guest)
    watch.judge(capture, bound_s, blind=tuple(guest.name for guest in guests))


def _strike(bench: Bench) -> tuple[Capture, list[Guest]]:
    """Kill libvirtd when a backup's description is there, which is before it is on disk; the guests whose backup is lost.

    It is beta's, which has one disk: alpha, slow to freeze, must not have begun. Of a guest with two, libvirt may lose more
    than the backup (docs/faults.md).
    """
    host = bench.lab.host("host-a")
    bench.forget_paces()
    with slow_freezer(bench, "alpha"):
        capture = Capture(bench.system)
        beta = bench.lab.guest("beta").domain
        until("a begin", lambda: _described(beta), interval_s=0.0005)
        host.kill_libvirtd()
        host.start_libvirtd()
    names = ("alpha", "beta")
    for name in names:
        bench.lab.guest(name).wait_agent()
    bench.mended(lambda _: None)
    return capture, [bench.lab.guest(name) for name in names if _lost(bench.lab.guest(name).domain)]


def _described(domain: libvirt.virDomain) -> bool:
    try:
        return bool(domain.backupGetXMLDesc())
    except libvirt.libvirtError:
        return False


def _lost(domain: libvirt.virDomain) -> bool:
    try:
        domain.jobInfo()
    except libvirt.libvirtError as error:
        return "data missing" in str(error)
    return False


def _only_lost(bench: Bench, guests: list[Guest]) -> bool:
    left = traces(bench.system)
    return len(left) == len(guests) and all("data missing" in trace for trace in left)


def _told(guest: Guest, command: str) -> list[dict[str, object]]:
    answer = libvirt_qemu.qemuMonitorCommand(guest.domain, json.dumps({"execute": command}), 0)
    told: list[dict[str, object]] = json.loads(answer)["return"]
    return told
