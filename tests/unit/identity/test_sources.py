"""What stands behind each disk, from a live definition."""

from __future__ import annotations

import pytest

from workers.identity.sources import Source, sources_of


def disk(body: str, kind: str = "file", image_format: str = "qcow2") -> str:
    driver = f"<driver name='qemu' type='{image_format}'/>"
    return f"<domain><devices><disk type='{kind}' device='disk'>{driver}{body}<target dev='vda'/></disk></devices></domain>"


def active(body: str, kind: str) -> Source:
    return sources_of(disk(body, kind, "raw"))["vda"].active


def facts(body: str, kind: str = "network") -> dict[str, str]:
    return dict(active(body, kind).facts)


def test_all_layers_and_the_data_file_are_found() -> None:
    found = sources_of(
        disk(
            "<source file='/i/top' index='3'>"
            "<dataStore type='file'><format type='raw'/><source file='/i/data'/></dataStore></source>"
            "<backingStore type='file' index='2'><format type='qcow2'/><source file='/i/mid'/>"
            "<backingStore type='block'><format type='raw'/><source dev='/dev/base'/><backingStore/></backingStore>"
            "</backingStore>"
        )
    )["vda"]
    assert (found.active.path, found.active.is_qcow2) == ("/i/top", True)
    assert found.data_file is not None
    assert found.data_file.path == "/i/data"
    assert [(one.kind, one.path, one.is_qcow2) for one in found.backing] == [
        ("file", "/i/mid", True),
        ("block", "/dev/base", False),
    ]


def test_a_pool_and_an_image_are_the_same_whichever_monitor_is_asked() -> None:
    one = facts("<source protocol='rbd' name='pool/image' index='1'><host name='mon1' port='6789'/></source>")
    other = facts("<source protocol='rbd' name='pool/image' index='4'><host name='mon2'/></source>")
    assert one == other == {"protocol": "rbd", "name": "pool/image"}


@pytest.mark.parametrize("protocol", ["nbd", "http", "gluster", "ssh"])
def test_a_name_that_means_something_on_its_server_only_is_not_enough(protocol: str) -> None:
    one = facts(f"<source protocol='{protocol}' name='disk'><host name='a' port='1'/></source>")
    other = facts(f"<source protocol='{protocol}' name='disk'><host name='b' port='1'/></source>")
    assert one != other


def test_images_of_two_names_or_snapshots_are_two_disks() -> None:
    plain = facts("<source protocol='rbd' name='pool/image'/>")
    assert plain != facts("<source protocol='rbd' name='pool/other'/>")
    assert plain != facts("<source protocol='rbd' name='pool/image'><snapshot name='s'/></source>")


def test_a_pci_device_is_known_by_its_address() -> None:
    found = facts(
        "<source type='pci' namespace='1'><address domain='0x0' bus='0x01' slot='0x00' function='0x0'/></source>",
        "nvme",
    )
    assert found["address bus"] == "0x01"
    assert found["namespace"] == "1"


def test_a_volume_is_to_be_looked_up() -> None:
    assert active("<source pool='default' volume='a.qcow2'/>", "volume").volume == ("default", "a.qcow2")


def test_a_drive_without_a_medium_has_no_source() -> None:
    assert sources_of(disk("")) == {}
