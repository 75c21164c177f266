from __future__ import annotations

from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.repository import DiskCapture, Parent, find_parents

from .samples import CHUNK, GUEST, OTHER_GUEST, capture_id, disk_capture, manifest_of

DISK = disk_capture("ab" * 32, CHUNK, checkpoint="cp")


def test_the_newest_capture_with_a_checkpoint_is_the_parent() -> None:
    newest = disk_capture("cd" * 32, CHUNK, checkpoint="cp2")
    found = find_parents([manifest_of(3, newest), manifest_of(2, DISK), manifest_of(1, DISK)], GUEST)
    assert found == [Parent(capture_id(3), newest)]
    assert found[0].checkpoint == "cp2"


def test_a_later_capture_without_a_checkpoint_does_not_hide_it() -> None:
    without = disk_capture("cd" * 32, CHUNK)
    assert find_parents([manifest_of(2, without), manifest_of(1, DISK)], GUEST) == [Parent(capture_id(1), DISK)]


def test_each_disk_has_a_parent_of_its_own_and_other_guests_have_none_here() -> None:
    other_disk = disk_capture("cd" * 32, CHUNK, checkpoint="cp", target="vdb")
    manifests = [manifest_of(3, DISK, guest=OTHER_GUEST), manifest_of(2, other_disk), manifest_of(1, DISK)]
    assert find_parents(manifests, GUEST) == [Parent(capture_id(2), other_disk), Parent(capture_id(1), DISK)]
    assert find_parents([], GUEST) == []


def test_two_disks_that_were_at_one_target_are_two() -> None:
    one, other = of_inode(DISK, 1), of_inode(DISK, 2)
    manifests = [manifest_of(3, one), manifest_of(2, other), manifest_of(1, one)]
    assert find_parents(manifests, GUEST) == [Parent(capture_id(3), one), Parent(capture_id(2), other)]


def of_inode(disk: DiskCapture, inode: int) -> DiskCapture:
    storage = Layer(kind="file", place="/images/disk.qcow2", facts={"inode": str(inode)})
    return disk.model_copy(update={"identity": DiskIdentity(active=storage)})
