"""The definition of a restored guest: its disks are where they were restored to, and nothing of the old one is shared."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from workers.hypervisor.disk import parse
from workers.restore.definition import Definition, RestoredImage, definition
from workers.restore.errors import DefinitionUnfitError
from workers.restore.identity import Identity
from workers.restore.image import ImageFormat

from .domains import BILLION_LAUGHS, EMPTY_DOCTYPE, EXTERNAL_DTD, EXTERNAL_ENTITY, LARGE, SMALL, UUID

NEW = Identity("copy", "99999999-8888-4777-8666-555555555555")
VDA = {"vda": RestoredImage(Path("/restored/web1-vda.qcow2"), ImageFormat.QCOW2)}
SDA_SDB = {
    "sda": RestoredImage(Path("/restored/dc1-sda.raw"), ImageFormat.RAW),
    "sdb": RestoredImage(Path("/restored/dc1-sdb.raw"), ImageFormat.RAW),
}
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")


def tree(made: Definition) -> etree._Element:
    return parse(made.xml)


def disk(made: Definition, target: str) -> etree._Element:
    found = tree(made).find(f"./devices/disk/target[@dev='{target}']/..")
    assert found is not None
    return found


def children(element: etree._Element) -> list[str]:
    return [str(child.tag) for child in element]


def attributes(element: etree._Element | None) -> dict[str, str]:
    assert element is not None
    return {str(name): str(value) for name, value in element.attrib.items()}


def warned(made: Definition, word: str) -> bool:
    return any(word in warning for warning in made.warnings)


def test_a_restored_disk_is_a_file_with_nothing_of_its_old_storage() -> None:
    root = disk(definition(SMALL, VDA), "vda")
    assert root.get("type") == "file"
    assert attributes(root.find("source")) == {"file": "/restored/web1-vda.qcow2"}
    assert children(root) == ["driver", "source", "target", "iotune", "serial", "address"]
    assert attributes(root.find("driver")) == {"name": "qemu", "type": "qcow2", "cache": "none", "discard": "unmap"}


def test_a_network_disk_becomes_a_file_without_credentials() -> None:
    root = disk(definition(LARGE, SDA_SDB), "sdb")
    assert root.get("type") == "file"
    assert children(root) == ["driver", "source", "target"]
    assert "ceph" not in etree.tostring(root, encoding="unicode")


def test_raw_drops_what_only_qcow2_has_and_encryption_is_told_of() -> None:
    made = definition(LARGE, SDA_SDB)
    driver = disk(made, "sda").find("driver")
    assert attributes(driver) == {"name": "qemu", "type": "raw"}
    assert driver is not None
    assert children(driver) == []
    assert warned(made, "Disk sda was encrypted")


def test_a_drive_stays_without_its_medium() -> None:
    made = definition(SMALL, VDA)
    assert children(disk(made, "sda")) == ["driver", "target", "readonly"]
    assert warned(made, "Drive sda is empty")


def test_a_disk_that_was_not_restored_is_left_out_with_a_warning() -> None:
    made = definition(SMALL, VDA)
    assert tree(made).find("./devices/disk/target[@dev='vdb']") is None
    assert warned(made, "Disk vdb was not restored")


def test_a_disk_that_the_xml_does_not_have_is_refused() -> None:
    with pytest.raises(DefinitionUnfitError, match="vdz"):
        definition(SMALL, {"vdz": VDA["vda"]})


def test_as_captured_keeps_the_identity() -> None:
    made = definition(SMALL, VDA)
    assert (made.name, made.uuid) == ("web1", UUID)
    assert tree(made).find("./devices/interface/mac") is not None
    assert attributes(tree(made).find("./devices/graphics"))["port"] == "5901"
    assert tree(made).find("./devices/serial/log") is not None
    assert tree(made).find("seclabel") is not None
    nvram = tree(definition(LARGE, SDA_SDB)).find("./os/nvram")
    assert nvram is not None
    assert nvram.text == "/var/lib/libvirt/qemu/nvram/dc1_VARS.fd"


@pytest.mark.parametrize("identity", [None, NEW])
def test_sockets_that_libvirt_had_chosen_are_chosen_again(identity: Identity | None) -> None:
    channel = tree(definition(SMALL, VDA, identity)).find("./devices/channel")
    assert channel is not None
    assert children(channel) == ["target"]


@pytest.mark.parametrize("identity", [None, NEW])
def test_a_restored_guest_has_another_generation(identity: Identity | None) -> None:
    genid = tree(definition(LARGE, SDA_SDB, identity)).find("genid")
    assert genid is not None
    assert genid.text is None


def test_a_new_identity_shares_no_name_address_or_port() -> None:
    for xml, images in ((SMALL, VDA), (LARGE, SDA_SDB)):
        made = definition(xml, images, NEW)
        assert (made.name, made.uuid) == (NEW.name, NEW.uuid)
        for old in (UUID, "52:54:00", "web1-net0", "5901", "5701", "5902", "5903", "dc1_VARS", "64055", "interfaceid"):
            assert old not in made.xml, old
        assert attributes(tree(made).find("./devices/graphics"))["autoport"] == "yes"
    assert attributes(tree(made).find("./devices/vsock/cid")) == {"auto": "yes"}
    assert attributes(tree(made).find("./os/nvram")) == {"template": "/usr/share/OVMF/OVMF_VARS.fd"}


def test_a_new_identity_writes_to_no_file_of_the_old() -> None:
    root = tree(definition(SMALL, VDA, NEW))
    assert root.find(".//log") is None
    paths = [source.get("path") for source in root.iterfind("./devices/*[@type='file']/source[@path]")]
    assert paths == ["/var/log/guests/copy-serial.log"] * 2
    large = definition(LARGE, SDA_SDB, NEW)
    socket = tree(large).find("./devices/serial[@type='unix']/source")
    assert attributes(socket)["path"] == "/run/guests/copy-dc1.sock"
    assert warned(large, "port 4555")


def test_what_was_not_captured_is_told() -> None:
    made = definition(LARGE, SDA_SDB, NEW)
    for word in ("UEFI", "TPM"):
        assert warned(made, word), word
    assert not warned(definition(SMALL, VDA, NEW), "UEFI")


def test_names_are_text_and_never_markup() -> None:
    made = definition(SMALL, VDA, Identity("a<b>&'\"", NEW.uuid))
    assert tree(made).findtext("name") == "a<b>&'\""


@pytest.mark.parametrize("xml", [BILLION_LAUGHS, EXTERNAL_ENTITY, EXTERNAL_DTD, EMPTY_DOCTYPE])
def test_document_types_are_refused(xml: str) -> None:
    with pytest.raises(DefinitionUnfitError):
        definition(xml, {})


@pytest.mark.parametrize(
    "xml", ["", "<domain>", "<network/>", "<domain/>", "\udc80", "<domain><name>a</name></domain>"]
)
def test_what_is_no_domain_is_refused(xml: str) -> None:
    with pytest.raises(DefinitionUnfitError):
        definition(xml, {})


@pytest.mark.skipif(not SCHEMA.exists(), reason="libvirt's schemas are not installed")
@pytest.mark.parametrize("identity", [None, NEW])
@pytest.mark.parametrize(("xml", "images"), [(SMALL, VDA), (LARGE, SDA_SDB)])
def test_libvirts_schema_accepts_it(xml: str, images: dict[str, RestoredImage], identity: Identity | None) -> None:
    schema = etree.RelaxNG(etree.parse(SCHEMA))
    schema.assertValid(tree(definition(xml, images, identity)))
