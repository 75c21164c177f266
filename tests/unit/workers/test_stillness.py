"""What a hold keeps still: nothing is claimed of a disk that is not proven to be still (P1, invariant 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import libvirt
import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.words import HoldKind
from freezeframe.naming import NamedGuest
from workers.fitness import Stillness, stillness
from workers.hypervisor import agent
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.domain import Domain
from workers.hypervisor.filesystem import Filesystem
from workers.hypervisor.guest_device import GuestDevice
from workers.refusal import MountpointError

UUID = "00000000-0000-4000-8000-00000000000a"

ROOT = Filesystem("/", ("vda",), "vda1", "ext4")
LOGS = Filesystem("/var/log", ("vda",), "vda2", "xfs")
DATA = Filesystem("/srv", ("vdb", "vdc"), "dm-0", "ext4")  # one filesystem over two disks, by LVM
GUEST = [ROOT, LOGS, DATA]
FREEZE = GuestHold(kind=HoldKind.FREEZE)

pytestmark = pytest.mark.case("P1")


def disk(target: str) -> DomainDisk:
    return DomainDisk(target, "disk", "file", f"/images/{target}", "qcow2", transient=False)


def decided(
    filesystems: Sequence[Filesystem] | None, disks: Sequence[DomainDisk], hold: GuestHold = FREEZE, guest: str = "db1"
) -> Stillness:
    """Decide for a guest in which nothing but these filesystems lies on the disks."""
    return stillness(guest, hold, disks, filesystems, None if filesystems is None else devices_under(filesystems))


def devices_under(filesystems: Sequence[Filesystem]) -> list[GuestDevice]:
    targets = {target for one in filesystems for target in one.disks}
    below = {
        one.name: tuple(f"/dev/{target}" for target in one.disks) for one in filesystems if one.name not in targets
    }
    return [
        *(GuestDevice(f"/dev/{target}", disk=target) for target in targets),
        *(GuestDevice(f"/dev/{name}", partition=True, below=disks) for name, disks in below.items()),
    ]


def moving(
    filesystems: Sequence[Filesystem] | None, targets: Sequence[str], hold: GuestHold = FREEZE
) -> tuple[str, ...]:
    return tuple(one.target for one in decided(filesystems, [disk(target) for target in targets], hold).moving)


def only(*mountpoints: str, kind: HoldKind = HoldKind.FREEZE) -> GuestHold:
    return GuestHold(kind=kind, mountpoints=mountpoints)


@pytest.mark.parametrize(
    ("mountpoints", "expected"),
    [
        (["/", "/var/log", "/srv"], ()),
        (["/srv"], ("vda",)),
        (["/"], ("vda", "vdb", "vdc")),  # the other filesystem on vda goes on
        (["/", "/var/log"], ("vdb", "vdc")),
    ],
)
def test_a_disk_is_still_if_all_its_filesystems_are_frozen(mountpoints: list[str], expected: tuple[str, ...]) -> None:
    assert moving(GUEST, ["vda", "vdb", "vdc"], only(*mountpoints)) == expected


def test_a_freeze_of_everything_keeps_still_the_disks_that_have_filesystems_and_no_other() -> None:
    """Vdd is written raw, or by ZFS: the agent does not list it."""
    assert moving(GUEST, ["vda", "vdb", "vdc"]) == ()
    assert moving(GUEST, ["vda", "vdb", "vdc", "vdd"]) == ("vdd",)


@pytest.mark.parametrize("filesystems", [None, []])
def test_an_agent_that_cannot_list_filesystems_proves_no_disk_still(filesystems: list[Filesystem] | None) -> None:
    assert moving(filesystems, ["vda", "vdb"]) == ("vda", "vdb")


def test_a_filesystem_that_libvirt_could_map_to_no_disk_keeps_none_still() -> None:
    assert moving([replace(ROOT, disks=())], ["vda"]) == ("vda",)


def test_a_filesystem_that_is_not_frozen_and_may_be_anywhere_leaves_every_disk_moving() -> None:
    elsewhere = Filesystem("/mnt", (), "sdx1", "ext4")
    half = Filesystem("/mnt", ("vdb",), "dm-1", "ext4", unmapped=True)
    for one in (elsewhere, half):
        assert moving([ROOT, LOGS, one], ["vda"], only("/", "/var/log")) == ("vda",)
        assert moving([ROOT, LOGS, one], ["vda"]) == ()  # frozen as well, wherever it is


@pytest.mark.parametrize("kind", ["vfat", "exfat", "fuseblk", "fuse.sshfs", "FAT32"])
def test_a_filesystem_that_cannot_be_frozen_leaves_its_disk_moving(kind: str) -> None:
    boot = Filesystem("/boot/efi", ("vda",), "vda3", kind)
    found = decided([*GUEST, boot], [disk("vda"), disk("vdb")])
    assert [one.target for one in found.moving] == ["vda"]
    assert f"/boot/efi ({kind})" in found.moving[0].reason
    assert found.filesystems == len(GUEST)  # qemu-ga passes over it and counts it not


@pytest.mark.parametrize("kind", ["squashfs", "iso9660", "CDFS"])
def test_a_filesystem_that_nothing_writes_to_needs_no_freeze(kind: str) -> None:
    snap = Filesystem("/snap/core", (), "loop0", kind)
    assert decided([ROOT, snap], [disk("vda")]) == Stillness((), filesystems=1)


def test_a_filesystem_that_is_mounted_twice_is_one_and_is_frozen_at_either_mount() -> None:
    """qemu-ga meets the second mount frozen (EBUSY) and counts one."""
    bound = replace(ROOT, mountpoint="/var/lib/kubelet/x")
    assert decided([ROOT, bound], [disk("vda")]) == Stillness((), filesystems=1)
    assert decided([ROOT, bound], [disk("vda")], only("/")) == Stillness((), filesystems=1)


def test_a_disk_that_the_guest_cannot_write_to_is_still() -> None:
    read_only = replace(disk("vdd"), readonly=True)
    assert decided([ROOT], [disk("vda"), read_only]).moving == ()
    assert decided(None, [disk("vda"), read_only]).moving[0].target == "vda"


@pytest.mark.parametrize("kind", [HoldKind.PAUSE, HoldKind.FREEZE_PAUSE, HoldKind.NONE])
def test_paused_cpus_keep_every_disk_still_and_no_hold_promises_nothing(kind: HoldKind) -> None:
    assert stillness("db1", GuestHold(kind=kind), [disk("vdd")], None) == Stillness()


def test_a_disk_that_is_not_captured_does_not_matter() -> None:
    assert moving(GUEST, ["vdb", "vdc"], only("/srv")) == ()


@pytest.mark.parametrize("kind", [HoldKind.FREEZE, HoldKind.FREEZE_PAUSE])
def test_a_mount_point_that_is_not_there_is_named_beside_those_that_are(kind: HoldKind) -> None:
    with pytest.raises(MountpointError, match="Guest db1 has no filesystem mounted at /nowhere") as caught:
        moving(GUEST, ["vdb"], only("/nowhere", "/srv", kind=kind))
    assert caught.value.hint == "It has: /, /srv, /var/log."


def test_each_moving_disk_is_a_warning_with_the_command_that_would_keep_it_still() -> None:
    found = decided([ROOT], [disk("vda"), disk("vdb")], guest="old db")
    (warning,) = found.warnings(NamedGuest("old db", UUID))
    assert "Disk vdb of guest old db" in warning
    assert f"--guest-hold {UUID}:freeze-pause" in warning
    assert "crash" in warning


class _Handle:
    """What libvirt lists of a guest's filesystems: None for a device at whose address it knows no disk."""

    def UUIDString(self) -> str:  # noqa: N802  libvirt's name
        return "00000000-0000-4000-8000-00000000000a"

    def name(self) -> str:
        return "alpha"

    def agentSetResponseTimeout(self, timeout_s: int) -> None:  # noqa: N802  libvirt's name
        assert timeout_s > 0 or timeout_s == libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK

    def fsInfo(self) -> list[list[object]]:  # noqa: N802  libvirt's name
        return [
            ["/", "vda1", "ext4", ["vda"]],
            ["/srv", "dm-0", "xfs", ["vdb", None]],
            ["/snap", "loop0", "squashfs", []],
        ]


def test_what_libvirt_lists_is_taken_as_it_is_and_an_unknown_device_is_not_forgotten() -> None:
    assert agent.filesystems(Domain(_Handle()), 5) == [
        Filesystem("/", ("vda",), "vda1", "ext4"),
        Filesystem("/srv", ("vdb",), "dm-0", "xfs", unmapped=True),
        Filesystem("/snap", (), "loop0", "squashfs"),
    ]
