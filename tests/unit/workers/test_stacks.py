"""A disk under a stack of volumes is still if each of them has a frozen filesystem above it (P1).

Each stack is as `ls /sys/block/*/slaves` and `dmsetup ls` show it in a guest: qemu-ga lists just that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.words import HoldKind
from freezeframe.naming import NamedGuest
from workers.fitness import Stillness, stillness
from workers.fitness.coverage import unreached_devices
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.filesystem import Filesystem
from workers.hypervisor.guest_device import GuestDevice, devices_of

pytestmark = pytest.mark.case("P1")

FREEZE = GuestHold(kind=HoldKind.FREEZE)
UUID = "00000000-0000-4000-8000-00000000000a"
DISKS = [
    GuestDevice("/dev/vda", disk="vda"),
    GuestDevice("/dev/vda1", partition=True, below=("/dev/vda",)),
    GuestDevice("/dev/vda2", partition=True, below=("/dev/vda",)),
    GuestDevice("/dev/vdb", disk="vdb"),
]
BOOT = Filesystem("/boot", ("vda",), "vda1", "ext4")


def dm(number: int, alias: str, *below: str) -> GuestDevice:
    return GuestDevice(f"/dev/dm-{number}", below=tuple(f"/dev/{name}" for name in below), alias=alias)


def on(name: str, *disks: str) -> Filesystem:
    return Filesystem(f"/at/{name}", disks or ("vda",), name, "xfs")


def found(filesystems: Sequence[Filesystem], *stack: GuestDevice, targets: Sequence[str] = ("vda",)) -> Stillness:
    disks = [DomainDisk(target, "disk", "file", f"/{target}", "qcow2", transient=False) for target in targets]
    return stillness("web", FREEZE, disks, [BOOT, *filesystems], [*DISKS, *stack])


def moving(filesystems: Sequence[Filesystem], *stack: GuestDevice, targets: Sequence[str] = ("vda",)) -> dict[str, str]:
    return {one.target: one.reason for one in found(filesystems, *stack, targets=targets).moving}


THIN = (
    dm(0, "vg-pool_tmeta", "vda2"),
    dm(1, "vg-pool_tdata", "vda2"),
    dm(2, "vg-pool-tpool", "dm-0", "dm-1"),
    dm(3, "vg-root", "dm-2"),
    dm(4, "vg-pool", "dm-2"),
)


def test_a_thin_volume_with_a_frozen_filesystem_covers_its_pool_to_the_partition() -> None:
    assert moving([on("dm-3")], *THIN) == {}


def test_the_agent_may_list_devices_in_any_order() -> None:
    assert moving([on("dm-3")], *reversed(THIN)) == {}


def test_each_thin_volume_that_is_active_must_be_frozen() -> None:
    snapshot = dm(5, "vg-snap", "dm-2")
    (reason,) = moving([on("dm-3")], *THIN, snapshot).values()
    assert "/dev/dm-5 (vg-snap) " in reason
    assert "vg-pool" not in reason
    assert moving([on("dm-3"), on("dm-5")], *THIN, snapshot) == {}


def test_names_with_dashes_are_doubled_by_lvm() -> None:
    stack = (dm(2, "my--vg-my--pool-tpool", "vda2"), dm(3, "my--vg-root", "dm-2"), dm(4, "my--vg-my--pool", "dm-2"))
    assert moving([on("dm-3")], *stack) == {}


@pytest.mark.parametrize(
    "handle",
    [
        dm(4, "vg-other", "dm-2"),  # a thin volume, as any
        dm(4, "vg-pool", "dm-2", "dm-1"),
        dm(4, "vg-pool", "dm-1"),
        dm(4, "vg-pool"),
        dm(4, "vg-pool-tpool", "dm-2"),
        dm(4, "", "dm-2"),
        GuestDevice("/dev/dm-4", below=("/dev/dm-2",)),  # its name is not known
    ],
    ids=str,
)
def test_what_only_looks_like_a_pools_handle_is_a_volume(handle: GuestDevice) -> None:
    if not handle.below:
        handle = GuestDevice(handle.name, below=("/dev/vda2",), alias=handle.alias)
    (reason,) = moving([on("dm-3")], *THIN[:-1], handle).values()
    assert "/dev/dm-4" in reason


def test_a_volume_that_only_has_a_name_like_a_layer_is_none() -> None:
    """`pool-tpool` as the name of a volume is `pool--tpool` to the device mapper."""
    stack = (dm(0, "vg-pool--tpool", "vda2"), dm(1, "vg-crypt", "dm-0"), dm(2, "vg-pool", "dm-0"))
    assert "/dev/dm-2 (vg-pool) " in moving([on("dm-1")], *stack)["vda"]


def test_a_handle_that_somebody_has_put_a_device_on_is_no_mere_handle() -> None:
    assert "/dev/dm-5 " in moving([on("dm-3")], *THIN, GuestDevice("/dev/dm-5", below=("/dev/dm-4",)))["vda"]


def test_a_pool_without_a_mounted_volume_is_not_reached() -> None:
    (reason,) = moving([], *THIN[:3], THIN[4]).values()
    assert "/dev/dm-2 (vg-pool-tpool) " in reason
    (reason,) = moving([], *THIN).values()
    assert "/dev/dm-3 (vg-root) " in reason


def test_a_pool_that_others_than_lvm_use_is_reached_by_the_filesystems_on_it() -> None:
    """LVM gives it no layer then, as to Docker's."""
    stack = (dm(0, "vg-docker_tmeta", "vda2"), dm(1, "vg-docker_tdata", "vda2"), dm(2, "vg-docker", "dm-0", "dm-1"))
    one, other = dm(3, "docker-8:1-7-a", "dm-2"), dm(4, "docker-8:1-7-b", "dm-2")
    assert moving([on("dm-3"), on("dm-4")], *stack, one, other) == {}
    assert "/dev/dm-4 " in moving([on("dm-3")], *stack, one, other)["vda"]
    assert "/dev/dm-2 (vg-docker) " in moving([], *stack)["vda"]


