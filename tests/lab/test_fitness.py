"""Premises of the proof on real guests: what is not proven is not claimed, and what would harm libvirtd is never begun."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from freezeframe.repository import DiskCapture, Manifest
from ops.lab import DiskSpec, Lab, blank
from ops.lab.guest import Guest
from ops.system import System
from workers.hypervisor.disk import disks_of, parse

from .command import Command, Outcome
from .inventory import one_more_guest

REFUSED = 3
HOST = "host-b"
_MARKER = b"written by the guest, and nowhere else"
_RAW_WRITER = """
touch /run/workload/stop; while ! [ -e /run/workload/vdb.stopped ]; do sleep 0.1; done; umount /mnt/vdb
(while :; do dd if=/dev/urandom of=/dev/vdb bs=4k count=1 conv=notrunc,fsync; sleep 0.1; done) </dev/null >/dev/null 2>&1 &
"""


def qemu_img(*words: str) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def database(lab: Lab, system: System) -> Iterator[Guest]:
    """A guest with ext4 on vda and a database that writes to vdb as it is."""
    with one_more_guest(system, lab, HOST, "database", blank(2, 64)) as guest:
        guest.shell(_RAW_WRITER)
        yield guest


def sealed(system: System, outcome: Outcome) -> Manifest:
    assert outcome.code == 0, outcome.stderr
    return system.repository.manifest(outcome.answer["capture_id"])


@pytest.mark.case("P1")
def test_a_database_on_a_raw_disk_is_not_called_still(system: System, command: Command, database: Guest) -> None:
    outcome = command("capture", "gamma", database.name)
    manifest = sealed(system, outcome)
    assert {guest.name: str(guest.consistency) for guest in manifest.guests} == {"gamma": "guest", "database": "crash"}
    (warning,) = outcome.answer["warnings"]
    assert "Disk vdb of guest database" in warning
    assert f"--guest-hold {database.uuid}:freeze-pause" in warning
    as_advised = command("capture", "gamma", database.name, "--guest-hold", "database:freeze-pause")
    assert as_advised.answer["consistency"] == "group"
    assert as_advised.answer["warnings"] == []


_ON_PARTITIONS = """
mkdir -p /mnt/part && mount -t ext4 /dev/vdb1 /mnt/part
(while :; do dd if=/dev/urandom of=/dev/vdb2 bs=4k count=1 conv=notrunc,fsync; sleep 0.1; done) </dev/null >/dev/null 2>&1 &
echo $! >/run/raw.pid
"""


def partitioned(path: Path) -> Path:
    """Make an image of 64 MiB with two partitions: one with ext4, and one that is blank."""
    parts = [(2048, 65536), (69632, 20480)]  # first sector, sectors
    entries = b"".join(bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + struct.pack("<II", *part) for part in parts)
    with path.open("xb") as image:
        image.truncate(64 << 20)
        image.seek(446)
        image.write(entries + bytes(32) + b"\x55\xaa")
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", f"offset={2048 * 512}", path, "32M"], check=True)
    return path


@pytest.fixture(scope="module")
def parts(lab: Lab, system: System) -> Iterator[Guest]:
    """A guest with ext4 on vda and vdb1, and a database that writes to vdb2 as it is."""
    folder = lab.host(HOST).images / "parts"
    folder.mkdir()
    disks = [
        DiskSpec(target="vda", size_mib=64),
        DiskSpec(target="vdb", size_mib=64, format="raw", source=partitioned(folder / "parts-vdb.raw")),
    ]
    with one_more_guest(system, lab, HOST, "parts", disks) as guest:
        guest.shell(_ON_PARTITIONS)
        yield guest


@pytest.mark.case("P1")
def test_a_database_on_a_partition_beside_a_frozen_filesystem_is_not_called_still(
    system: System, command: Command, parts: Guest
) -> None:
    outcome = command("capture", "gamma", parts.name)
    manifest = sealed(system, outcome)
    assert {guest.name: str(guest.consistency) for guest in manifest.guests} == {"gamma": "guest", "parts": "crash"}
    (warning,) = outcome.answer["warnings"]
    assert "Disk vdb of guest parts" in warning
    assert "/dev/vdb2" in warning
    as_advised = command("capture", "gamma", parts.name, "--guest-hold", "parts:freeze-pause")
    assert as_advised.answer["consistency"] == "group"


@pytest.mark.case("P1")
def test_swap_in_use_beside_a_frozen_filesystem_costs_a_guest_no_label(
    system: System, command: Command, parts: Guest
) -> None:
    parts.shell("kill $(cat /run/raw.pid); sleep 1; mkswap /dev/vdb2 && swapon /dev/vdb2")
    swapping = command("capture", "gamma", parts.name)
    assert swapping.answer["consistency"] == "group"
    assert swapping.answer["warnings"] == []
    parts.shell("swapoff /dev/vdb2")  # it may be anything now
    assert [str(guest.consistency) for guest in sealed(system, command("capture", parts.name)).guests] == ["crash"]


def attach(guest: Guest, image: Path, target: str, more: str = "") -> None:
    xml = (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/>"
        f"<target dev='{target}' bus='virtio'/>{more}</disk>"
    )
    guest.domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)


@pytest.mark.case("P2")
def test_a_shareable_disk_in_two_running_guests_is_refused_and_libvirtd_lives(
    system: System, lab: Lab, command: Command, database: Guest, mute: Guest
) -> None:
    image, same = database.folder / "quorum.raw", mute.folder / "quorum.raw"
    qemu_img("create", "-f", "raw", str(image), "16M")
    same.hardlink_to(image)
    connection = lab.host(HOST).connection()
    attach(database, image, "vdx", "<shareable/>")
    attach(mute, same, "vdx", "<shareable/>")
    outcome = command("capture", database.name, mute.name, "--hold", "pause")
    assert outcome.code == REFUSED
    assert "vdx" in outcome.error["message"]
    assert (
        f"--skip-disk {database.uuid if outcome.error['guest'] == database.name else mute.uuid}:vdx"
        in outcome.error["advice"]
    )
    assert connection.isAlive()
    assert database.fsfreeze_status() == "thawed"
    skipped = ["--skip-disk", "database:vdx", "--skip-disk", "mute:vdx"]
    assert command("capture", database.name, mute.name, "--hold", "pause", *skipped).answer["consistency"] == "group"
    assert connection.isAlive()


@pytest.mark.case("P5")
def test_a_disk_that_was_attached_live_only_is_captured_and_defined(
    system: System, lab: Lab, command: Command, database: Guest, tmp_path: Path
) -> None:
    image = database.folder / "attached.raw"
    image.write_bytes(_MARKER.ljust(1 << 20, b"\0"))
    attach(database, image, "vdl")
    skip = ["--skip-disk", "database:vdx"]
    manifest = sealed(system, command("capture", database.name, "--guest-hold", "database:freeze-pause", *skip))
    (guest,) = manifest.guests
    assert [disk.target for disk in guest.disks] == ["vda", "vdb", "vdl"]
    assert "vdl" not in {disk.target for disk in disks_of(guest.domain_xml)}
    wanted = ["restore", manifest.capture_id, "--to", str(tmp_path / "set"), "--define", "database-again"]
    command_line = system.command_line(*wanted, "--trust-definition")  # its kernel is the host's
    lab.host(HOST).run(command_line, env=system.settings(lab.host(HOST)))
    again = lab.guest("database-again")
    defined = parse(again.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    targets = [target.get("dev") for target in defined.iterfind("devices/disk/target")]
    again.remove()
    assert targets == ["vda", "vdb", "vdl"]


@pytest.fixture(scope="module")
def old_images(lab: Lab, system: System) -> Iterator[Guest]:
    """A guest whose vda is a qcow2 of version 2, and whose vdb is a qcow2 with its data in another file."""
    folder = lab.host(HOST).images / "old"
    folder.mkdir()
    options = {"vda": "compat=0.10", "vdb": f"compat=1.1,data_file={folder / 'vdb.data'},data_file_raw=on"}
    disks = []
    for target, option in options.items():
        image = folder / f"old-{target}.qcow2"
        qemu_img("create", "-f", "qcow2", "-o", option, str(image), "64M")
        disks.append(DiskSpec(target=target, size_mib=64, source=image))
    (folder / "vdb.data").chmod(0o666)  # libvirt 9.0 gives QEMU's user the images that it knows of, and not this one
    with one_more_guest(system, lab, HOST, "old", disks) as guest:
        yield guest


@pytest.mark.case("G2")
def test_old_qcow2_is_read_in_full_and_one_with_a_data_file_incrementally(
    system: System, command: Command, old_images: Guest
) -> None:
    old_images.shell(f"echo {_MARKER.decode()} >/mnt/vdb/marker; sync")
    first = sealed(system, command("capture", old_images.name))
    assert first.consistency == "group"
    old_images.shell("echo more >/mnt/vdb/more; sync")
    second = sealed(system, command("capture", old_images.name))
    vda, vdb = second.guests[0].disks
    assert (vda.kind, vda.checkpoint) == ("full", None)
    assert "qemu-img amend" in (vda.full_reason or "")
    assert (vdb.kind, vdb.full_reason) == ("incremental", None)
    assert _MARKER in content(system, vdb)


def content(system: System, disk: DiskCapture) -> bytes:
    with system.repository.disk_reader(disk.index) as reader:
        return b"".join(extent.data for extent in reader if extent.data is not None)
