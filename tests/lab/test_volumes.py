"""A disk that is a volume of a storage pool records its changes as a file does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import libvirt
import pytest

from ops.lab import Lab, blank
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from ops.system import System

from .command import Command
from .inventory import one_more_guest

DISK = (
    "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='images' volume='data.qcow2'/>"
    "<target dev='vdz' bus='virtio'/></disk>"
)


@pytest.fixture
def guest(lab: Lab, system: System) -> Iterator[Guest]:
    with one_more_guest(system, lab, "host-a", "pooled", blank(1, 64)) as made:
        folder = made.folder / "pool"
        folder.mkdir()
        image = folder / "data.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", os.fspath(image), "16M"], check=True)
        folder.chmod(0o777)
        image.chmod(0o666)
        pool = made.host.connection().storagePoolCreateXML(
            f"<pool type='dir'><name>images</name><target><path>{folder}</path></target></pool>"
        )
        made.domain.attachDeviceFlags(DISK, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        yield made
        made.domain.detachDeviceFlags(DISK, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        wait_for("the disk to be gone", lambda: "'vdz'" not in made.domain.XMLDesc(), 30.0)
        pool.destroy()


def test_the_second_capture_of_a_volume_is_incremental(guest: Guest, command: Command, system: System) -> None:
    kinds = []
    for _ in range(2):
        answer = command("capture", guest.name).answer
        manifest = system.repository.manifest(answer["capture_id"])
        kinds.append({disk.target: str(disk.kind) for _, disk in manifest.disks()}["vdz"])
    assert kinds == ["full", "incremental"]
