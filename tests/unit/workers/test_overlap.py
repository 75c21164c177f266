"""Storage that is a part of other storage is shared with it: disk and partition, LUN and path, file and loop device (P2).

The kernel is told by a copy of /sys, in which devices hold each other as the real ones do.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from freezeframe.contract.identity import DiskIdentity
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult
from freezeframe.contract.words import CaptureKind
from freezeframe.network_key import network_keys
from freezeframe.storage_key import is_everywhere
from orchestrator.sharing import shared_faults
from tests.unit.kernel import Kernel
from workers.fitness import DiskUse, shared_reason
from workers.hypervisor.passed_through import PassedDevice
from workers.identity import network_file, stack
from workers.identity.places import Places, places_of
from workers.identity.storage import layer_of
from workers.identity.uses import passed_places

A, B = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
WWID = "naa.6001405abc"

pytestmark = pytest.mark.case("P2")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Two paths to a LUN with a multipath map, a partition table and a volume group; and a disk of its own."""
    made = Kernel(tmp_path, monkeypatch)
    for path in ("sdb", "sdc"):
        made.add(path, device__wwid=WWID)
        for part in "12":
            made.add(f"{path}{part}", part_of=path)
    made.add("dm-0", on=("sdb", "sdc"), dm__uuid=f"mpath-3{WWID.removeprefix('naa.')}")
    made.add("dm-1", on=("dm-0",), dm__uuid=f"part1-mpath-3{WWID.removeprefix('naa.')}")
    made.add("dm-2", on=("dm-0",), dm__uuid=f"part2-mpath-3{WWID.removeprefix('naa.')}")
    for number in (3, 4):
        made.add(f"dm-{number}", on=("dm-2",), dm__uuid=f"LVM-group-volume{number}")
    made.add("sdd", device__wwid="naa.other")
    made.add("sdd1", part_of="sdd")
    return made


def use(kernel: Kernel, guest: str, path: str) -> DiskUse:
    found = places_of(path, sys=kernel.sys)
    return DiskUse(guest, guest[-1], "vda", found.keys, found.keys, found.within, found.within)


def is_shared_here(kernel: Kernel, one: str, other: str) -> bool:
    """Return True if a guest with one is refused for another guest of its host with the other; so is the other then."""
    uses = [use(kernel, A, one), use(kernel, B, other)]
    (own, others) = (shared_reason(guest, "vda", uses) is not None for guest in (A, B))
    assert own == others
    return own


def is_shared_between_hosts(kernel: Kernel, one: str, other: str) -> bool:
    results = []
    for host, guest, path in (("host-a", A, one), ("host-b", B, other)):
        disk = PreparedDisk(
            target="vda",
            source=path,
            source_format="raw",
            size_bytes=1,
            kind=CaptureKind.FULL,
            identity=DiskIdentity(active=layer_of(path, sys=kernel.sys)),
        )
        prepared = PreparedGuest(guest_uuid=guest, name=guest[-1], disks=(disk,))
        results.append(PrepareResult(capture_id="01KAAAAAAAAAAAAAAAAAAAAAAA", host_id=host, guests=(prepared,)))
    faults = shared_faults(results)
    assert set(faults) in (set(), {A, B})
    return bool(faults)


SHARED = [
    ("sdb", "sdb1"),  # a disk and its partition
    ("sdb", "dm-0"),  # a path and the multipath map over it
    ("sdb", "sdc"),  # two paths to one LUN
    ("sdb", "sdc1"),
    ("sdb1", "sdc1"),  # one partition by two paths
    ("sdb1", "dm-1"),  # and by the map
    ("sdb", "dm-2"),
    ("dm-0", "dm-3"),  # a LUN and a volume on it
    ("sdc", "dm-3"),
    ("dm-2", "dm-4"),  # a physical volume and a volume
    ("sdb2", "dm-4"),
    ("dm-3", "dm-3"),
]
APART = [
    ("sdb1", "sdb2"),
    ("sdb1", "sdc2"),
    ("sdb1", "dm-2"),
    ("sdb1", "dm-3"),
    ("dm-1", "dm-4"),
    ("dm-3", "dm-4"),  # two volumes of one group
    ("sdb", "sdd"),
    ("dm-3", "sdd1"),
]


@pytest.mark.parametrize(("one", "other"), SHARED)
def test_what_lies_on_other_storage_is_shared_with_it(kernel: Kernel, one: str, other: str) -> None:
    assert is_shared_here(kernel, f"/dev/{one}", f"/dev/{other}")
    assert is_shared_between_hosts(kernel, f"/dev/{one}", f"/dev/{other}")