STACKS = {
    "LUKS on LVM": (dm(0, "vg-root", "vda2"), dm(9, "root_crypt", "dm-0")),
    "LVM on LUKS": (dm(0, "vda2_crypt", "vda2"), dm(9, "vg-root", "dm-0")),
    "LVM": (dm(9, "vg-root", "vda2"),),
    "LVM RAID": (
        dm(0, "vg-root_rmeta_0", "vda2"),
        dm(1, "vg-root_rimage_0", "vda2"),
        dm(2, "vg-root_rmeta_1", "vdb"),
        dm(3, "vg-root_rimage_1", "vdb"),
        dm(9, "vg-root", "dm-0", "dm-1", "dm-2", "dm-3"),
    ),
    "LVM mirror": (
        dm(0, "vg-root_mlog", "vda2"),
        dm(1, "vg-root_mimage_0", "vda2"),
        dm(2, "vg-root_mimage_1", "vdb"),
        dm(9, "vg-root", "dm-0", "dm-1", "dm-2"),
    ),
    "LVM cache with a pool": (
        dm(0, "vg-fast_cpool_cdata", "vdb"),
        dm(1, "vg-fast_cpool_cmeta", "vdb"),
        dm(2, "vg-root_corig", "vda2"),
        dm(9, "vg-root", "dm-0", "dm-1", "dm-2"),
    ),
    "LVM cache with a volume": (
        dm(0, "vg-fast_cvol", "vdb"),
        dm(1, "vg-fast_cvol-cdata", "dm-0"),
        dm(2, "vg-fast_cvol-cmeta", "dm-0"),
        dm(3, "vg-root_corig", "vda2"),
        dm(9, "vg-root", "dm-1", "dm-2", "dm-3"),
    ),
    "LVM writecache": (
        dm(0, "vg-fast_cvol", "vdb"),
        dm(1, "vg-root_wcorig", "vda2"),
        dm(9, "vg-root", "dm-0", "dm-1"),
    ),
    "LVM VDO": (
        dm(0, "vg-vpool0_vdata", "vda2"),
        dm(1, "vg-vpool0-vpool", "dm-0"),
        dm(2, "vg-vpool0", "dm-1"),
        dm(9, "vg-root", "dm-1"),
    ),
    "a thin pool on LVM RAID": (
        dm(0, "vg-pool_tdata_rmeta_0", "vda2"),
        dm(1, "vg-pool_tdata_rimage_0", "vda2"),
        dm(2, "vg-pool_tdata", "dm-0", "dm-1"),
        dm(3, "vg-pool_tmeta", "vdb"),
        dm(4, "vg-pool-tpool", "dm-2", "dm-3"),
        dm(5, "vg-pool", "dm-4"),
        dm(9, "vg-root", "dm-4"),
    ),
    "LUKS on a thin volume": (*THIN, dm(9, "root_crypt", "dm-3")),
    "LVM on MD": (
        GuestDevice("/dev/md0", below=("/dev/vda2", "/dev/vdb")),
        dm(9, "vg-root", "md0"),
    ),
    "multipath": (
        GuestDevice("/dev/sda", disk="vdc"),
        GuestDevice("/dev/sdb", disk="vdc"),
        dm(0, "mpatha", "sda", "sdb"),
        dm(1, "vg-x", "vda2"),
        dm(9, "mpatha-part1", "dm-0"),
    ),
}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_a_stack_is_reached_by_the_filesystem_on_top_of_it_and_by_nothing_else(stack: tuple[GuestDevice, ...]) -> None:
    targets = ["vda"] + ["vdb"] * any("/dev/vdb" in device.below for device in stack)
    if any(device.disk == "vdc" for device in stack):
        assert moving([on("dm-9", "vdc")], *stack, targets=["vdc"]) == {}
        targets = ["vdc"]
    else:
        assert moving([on("dm-9", *targets)], *stack, targets=targets) == {}
    assert set(moving([], *stack, targets=targets)) == set(targets)
    besides = dm(8, "vg-raw", *{name.removeprefix("/dev/") for name in stack[0].below} or {"sda"})
    assert "/dev/dm-8 (vg-raw) " in " ".join(moving([on("dm-9", *targets)], *stack, besides, targets=targets).values())


