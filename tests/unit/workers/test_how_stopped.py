"""How a guest stopped, from what libvirt says of its state."""

from __future__ import annotations

import libvirt
import pytest

from workers.hypervisor.domain import Domain


class Handle:
    """libvirt's handle of a guest in one state."""

    def __init__(self, state: int, reason: int) -> None:
        self._state = [state, reason]

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        return "00000000-0000-4000-8000-00000000000a"

    def name(self) -> str:
        return "alpha"

    def state(self) -> list[int]:
        return self._state


@pytest.mark.case("G6")
@pytest.mark.parametrize(
    ("state", "reason", "how"),
    [
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED, None),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, None),
        (libvirt.VIR_DOMAIN_PMSUSPENDED, 0, None),
        (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED, None),  # its QEMU is there, and its exports
        (libvirt.VIR_DOMAIN_SHUTDOWN, libvirt.VIR_DOMAIN_SHUTDOWN_UNKNOWN, "was shut down"),
        (libvirt.VIR_DOMAIN_SHUTDOWN, libvirt.VIR_DOMAIN_SHUTDOWN_USER, "was shut down"),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, "was shut down"),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED, "was forced off"),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, "crashed"),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED, "was saved and stopped"),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, "stopped"),
    ],
)
def test_how_a_guest_stopped(state: int, reason: int, how: str | None) -> None:
    """One "in shutdown" counts: libvirt may call it that for half a minute after its QEMU ended."""
    assert Domain(Handle(state, reason)).how_stopped() == how
