"""A real guest's disks are not written over, as its libvirt tells it: here nobody looks at its QEMU's descriptors."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from ops.lab import Lab
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from workers.identity.places import places_of
from workers.restore import block_device
from workers.restore.block_device import claimed
from workers.restore.errors import GuestsUnknownError, TargetInUseError
from workers.restore.running_guests import Libvirt, check_no_guest_has

pytestmark = pytest.mark.case("G1")

DISK = (
    "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='{}'/>"
    "<target dev='vdy' bus='virtio'/></disk>"
)
OVERLAY = (
    "<domainsnapshot><name>over</name><disks><disk name='vda' snapshot='external'><source file='{}'/></disk>"
    "<disk name='vdb' snapshot='no'/></disks></domainsnapshot>"
)


@pytest.fixture
def guest(lab: Lab) -> Guest:
    return lab.guest("alpha")


@pytest.fixture
def device(guest: Guest, tmp_path: Path) -> Iterator[Path]:
    """A block device that the guest has as its disk vdy."""
    file = tmp_path / "behind"
    file.write_bytes(bytes(8 << 20))
    done = subprocess.run(["losetup", "--find", "--show", file], capture_output=True, text=True, check=True)
    found = Path(done.stdout.strip())
    guest.domain.attachDeviceFlags(DISK.format(found), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    try:
        yield found
    finally:
        detach(guest)
        subprocess.run(["losetup", "--detach", found], check=True)


def detach(guest: Guest) -> None:
    if "'vdy'" in guest.domain.XMLDesc():
        guest.domain.detachDeviceAlias(alias(guest), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        wait_for("the disk to be gone", lambda: "'vdy'" not in guest.domain.XMLDesc(), 30.0)


def alias(guest: Guest) -> str:
    after = str(guest.domain.XMLDesc()).partition("dev='vdy'")[2]
    return after.partition("<alias name='")[2].partition("'")[0]


def ask(guest: Guest, *written: Path) -> None:
    check_no_guest_has({str(one): places_of(str(one)) for one in written}, [Libvirt(guest.host.uri)], patience_s=20.0)


def test_a_device_is_the_guest_s_until_it_is_taken_from_it(
    guest: Guest, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TargetInUseError, match="in use by process"), claimed(device, 512):
        pass
    monkeypatch.setattr(block_device, "user_of", lambda _: None)
    monkeypatch.setattr(block_device, "locked_by_qemu", lambda *_: False)
    with claimed(device, 512):  # neither of the kernel's claims keeps anybody from it
        pass
    with pytest.raises(TargetInUseError, match=r"running guest alpha .* disk vdy\."):
        ask(guest, device)
    guest.domain.suspend()
    try:
        with pytest.raises(TargetInUseError, match=r"disk vdy\."):
            ask(guest, device)
    finally:
        guest.domain.resume()
    detach(guest)
    ask(guest, device)


def test_the_image_below_an_overlay_is_the_guest_s(guest: Guest, tmp_path: Path) -> None:
    image, top = guest.image("vda"), guest.folder / "over.qcow2"
    (tmp_path / "none").write_bytes(bytes(512))
    ask(guest, tmp_path / "none")
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    guest.domain.snapshotCreateXML(OVERLAY.format(top), flags)
    try:
        for layer in (image, top):
            with pytest.raises(TargetInUseError, match=r"running guest alpha .* disk vda\."):
                ask(guest, layer)
    finally:
        guest.domain.blockCommit("vda", None, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
        wait_for("the overlay to be committed", lambda: _is_ready(guest), 60.0)
        guest.domain.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
        top.unlink()


def _is_ready(guest: Guest) -> bool:
    job = guest.domain.blockJobInfo("vda")
    return bool(job) and job["cur"] == job["end"] > 0


def test_a_libvirt_that_is_suspended_may_have_any_guest(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(bytes(512))
    guest.host.suspend_libvirtd()
    try:
        with pytest.raises(GuestsUnknownError, match="has not ended within 1 s"):
            check_no_guest_has({"none": places_of(str(tmp_path / "none"))}, [Libvirt(guest.host.uri)], patience_s=1.0)
    finally:
        guest.host.resume_libvirtd()
    wait_for("libvirt to answer", guest.domain.isActive, 30.0)
