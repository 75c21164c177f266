from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

import pytest

from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.repository import DiskCapture, Manifest, Parent, ParentSearch, SkippedDisk, find_parents
from freezeframe.repository.parent import AT_LEAST, AT_MOST, CAPTURES_OF_GUEST

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


class Taken(Iterator[Manifest]):
    """Manifests, and how many of them were taken."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._rest = iter(manifests)
        self.taken = 0

    def __next__(self) -> Manifest:
        self.taken += 1
        return next(self._rest)


def many(count: int, disk: DiskCapture = DISK, guest: str = OTHER_GUEST) -> list[Manifest]:
    return [manifest_of(number, disk, guest=guest) for number in range(count, 0, -1)]


@pytest.mark.case("R8")
def test_the_search_ends_where_each_disk_of_a_guests_newest_capture_has_a_parent() -> None:
    other = disk_capture("cd" * 32, CHUNK, checkpoint="cp", target="vdb")
    without = other.model_copy(update={"checkpoint": None})
    manifests = Taken(
        [*many(50), manifest_of(3, DISK, without), manifest_of(2, DISK), manifest_of(1, other), *many(50)]
    )
    search = ParentSearch(manifests)
    assert search.of(GUEST) == [Parent(capture_id(3), DISK), Parent(capture_id(1), other)]
    assert manifests.taken == 53
    assert search.of(GUEST) == search.of(GUEST)
    assert len(search.of(OTHER_GUEST)) == 1
    assert manifests.taken == 53  # what one guest's search has seen serves the others


def test_a_disk_that_the_newest_capture_skipped_is_looked_for() -> None:
    other = disk_capture("cd" * 32, CHUNK, checkpoint="cp", target="vdb")
    newest = manifest_of(9, DISK)
    skipping = newest.guests[0].model_copy(update={"skipped": (SkippedDisk(target="vdb", reason="asked for"),)})
    manifests = Taken([newest.model_copy(update={"guests": (skipping,)}), *many(50), manifest_of(1, other), *many(50)])
    assert ParentSearch(manifests).of(GUEST) == [Parent(capture_id(9), DISK), Parent(capture_id(1), other)]
    assert manifests.taken == 52


def test_a_disk_that_never_has_a_checkpoint_is_not_looked_for_in_every_capture() -> None:
    manifests = Taken(many(CAPTURES_OF_GUEST + 50, disk_capture("cd" * 32, CHUNK), GUEST))
    assert ParentSearch(manifests).of(GUEST) == []
    assert manifests.taken == CAPTURES_OF_GUEST


def test_a_guest_that_was_never_captured_is_looked_for_in_so_many_captures_and_is_told() -> None:
    manifests = Taken(repeat(manifest_of(1, DISK, guest=OTHER_GUEST)))
    search = ParentSearch(manifests)
    assert search.of(GUEST) == search.of(GUEST) == []
    assert manifests.taken == AT_MOST
    assert search.given_up == [GUEST]
    few = ParentSearch(many(3))
    assert (few.of(GUEST), few.given_up) == ([], [])


def test_a_disk_that_was_swapped_for_another_lately_has_its_parent_still() -> None:
    one, other = of_inode(DISK, 1), of_inode(DISK, 2)
    manifests = [*many(AT_LEAST - 2, one, GUEST), manifest_of(1, other), *many(50, one, GUEST)]
    assert [parent.disk for parent in ParentSearch(manifests).of(GUEST)] == [one, other]
