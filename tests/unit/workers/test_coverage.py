"""A freeze keeps a disk still only if it reaches all that is on it: each partition, and each volume over it (P1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.words import HoldKind
from workers.fitness import stillness
from workers.hypervisor import agent
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_guest import FakeGuest, disk_xml, domain_xml
from workers.hypervisor.filesystem import Filesystem
from workers.hypervisor.guest_device import GuestDevice, devices_of

pytestmark = pytest.mark.case("P1")

FREEZE = GuestHold(kind=HoldKind.FREEZE)
VDA, VDB = GuestDevice("/dev/vda", disk="vda"), GuestDevice("/dev/vdb", disk="vdb")


def part(number: int, disk: str = "vda") -> GuestDevice:
    return GuestDevice(f"/dev/{disk}{number}", partition=True, below=(f"/dev/{disk}",))


def volume(number: int, *below: str) -> GuestDevice:
    return GuestDevice(f"/dev/dm-{number}", below=tuple(f"/dev/{name}" for name in below))


def mounted(name: str, *disks: str, kind: str = "ext4") -> Filesystem:
    return Filesystem(f"/at/{name}", disks or ("vda",), name, kind)


def reasons(
    filesystems: Sequence[Filesystem], devices: Sequence[GuestDevice] | None, targets: Sequence[str] = ("vda",)
) -> dict[str, str]:
    disks = [DomainDisk(target, "disk", "file", f"/{target}", "qcow2", transient=False) for target in targets]
    return {one.target: one.reason for one in stillness("web", FREEZE, disks, filesystems, devices).moving}


@pytest.mark.parametrize("what", ["ZFS pool", "raw database", "raw logical volume", "swap", "boot loader"])
def test_a_partition_with_nothing_mounted_beside_a_frozen_one_leaves_its_disk_moving(what: str) -> None:
    """The agent lists the same in each case, so one of them is as little proven as the others."""
    devices = [VDA, part(1), part(2), *([volume(0, "vda2")] if what == "raw logical volume" else [])]
    (reason,) = reasons([mounted("vda1")], devices).values()
    assert ("/dev/dm-0 " if what == "raw logical volume" else "/dev/vda2 ") in reason
    assert "/dev/vda1" not in reason


def test_partitions_that_all_carry_frozen_filesystems_are_reached() -> None:
    assert reasons([mounted("vda1"), mounted("vda2", kind="xfs")], [VDA, part(1), part(2)]) == {}


def test_a_filesystem_on_a_whole_disk_covers_it() -> None:
    """What looks like partitions in its boot sector is within it."""
    assert reasons([mounted("vda")], [VDA]) == {}
    assert reasons([mounted("vda")], [VDA, part(1)]) == {}


def test_volumes_over_a_partition_must_all_be_reached() -> None:
    lvm = [VDA, part(1), volume(0, "vda1"), volume(1, "vda1")]
    assert reasons([mounted("dm-0"), mounted("dm-1")], lvm) == {}
    assert "/dev/dm-1 " in reasons([mounted("dm-0")], lvm)["vda"]


def test_volumes_over_volumes_are_followed_up() -> None:
    """A filesystem over dm-crypt over LVM; the volume between them has nothing mounted itself."""
    stacked = [VDA, part(1), volume(0, "vda1"), volume(1, "dm-0")]
    assert reasons([mounted("dm-1")], stacked) == {}
    assert "/dev/dm-2 " in reasons([mounted("dm-1")], [*stacked, volume(2, "dm-0")])["vda"]


def test_a_volume_group_over_two_disks_concerns_both() -> None:
    devices = [VDA, VDB, volume(0, "vda", "vdb"), volume(1, "vdb")]
    over_both = mounted("dm-0", "vda", "vdb")
    found = reasons([over_both], devices, ("vda", "vdb"))
    assert set(found) == {"vdb"}
    assert "/dev/dm-1 " in found["vdb"]
    assert reasons([over_both, mounted("dm-1", "vdb")], devices, ("vda", "vdb")) == {}


def test_an_array_over_two_disks_is_reached_by_its_filesystem() -> None:
    array = GuestDevice("/dev/md0", below=("/dev/vda1", "/dev/vdb1"))
    devices = [VDA, VDB, part(1), part(1, "vdb"), array]
    assert reasons([mounted("md0", "vda", "vdb")], devices, ("vda", "vdb")) == {}


def test_a_btrfs_over_several_devices_is_proven_for_none_but_the_one_that_is_listed() -> None:
    """The agent lists the device of the mount only. [qga: build_guest_fsinfo]"""
    devices = [VDA, VDB, part(1), part(2)]
    btrfs = mounted("vda1", "vda", kind="btrfs")
    assert "/dev/vda2 " in reasons([btrfs], devices)["vda"]
    assert set(reasons([btrfs], [VDA, VDB, part(1)], ("vda", "vdb"))) == {"vdb"}


def test_a_filesystem_that_nothing_writes_to_needs_no_freeze_on_its_partition() -> None:
    assert reasons([mounted("vda1"), mounted("vda2", kind="squashfs")], [VDA, part(1), part(2)]) == {}


def test_what_is_mounted_and_cannot_be_frozen_is_named_as_that() -> None:
    efi = mounted("vda15", kind="vfat")
    (reason,) = reasons([mounted("vda1"), efi], [VDA, part(1), part(14), part(15)]).values()
    assert "/at/vda15 (vfat)" in reason


def test_what_is_mounted_and_not_frozen_reaches_nothing_whichever_disk_the_guest_says_it_is_on() -> None:
    """The guest's two lists need not agree."""
    elsewhere = mounted("vda2", "vdb", kind="vfat")
    assert "/dev/vda2 " in reasons([mounted("vda1"), elsewhere], [VDA, part(1), part(2)])["vda"]