def test_bcache_is_reached_with_its_cache() -> None:
    bcache = GuestDevice("/dev/bcache0", below=("/dev/vda2", "/dev/vdb"))
    assert moving([on("bcache0", "vda", "vdb")], bcache, targets=["vda", "vdb"]) == {}


def test_a_snapshot_of_lvm_that_is_not_mounted_may_be_written_to() -> None:
    stack = (
        dm(0, "vg-root-real", "vda2"),
        dm(1, "vg-snap-cow", "vda2"),
        dm(2, "vg-root", "dm-0"),
        dm(3, "vg-snap", "dm-0", "dm-1"),
    )
    (reason,) = moving([on("dm-2")], *stack).values()
    assert "/dev/dm-3 (vg-snap) " in reason
    assert moving([on("dm-2"), on("dm-3")], *stack) == {}


def test_a_partition_that_the_kernel_shows_on_a_path_of_a_map_is_told() -> None:
    """Whether others write to it past the map is not known; holding it with paused CPUs is the way out, and is named."""
    sda = GuestDevice("/dev/sda", disk="vdc")
    part = GuestDevice("/dev/sda1", partition=True, below=("/dev/sda",))
    stack = (sda, part, dm(0, "mpatha", "sda"), dm(9, "mpatha-part1", "dm-0"))
    (warning,) = found([on("dm-9", "vdc")], *stack, targets=["vdc"]).warnings(NamedGuest("web", UUID))
    assert "/dev/sda1 " in warning
    assert f"--guest-hold {UUID}:freeze-pause" in warning


def test_the_names_for_further_questions_are_the_guest_s_own() -> None:
    """/proc/swaps and /sys know no alias."""
    assert unreached_devices(["vda"], [*DISKS, dm(0, "vg-swap", "vda2")], {"vda1"}) == ["/dev/dm-0"]


def test_the_device_mapper_s_name_is_taken_from_libvirt_s_answer() -> None:
    info: dict[str, Any] = {
        "disk.count": 1,
        "disk.0.name": "/dev/dm-4",
        "disk.0.partition": False,
        "disk.0.dependency.count": 1,
        "disk.0.dependency.0.name": "/dev/dm-2",
        "disk.0.guest_alias": "vg-pool",
    }
    assert devices_of(info) == [dm(4, "vg-pool", "dm-2")]