@pytest.mark.parametrize(("one", "other"), APART)
def test_what_lies_beside_each_other_is_not_shared(kernel: Kernel, one: str, other: str) -> None:
    assert not is_shared_here(kernel, f"/dev/{one}", f"/dev/{other}")
    assert not is_shared_between_hosts(kernel, f"/dev/{one}", f"/dev/{other}")


def test_a_volume_and_its_snapshot_are_two(kernel: Kernel) -> None:
    """LVM moves the volume's data below both, and writes to the one do not show in the other."""
    kernel.add("dm-5", on=("sdd1",), dm__uuid="LVM-g-origin-real")
    kernel.add("dm-6", on=("sdd1",), dm__uuid="LVM-g-snap-cow")
    kernel.add("dm-7", on=("dm-5",), dm__uuid="LVM-g-origin")
    kernel.add("dm-8", on=("dm-5", "dm-6"), dm__uuid="LVM-g-snap")
    assert not is_shared_here(kernel, "/dev/dm-7", "/dev/dm-8")
    assert is_shared_here(kernel, "/dev/dm-7", "/dev/sdd")


def image(tmp_path: Path, kernel: Kernel, on: str) -> Path:
    """Make an image in a directory of a file system on that device."""
    path = tmp_path / f"image-{on}"
    path.write_bytes(b"x")
    number = path.stat().st_dev
    link = kernel.sys / "dev/block" / f"{os.major(number)}:{os.minor(number)}"
    link.unlink(missing_ok=True)
    link.symlink_to(kernel.directory(on))
    return path


@pytest.mark.parametrize(("device", "shared"), [("sdd", True), ("sdd1", True), ("sdb", False)])
def test_an_image_is_shared_with_the_device_that_its_file_system_is_on(
    tmp_path: Path,
    kernel: Kernel,
    device: str,
    shared: bool,  # noqa: FBT001
) -> None:
    path = image(tmp_path, kernel, "sdd1")
    assert is_shared_here(kernel, str(path), f"/dev/{device}") == shared
    assert is_shared_between_hosts(kernel, str(path), f"/dev/{device}") == shared


def test_two_images_in_one_file_system_are_two(tmp_path: Path, kernel: Kernel) -> None:
    path, other = image(tmp_path, kernel, "sdd1"), tmp_path / "other"
    other.write_bytes(b"x")
    assert not is_shared_here(kernel, str(path), str(other))
    assert not is_shared_between_hosts(kernel, str(path), str(other))


def test_an_image_is_shared_with_every_loop_device_over_it_and_what_lies_on_those(
    tmp_path: Path, kernel: Kernel
) -> None:
    path, link = image(tmp_path, kernel, "sdd1"), tmp_path / "link"
    link.hardlink_to(path)
    for name in ("loop0", "loop1"):
        kernel.add(name, loop__backing_file=str(path))
    kernel.add("loop0p1", part_of="loop0")
    kernel.add("loop0p2", part_of="loop0")
    kernel.add("dm-9", on=("loop0p2",), dm__uuid="LVM-in-image")
    for name in ("loop0", "loop0p1", "dm-9"):
        assert is_shared_here(kernel, str(link), f"/dev/{name}")
    assert is_shared_here(kernel, "/dev/loop0", "/dev/loop1")
    assert is_shared_here(kernel, "/dev/loop0", "/dev/sdd")
    assert not is_shared_here(kernel, "/dev/loop0p1", "/dev/loop0p2")
    other = tmp_path / "other"
    other.write_bytes(b"x")
    assert not is_shared_here(kernel, str(other), "/dev/loop0")


def passed(kernel: Kernel, guest: str, device: PassedDevice) -> DiskUse:
    found = passed_places(device, sys=kernel.sys)
    return DiskUse(guest, guest[-1], device.name, found.keys, found.keys, found.within, found.within)


def test_a_lun_that_is_passed_through_is_shared_with_the_disk_and_all_that_lies_on_it(kernel: Kernel) -> None:
    lun = PassedDevice("hostdev0", "scsi", "SCSI device 3:0:0:1", "3:0:0:1")
    block = kernel.sys / "bus/scsi/devices/3:0:0:1/block"
    block.mkdir(parents=True)
    (block / "sdc").symlink_to(kernel.directory("sdc"))
    for name, shared in {"sdb": True, "sdb1": True, "dm-3": True, "sdd": False}.items():
        reason = shared_reason(A, "vda", [use(kernel, A, f"/dev/{name}"), passed(kernel, B, lun)])
        assert (reason == "disk hostdev0 of the running guest b writes to the same storage") == shared


