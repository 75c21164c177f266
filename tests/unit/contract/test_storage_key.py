"""A block device has one key on every host, whichever way leads to it (P2)."""

from __future__ import annotations

import pytest

from freezeframe.storage_key import everywhere_key

pytestmark = pytest.mark.case("P2")

DM = "device-mapper UUID"


@pytest.mark.parametrize(
    ("path", "multipath"),
    [
        ({"SCSI WWID": "naa.6001405"}, {DM: "mpath-36001405"}),
        ({"WWID": "naa.6001405"}, {DM: "mpath-36001405"}),
        ({"WWID": "eui.0025385"}, {DM: "mpath-20025385"}),
        ({"WWID": "eui.0025385"}, {DM: "mpath-eui.0025385"}),
        ({"WWID": "nvme.144d-53"}, {DM: "mpath-nvme.144d-53"}),
        ({"WWID": "naa.6", "partition": "2", "begins at": "2048"}, {DM: "part2-mpath-36"}),
    ],
)
def test_a_multipath_map_is_the_device_that_its_paths_lead_to(path: dict[str, str], multipath: dict[str, str]) -> None:
    assert everywhere_key(path) == everywhere_key(multipath) is not None


def test_other_devices_have_other_keys() -> None:
    known = [
        {"WWID": "naa.6"},
        {"WWID": "naa.7"},
        {"WWID": "naa.6", "partition": "1"},
        {DM: "part2-mpath-36"},
        {DM: "LVM-a"},
        {DM: "LVM-b"},
        {DM: "LVM-a", "partition": "1"},
        {"array UUID": "1"},
        {"cluster_fsid": "c", "pool": "p", "image_id": "1"},
        {"cluster_fsid": "c", "pool": "p", "image_id": "2"},
    ]
    keys = [everywhere_key(facts) for facts in known]
    assert None not in keys
    assert len(set(keys)) == len(known)


@pytest.mark.parametrize(
    "facts", [{}, {"path": "/a"}, {"serial number": "S"}, {DM: "CRYPT-LUKS2-abc-root"}, {DM: "mpath"}, {"inode": "1"}]
)
def test_what_another_host_may_have_too_is_no_key(facts: dict[str, str]) -> None:
    assert everywhere_key(facts) is None
