"""A frozen guest that libvirt calls shut off, while its QEMU runs on: the guard thaws it without libvirt.

libvirt comes to that by itself when it is killed while it writes down a backup of several disks (workers/guard/agent_line.py);
here it finds no state of the guest at all, which ends the same.
"""

from __future__ import annotations

from freezeframe.contract.words import HoldKind
from ops.lab import Lab
from ops.lab.waiting import wait_for
from ops.system import System
from workers.guard.client import GuardLine
from workers.guard.lease import LeasedGuest
from workers.hypervisor.domain import Domain

from .inventory import published

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


def test_a_frozen_guest_that_libvirt_has_lost_is_thawed(lab: Lab, system: System) -> None:
    host, alpha = lab.host("host-a"), lab.guest("alpha")
    leases = system.directory / "host-a" / "state" / "leases"
    state = host.root / "run/libvirt/qemu/alpha.xml"
    held = LeasedGuest(guest_uuid=alpha.uuid, hold=HoldKind.FREEZE, agent_socket=Domain(alpha.domain).agent_socket())
    with GuardLine(host.root / "run/freezeframe/guard.sock") as line:
        line.arm(CAPTURE, [held], 600)
        assert alpha.domain.fsFreeze() == 2
        host.kill_libvirtd()
        kept = state.read_bytes()
        state.unlink()
        host.start_libvirtd()
        assert not alpha.domain.isActive()
        published(system, "alpha", "unmanaged")
    try:  # the line is closed: the guard lets go
        wait_for("the guard to let go", lambda: not any(leases.iterdir()), 120.0)
    finally:
        host.kill_libvirtd()
        state.write_bytes(kept)
        host.start_libvirtd()
    alpha.wait_agent()
    assert alpha.fsfreeze_status() == "thawed"
    published(system, "alpha", "running")