def by_qemu(keys: frozenset[str]) -> DiskUse:
    return DiskUse(B, "b", "vda", keys, keys)


@pytest.mark.parametrize(("lun", "shared"), [("1", True), ("2", False)])
@pytest.mark.parametrize("device", ["sde", "sde1", "dm-11"])
def test_a_lun_by_the_kernel_s_session_is_shared_with_qemu_s_own_access_to_it(
    kernel: Kernel,
    device: str,
    lun: str,
    shared: bool,  # noqa: FBT001
) -> None:
    kernel.add("sde")
    kernel.add("sde1", part_of="sde")
    kernel.add("dm-11", on=("sde1",), dm__uuid="LVM-on-iscsi")
    session = kernel.sys / "devices/platform/host3/session1"
    scsi, named = session / "target3:0:0/3:0:0:1", session / "iscsi_session/session1"
    scsi.mkdir(parents=True)
    named.mkdir(parents=True)
    (named / "targetname").write_text("iqn.2026-01.org.example:t\n", encoding="utf-8")
    (kernel.directory("sde") / "device").symlink_to(scsi)
    other = by_qemu(network_keys({"protocol": "iscsi", "name": f"iqn.2026-01.org.example:t/{lun}"}))
    assert (shared_reason(A, "vda", [use(kernel, A, f"/dev/{device}"), other]) is not None) == shared


@pytest.mark.parametrize(("name", "shared"), [("pool/image", True), ("pool/other", False), ("image", False)])
@pytest.mark.parametrize("device", ["rbd0", "rbd0p1"])
def test_an_rbd_image_that_the_kernel_has_is_shared_with_qemu_s_own_access_to_it(
    kernel: Kernel,
    device: str,
    name: str,
    shared: bool,  # noqa: FBT001
) -> None:
    kernel.add("rbd0")
    kernel.add("rbd0p1", part_of="rbd0")
    facts = kernel.sys / "bus/rbd/devices/0"
    facts.mkdir(parents=True)
    for fact, text in {
        "cluster_fsid": "c",
        "pool": "pool",
        "image_id": "1",
        "name": "image",
        "current_snap": "-",
    }.items():
        (facts / fact).write_text(f"{text}\n", encoding="utf-8")
    other = by_qemu(network_keys({"protocol": "rbd", "name": name}))
    assert (shared_reason(A, "vda", [use(kernel, A, f"/dev/{device}"), other]) is not None) == shared


@pytest.mark.parametrize("clustered", [True, False])
def test_an_image_on_a_file_system_that_several_hosts_mount_at_once_has_a_name_on_each(
    clustered: bool,  # noqa: FBT001
    tmp_path: Path,
    kernel: Kernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network_file, "file_system_type", lambda _: 0x01161970 if clustered else 0xEF53)
    path = image(tmp_path, kernel, "sdd1")
    found = {key for key in places_of(str(path), sys=kernel.sys).keys if is_everywhere(key)}
    assert found == ({f"network inode {path.stat().st_ino} of wwid naa.other 1"} if clustered else set())


def test_two_partitions_of_an_rbd_image_share_nothing(kernel: Kernel) -> None:
    kernel.add("rbd0")
    for part in ("rbd0p1", "rbd0p2"):
        kernel.add(part, part_of="rbd0")
    facts = kernel.sys / "bus/rbd/devices/0"
    facts.mkdir(parents=True)
    for fact, text in {"cluster_fsid": "c", "pool": "pool", "image_id": "1", "name": "image"}.items():
        (facts / fact).write_text(f"{text}\n", encoding="utf-8")
    assert not is_shared_here(kernel, "/dev/rbd0p1", "/dev/rbd0p2")
    assert is_shared_here(kernel, "/dev/rbd0p1", "/dev/rbd0")


def test_persistent_memory_is_shared_with_the_file_behind_it(tmp_path: Path, kernel: Kernel) -> None:
    path, other = image(tmp_path, kernel, "sdd1"), tmp_path / "other"
    other.write_bytes(b"x")
    memory = PassedDevice("nvdimm0", "memory", "persistent memory", str(path))
    assert shared_reason(A, "vda", [use(kernel, A, str(path)), passed(kernel, B, memory)]) is not None
    assert shared_reason(A, "vda", [use(kernel, A, "/dev/sdd"), passed(kernel, B, memory)]) is not None
    assert shared_reason(A, "vda", [use(kernel, A, str(other)), passed(kernel, B, memory)]) is None


