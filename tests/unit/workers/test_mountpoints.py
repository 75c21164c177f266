"""What a freeze of some filesystems leaves moving: nothing is claimed of a disk that is not proven to be still."""

from __future__ import annotations

import pytest

from workers.hypervisor.filesystem import Filesystem
from workers.steps.mountpoints import MountpointError, moving_disks

ROOT = Filesystem("/", ("vda",))
LOGS = Filesystem("/var/log", ("vda",))
DATA = Filesystem("/srv", ("vdb", "vdc"))  # one filesystem over two disks
GUEST = [ROOT, LOGS, DATA]


@pytest.mark.parametrize(
    ("mountpoints", "moving"),
    [
        (["/", "/var/log", "/srv"], ()),
        (["/srv"], ("vda",)),
        (["/"], ("vda", "vdb", "vdc")),  # the other filesystem on vda goes on
        (["/", "/var/log"], ("vdb", "vdc")),
    ],
)
def test_a_disk_is_still_if_all_its_filesystems_are_frozen(mountpoints: list[str], moving: tuple[str, ...]) -> None:
    assert moving_disks("db1", GUEST, mountpoints, ["vda", "vdb", "vdc"]) == moving


def test_a_disk_without_a_filesystem_that_the_agent_knows_counts_as_moving() -> None:
    assert moving_disks("db1", GUEST, ["/srv"], ["vdb", "vdd"]) == ("vdd",)
    assert moving_disks("db1", [Filesystem("/srv", ())], ["/srv"], ["vdb"]) == ("vdb",)


def test_a_disk_that_is_not_captured_does_not_matter() -> None:
    assert moving_disks("db1", GUEST, ["/srv"], ["vdb", "vdc"]) == ()


def test_a_mount_point_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(MountpointError, match="Guest db1 has no filesystem mounted at /nowhere") as caught:
        moving_disks("db1", GUEST, ["/nowhere", "/srv"], ["vdb"])
    assert caught.value.hint == "It has: /, /srv, /var/log."
