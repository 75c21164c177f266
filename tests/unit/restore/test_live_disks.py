"""A restored guest has every disk that it ran with when it was captured, as it was attached (P5)."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.hypervisor.disk import disks_of, parse
from workers.restore.definition import Definition, RestoredImage, definition
from workers.restore.errors import DefinitionUnfitError
from workers.restore.image import ImageFormat

from .domains import EXTERNAL_ENTITY

ADDRESS = "<alias name='virtio-disk9'/><address type='pci' domain='0x0000' bus='0x00' slot='0x09' function='0x0'/>"

pytestmark = pytest.mark.case("P5")


def disk(target: str, source: str, *, bus: str = "virtio", more: str = "") -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{source}' index='3'/>"
        f"<backingStore/><target dev='{target}' bus='{bus}'/>{more}</disk>"
    )


def domain(*disks: str) -> str:
    return f"<domain type='kvm' id='4'><name>a</name><uuid>u</uuid><devices>{''.join(disks)}<rng/></devices></domain>"


def defined(stored: str, live: str, *targets: str) -> Definition:
    images = {target: RestoredImage(Path(f"/new/{target}"), ImageFormat.QCOW2) for target in targets}
    return definition(stored, images, live_xml=live)


def test_a_disk_that_was_attached_live_only_is_defined_at_an_address_of_libvirt_s_choice() -> None:
    live = domain(disk("vda", "/a"), disk("vdc", "/c", more=ADDRESS))
    made = defined(domain(disk("vda", "/a")), live, "vda", "vdc")
    assert [(one.target, one.source) for one in disks_of(made.xml)] == [("vda", "/new/vda"), ("vdc", "/new/vdc")]
    added = parse(made.xml).findall("devices/disk")[1]
    assert [child.tag for child in added] == ["driver", "source", "target"]
    assert [child.tag for child in parse(made.xml).iterfind("devices/*")] == ["disk", "disk", "rng"]


def test_a_disk_that_will_be_another_at_the_next_start_is_defined_as_it_ran() -> None:
    stored = domain(disk("vda", "/a"), disk("vdb", "/next", bus="sata"))
    made = defined(stored, domain(disk("vda", "/a"), disk("vdb", "/b")), "vda", "vdb")
    assert [(one.target, one.bus, one.source) for one in disks_of(made.xml)] == [
        ("vda", "virtio", "/new/vda"),
        ("vdb", "virtio", "/new/vdb"),
    ]


def test_a_disk_of_the_next_start_that_was_not_captured_is_left_out_and_said() -> None:
    made = defined(domain(disk("vda", "/a"), disk("vdz", "/z")), domain(disk("vda", "/a")), "vda")
    assert [one.target for one in disks_of(made.xml)] == ["vda"]
    assert any("vdz" in warning for warning in made.warnings)


def test_a_disk_that_is_the_same_keeps_its_stored_definition_and_its_address() -> None:
    stored = domain(disk("vda", "/a", more=ADDRESS))
    made = defined(stored, domain(disk("vda", "/a")), "vda")
    assert parse(made.xml).find("devices/disk/address") is not None


def test_a_guest_whose_stored_definition_has_no_disk_gets_those_it_ran_with() -> None:
    made = defined(domain(), domain(disk("vda", "/a")), "vda")
    assert [one.target for one in disks_of(made.xml)] == ["vda"]


def test_a_disk_that_neither_definition_has_is_an_error() -> None:
    with pytest.raises(DefinitionUnfitError, match="vdq"):
        defined(domain(disk("vda", "/a")), domain(disk("vda", "/a")), "vda", "vdq")


def test_the_running_definition_is_believed_no_more_than_the_stored_one() -> None:
    with pytest.raises(DefinitionUnfitError):
        defined(domain(disk("vda", "/a")), EXTERNAL_ENTITY, "vda")