def test_a_disk_of_the_guest_that_is_no_disk_of_libvirts_concerns_none() -> None:
    """A zvol, or a LUN that the guest has over iSCSI."""
    assert reasons([mounted("vda1")], [VDA, part(1), GuestDevice("/dev/zd0"), GuestDevice("/dev/sda")]) == {}


def test_two_paths_to_one_disk_are_both_looked_at() -> None:
    path = GuestDevice("/dev/sdb", disk="vda")
    assert "/dev/sdb " in reasons([mounted("vda1")], [VDA, part(1), path])["vda"]
    assert reasons([mounted("dm-0")], [VDA, path, volume(0, "vda", "sdb")]) == {}


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (None, "cannot list the partitions on it (guest-get-disks"),
        ([], "does not list the devices on it"),
        ([VDB, part(1, "vdb")], "does not list the devices on it"),
        ([VDA], "does not list the partitions on it"),  # as the agent in Windows does
        (
            [GuestDevice("/dev/vda"), part(1)],
            "does not list the devices on it",
        ),  # libvirt knows no disk at that address
    ],
)
def test_an_agent_that_does_not_tell_proves_nothing(devices: list[GuestDevice] | None, said: str) -> None:
    assert said in reasons([mounted("vda1")], devices)["vda"]


def test_devices_that_lie_on_each_other_prove_nothing() -> None:
    """The guest is not trusted."""
    knot = [VDA, GuestDevice("/dev/vda1", below=("/dev/vda", "/dev/dm-0")), volume(0, "vda1"), volume(1, "dm-9")]
    assert set(reasons([mounted("dm-1")], knot)) == {"vda"}
    assert set(reasons([mounted("dm-1")], [GuestDevice("/dev/vda", disk="vda", below=("/dev/vda",)), knot[3]])) == {
        "vda"
    }


def test_a_long_chain_of_devices_is_followed_in_no_time() -> None:
    length = 5000
    chain = [VDA, volume(0, "vda"), *(volume(number, f"dm-{number - 1}") for number in range(1, length))]
    assert reasons([mounted(f"dm-{length - 1}")], chain) == {}
    assert (
        f"/dev/dm-{length - 1} "
        in reasons([mounted("dm-x")], [*chain, volume(0, "vdx"), GuestDevice("/dev/dm-x")])["vda"]
    )


def test_a_device_s_directory_in_sys_may_have_another_name_than_its_node() -> None:
    node = GuestDevice("/dev/cciss/c0d0p1", partition=True, below=("/dev/vda",))
    assert reasons([mounted("cciss!c0d0p1")], [VDA, node]) == {}


def test_the_answer_of_libvirt_is_taken_as_it_is() -> None:
    info: dict[str, Any] = {
        "disk.count": 3,
        "disk.0.name": "/dev/vdc1",
        "disk.0.partition": True,
        "disk.0.dependency.count": 1,
        "disk.0.dependency.0.name": "/dev/vdc",
        "disk.1.name": "/dev/vdc",
        "disk.1.partition": False,
        "disk.1.alias": "vdp",
        "disk.1.guest_bus": "virtio",
        "disk.2.name": "\\\\.\\PhysicalDrive0",
    }  # as libvirt 9.0 gave it, apart from the last
    assert devices_of(info) == [
        GuestDevice("/dev/vdc1", partition=True, below=("/dev/vdc",)),
        GuestDevice("/dev/vdc", disk="vdp"),
        GuestDevice("\\\\.\\PhysicalDrive0"),
    ]
    assert devices_of({}) == []


def test_the_fake_guest_answers_as_libvirt_does() -> None:
    guest = FakeGuest(domain_xml(disk_xml("vda", "/a")), filesystems=[["/", "vda1", "ext4", ["vda"]]])
    assert agent.devices(Domain(guest), 5) == [VDA, part(1)]
