"""Internal snapshots of a guest that is captured: no revert until it is detached, and the next capture is right."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest
from ulid import ULID

from ops.lab import Lab, blank
from ops.lab.guest import Guest
from ops.system import System
from workers.hypervisor.bitmaps import Found, ours_in

from .exact import Captured, captured_exactly, checkpoints, detach, kinds, reasons
from .inventory import one_more_guest, published

pytestmark = pytest.mark.case("G7")

Capture = Callable[[], Captured]

#: What QEMU says of an image with bitmaps, to a revert. [QEMU block/snapshot.c: bdrv_snapshot_goto]
REFUSED = "active dirty bitmaps"


@pytest.fixture(scope="module")
def guest(lab: Lab, system: System) -> Iterator[Guest]:
    """A guest of host-a that nobody else needs; each test leaves it running, and detached."""
    with one_more_guest(system, lab, "host-a", "rewound", blank(1, 64)) as made:
        yield made


@pytest.fixture
def capture(guest: Guest, system: System, tmp_path: Path) -> Iterator[Capture]:
    yield lambda: captured_exactly(system, [guest], tmp_path)
    detach(system, guest)


def snapshot(guest: Guest, name: str) -> libvirt.virDomainSnapshot:
    """Take an internal snapshot, with the memory of a guest that runs."""
    return guest.domain.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>")


def write(guest: Guest) -> str:
    """Write 1 MiB to a file of a name that no other has; return the name."""
    name = f"written-{ULID()}"
    guest.shell(f"dd if=/dev/urandom of=/mnt/vda/{name} bs=64k count=16 && sync")
    return name


def has(guest: Guest, name: str) -> bool:
    return name in guest.shell("ls /mnt/vda").split()


def runs_again(system: System, guest: Guest) -> None:
    guest.wait_agent()
    published(system, guest.name, "running")


def qemu_img(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["qemu-img", *words], capture_output=True, text=True, check=False)


def test_a_guest_that_was_detached_can_be_reverted_to_before_its_first_capture(
    guest: Guest, system: System, capture: Capture
) -> None:
    before = write(guest)
    earlier = snapshot(guest, "first")
    try:
        capture()
        later = write(guest)
        assert kinds(capture()) == {"incremental"}  # a snapshot is in nobody's way
        [name] = checkpoints(guest)
        with pytest.raises(libvirt.libvirtError, match=REFUSED):
            guest.domain.revertToSnapshot(earlier)
        assert not guest.domain.isActive()  # libvirt ends its QEMU before another one refuses
        told = detach(system, guest)
        assert told["checkpoints"] == [name]
        assert told["bitmaps"] == {os.fspath(guest.image("vda")): [name]}
        guest.domain.revertToSnapshot(earlier)
        runs_again(system, guest)
        assert has(guest, before)
        assert not has(guest, later)
        assert reasons(capture()) == {f"checkpoint {name} is not on the guest any more"}
        write(guest)
        assert kinds(capture()) == {"incremental"}
    finally:
        earlier.delete()


@pytest.mark.long
def test_a_guest_that_is_detached_while_it_runs_is_reverted_to_a_snapshot_of_between_two_captures(
    guest: Guest, system: System, capture: Capture
) -> None:
    """A snapshot has no bitmaps of the moment that it is of: none comes back with it."""
    capture()
    before = write(guest)
    between = snapshot(guest, "between")
    try:
        assert kinds(capture()) == {"incremental"}
        later = write(guest)
        [name] = checkpoints(guest)
        assert detach(system, guest)["checkpoints"] == [name]
        guest.domain.revertToSnapshot(between)
        runs_again(system, guest)
        assert has(guest, before)
        assert not has(guest, later)
        assert ours_in([guest.image("vda")]) == Found({}, {})
        assert reasons(capture()) == {f"checkpoint {name} is not on the guest any more"}
        assert kinds(capture()) == {"incremental"}
    finally:
        between.delete()


@pytest.mark.long
def test_qemu_itself_refuses_a_revert_of_a_guest_that_runs_and_the_next_capture_is_incremental(
    guest: Guest, capture: Capture
) -> None:
    """Past libvirt, whose checkpoint would be there as before."""
    earlier = snapshot(guest, "earlier")
    try:
        capture()
        later = write(guest)
        flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        assert REFUSED in libvirt_qemu.qemuMonitorCommand(guest.domain, "loadvm earlier", flags)
        if guest.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            guest.domain.resume()
        assert has(guest, later)
        assert kinds(capture()) == {"incremental"}
    finally:
        earlier.delete()


@pytest.mark.long
def test_an_image_that_is_reverted_without_libvirt_while_its_guest_is_off_is_read_in_full(
    guest: Guest, system: System, capture: Capture
) -> None:
    """Refused as long as it has the bitmap. Without that the checkpoint is there as before; nothing is built upon it."""
    image = os.fspath(guest.image("vda"))
    capture()
    guest.shutdown()
    assert qemu_img("snapshot", "-c", "offline", image).returncode == 0
    guest.start()
    guest.wait_ready()
    published(system, guest.name, "running")
    later = write(guest)
    assert kinds(capture()) == {"incremental"}
    [name] = checkpoints(guest)
    guest.shutdown()
    try:
        refused = qemu_img("snapshot", "-a", "offline", image)
        assert refused.returncode == 1
        assert REFUSED in refused.stderr
        assert qemu_img("bitmap", "--remove", image, name).returncode == 0
        assert qemu_img("snapshot", "-a", "offline", image).returncode == 0
        assert qemu_img("snapshot", "-d", "offline", image).returncode == 0
    finally:
        guest.start()
        guest.wait_ready()
        published(system, guest.name, "running")
    assert not has(guest, later)
    assert checkpoints(guest) == [name]
    [reason] = reasons(capture())
    assert reason is not None
    assert reason.startswith(f"checkpoint {name} is not sound: ")
    assert kinds(capture()) == {"incremental"}