@pytest.mark.parametrize(
    "device",
    [
        PassedDevice("hostdev0", "scsi", "an iSCSI LUN"),
        PassedDevice("hostdev0", "scsi", "a device that has gone", "9:9:9:9"),
        PassedDevice("hostdev0", "pci", "an NVMe drive", "0000:41:00.0"),  # vfio has it: no device of the host's
        PassedDevice("hostdev0", "scsi_host", "a target that has gone", "naa.5123456789abcde0"),
        PassedDevice("nvdimm0", "memory", "memory without a file"),
    ],
)
def test_what_this_host_does_not_have_itself_is_nowhere(kernel: Kernel, device: PassedDevice) -> None:
    assert passed_places(device, sys=kernel.sys) == Places()


def target(kernel: Kernel, *paths: str, wwpn: str = "naa.5123456789abcde0") -> PassedDevice:
    """Export storage to a guest by vhost-scsi, as targetcli does."""
    root = kernel.sys / "kernel/config/target"
    for number, path in enumerate(paths):
        backend, lun = root / f"core/iblock_{number}/store", root / f"vhost/{wwpn}/tpgt_1/lun/lun_{number}"
        backend.mkdir(parents=True)
        (backend / "udev_path").write_text(f"{path}\n", encoding="utf-8")
        (lun / "statistics").mkdir(parents=True)
        (lun / "virtual_scsi_port").symlink_to(backend)
    return PassedDevice("hostdev0", "scsi_host", f"vhost-scsi target {wwpn}", wwpn)


def test_storage_that_the_kernel_exports_to_a_guest_is_shared_with_what_is_behind_it(
    tmp_path: Path, kernel: Kernel
) -> None:
    path = image(tmp_path, kernel, "sdd1")
    exported = passed(kernel, B, target(kernel, "/dev/sdc1", str(path), "/gone"))
    for own, shared in {
        "/dev/sdb": True,
        "/dev/sdb1": True,
        "/dev/sdb2": False,
        str(path): True,
        "/gone": True,
    }.items():
        found = use(kernel, A, own) if own != "/gone" else by_path(own)
        assert (shared_reason(A, "vda", [found, exported]) is not None) == shared
    assert passed_places(target(kernel, wwpn="naa.5000000000000000"), sys=kernel.sys) == Places()


def by_path(path: str) -> DiskUse:
    keys = frozenset({f"path {path}"})
    return DiskUse(A, "a", "vda", keys, keys)


def test_memory_whose_file_cannot_be_looked_at_is_known_by_its_path(kernel: Kernel) -> None:
    memory = PassedDevice("nvdimm0", "memory", "memory", "/gone/pmem")
    assert shared_reason(A, "vda", [by_path("/gone/pmem"), passed(kernel, B, memory)]) is not None


def test_only_a_writer_of_the_whole_is_in_the_way_of_a_part(kernel: Kernel) -> None:
    for one, other in permutations(("/dev/sdb", "/dev/sdb1")):
        reader = replace(use(kernel, B, other), writes=frozenset(), writes_within=frozenset())
        assert shared_reason(A, "vda", [use(kernel, A, one), reader]) is None
        assert shared_reason(B, "vda", [use(kernel, A, one), reader]) is not None


def test_an_image_that_is_only_read_is_in_nobody_s_way(kernel: Kernel) -> None:
    """An overlay elsewhere upon a base on a volume, and a guest with the volume's whole disk as a base of its own."""
    overlay, base = use(kernel, A, "/dev/sdd1"), use(kernel, A, "/dev/dm-3")
    upon = replace(overlay, shows=overlay.shows | base.shows, within=overlay.within | base.within)
    reader = replace(use(kernel, B, "/dev/sdb"), writes=frozenset({"an overlay"}), writes_within=frozenset())
    assert shared_reason(A, "vda", [upon, reader]) is None
    assert shared_reason(B, "vda", [upon, reader]) is None
    assert shared_reason(A, "vda", [upon, use(kernel, B, "/dev/sdb")]) is not None  # it writes to the base


def test_devices_that_hold_each_other_end_the_search(kernel: Kernel) -> None:
    """As /sys may show for an instant while a map is replaced."""
    kernel.add("dm-10", on=("sdd1",))
    (kernel.directory("dm-10") / "holders").mkdir()
    (kernel.directory("dm-10") / "holders/sdd1").symlink_to(kernel.directory("sdd1"))
    (kernel.directory("sdd1") / "slaves").mkdir()
    (kernel.directory("sdd1") / "slaves/dm-10").symlink_to(kernel.directory("dm-10"))
    assert {one.name for one in stack.above(kernel.directory("sdd"))} == {"sdd", "sdd1", "dm-10"}
    assert {one.name for one in stack.below(kernel.directory("dm-10"), kernel.sys)} == {"sdd1", "sdd"}
