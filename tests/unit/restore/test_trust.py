"""A definition from a repository gets nothing of the host that it does not ask for by name, and that is not trusted."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from lxml import etree

from workers.hypervisor.disk import parse, text
from workers.restore.definition import RestoredImage, definition
from workers.restore.identity import Identity
from workers.restore.image import ImageFormat
from workers.restore.rules import Host
from workers.restore.trust import reaches

from .corpus import AARCH64, CORPUS, EMULATOR, UUID
from .dangers import DANGERS
from .domains import LARGE, SMALL

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
IMAGE = Path("/restored/vm-vda.qcow2")
IMAGES = {"vda": RestoredImage(IMAGE, ImageFormat.QCOW2)}
HOST = Host({EMULATOR, AARCH64}, {str(IMAGE)})
NEW = Identity("copy", "99999999-8888-4777-8666-555555555555")
BASE = CORPUS["bios, spice"]


def made(xml: str, identity: Identity | None = None) -> str:
    return definition(xml, IMAGES, identity).xml


def found(xml: str, identity: Identity | None = None) -> tuple[str, ...]:
    return reaches(made(xml, identity), HOST)


def with_more(place: str, more: str) -> str:
    """The plain guest with an element more, in the element at `place`."""
    root = parse(BASE)
    parent = root if place == "." else root.find(place)
    assert parent is not None
    parent.append(etree.fromstring(more))
    return text(root)


@pytest.mark.parametrize("identity", [None, NEW])
@pytest.mark.parametrize("sort", CORPUS)
def test_definitions_as_virt_install_and_virt_manager_make_them_pass(sort: str, identity: Identity | None) -> None:
    assert found(CORPUS[sort], identity) == ()


@pytest.mark.skipif(not SCHEMA.exists(), reason="libvirt's schemas are not installed")
@pytest.mark.parametrize("sort", CORPUS)
def test_the_corpus_is_what_libvirt_takes(sort: str) -> None:
    schema = etree.RelaxNG(etree.parse(SCHEMA))
    known = parse(CORPUS[sort])
    for element in known.iter():  # since libvirt 9.0, whose schema may be here
        for attribute in ("templateFormat", "format"):
            if element.tag in {"nvram", "loader"}:
                element.attrib.pop(attribute, "")
    schema.assertValid(known)


@pytest.mark.parametrize(("place", "more", "named"), DANGERS)
def test_what_reaches_beyond_the_guest_is_named_with_its_value(place: str, more: str, named: tuple[str, ...]) -> None:
    told = " ".join(found(with_more(place, more)))
    assert [word for word in named if word not in told] == [], told


@pytest.mark.parametrize(("place", "more", "named"), DANGERS)
def test_with_a_new_identity_it_is_named_or_gone(place: str, more: str, named: tuple[str, ...]) -> None:
    xml = with_more(place, more)
    paths = [word for word in named if "/" in word or "+" in word]
    assert found(xml, NEW) or not any(path in made(xml, NEW) for path in paths)


@pytest.mark.parametrize("source", ["<source file='/etc/shadow'/>", "<source dev='/dev/sda'/>"])
def test_a_drives_medium_and_a_disks_second_source_are_gone(source: str) -> None:
    for xml in (
        with_more("devices/disk", source),
        BASE.replace('<source file="/var/lib/libvirt/boot', f'{source}<source file="/x'),
    ):
        after = made(xml)
        assert "/etc/shadow" not in after
        assert "/dev/sda" not in after
        assert found(xml) == ()


@pytest.mark.parametrize(
    ("place", "attribute", "value"),
    [
        (".", "type", "xen"),
        ("devices/emulator", None, "/usr/bin/qemu-system-x86_64x"),
        ("devices/interface", "type", "ethernet"),
        ("devices/serial", "type", "stdio"),
        ("devices/rng/backend", None, "/dev/hwrng"),
        ("devices/graphics", "listen", "example.org"),
    ],
)
def test_a_value_that_is_another_is_named(place: str, attribute: str | None, value: str) -> None:
    root = parse(BASE)
    element = root if place == "." else root.find(place)
    assert element is not None
    if attribute is None:
        element.text = value
    else:
        element.set(attribute, value)
    assert any(value in one for one in found(text(root)))


def elements(xml: str) -> Iterator[tuple[etree._Element, etree._Element]]:
    """Each element of a definition, in a copy of its own; not those of its metadata, which libvirt does not look at."""
    root = parse(xml)
    for number, element in enumerate(root.iter(tag=etree.Element)):
        if not any(one.tag == "metadata" for one in (element, *element.iterancestors())):
            copy = deepcopy(root)
            yield copy, list(copy.iter(tag=etree.Element))[number]


@pytest.mark.parametrize("sort", CORPUS)
def test_an_attribute_that_nobody_has_looked_at_is_named_wherever_it_is(sort: str) -> None:
    for root, element in elements(made(CORPUS[sort])):
        element.set("path2", "/etc/shadow")
        told = reaches(text(root), HOST)
        assert ["path2='/etc/shadow'" in one for one in told] == [True], etree.tostring(element)


@pytest.mark.parametrize("tag", ["shim", "{http://example.org/1}emulator", "path", "source2"])
@pytest.mark.parametrize("sort", CORPUS)
def test_an_element_that_nobody_has_looked_at_is_named_wherever_it_is(sort: str, tag: str) -> None:
    for root, element in elements(made(CORPUS[sort])):
        etree.SubElement(element, tag).text = "/etc/shadow"
        told = reaches(text(root), HOST)
        assert ["/etc/shadow" in one for one in told] == [True], etree.tostring(element)


@pytest.mark.skipif(not SCHEMA.exists(), reason="libvirt's schemas are not installed")
def test_no_attribute_that_libvirts_schema_takes_for_a_path_passes_with_any_value() -> None:
    """Every attribute by that name, of every element of the corpus: put a path of the host there.

    `name` is one only of a disk's source on a network, which no restored guest has.
    """
    paths = {"absFilePath", "filePath", "absDirPath", "unixSocketPath"}
    names = set()
    for schema in SCHEMA.parent.glob("*.rng"):
        for attribute in etree.parse(schema).iter("{*}attribute"):
            if paths & {str(one.get("name")) for one in attribute.iter("{*}ref")} and attribute.get("name") != "name":
                names.add(str(attribute.get("name")))
    assert {"file", "path", "template"} <= names
    for xml in CORPUS.values():
        for root, element in elements(made(xml)):
            for name in names:
                element.set(name, "/etc/shadow")
                told = reaches(text(root), HOST)
                assert any(f"{name}='/etc/shadow'" in one for one in told), (name, etree.tostring(element))
                element.attrib.pop(name)


def test_the_guests_of_other_tests_are_named_for_what_they_have() -> None:
    small = {"vda": RestoredImage(IMAGE, ImageFormat.QCOW2)}
    told = reaches(definition(SMALL, small).xml, HOST)
    assert any("/var/log/guests/serial.log" in one for one in told)
    assert any("64055:64055" in one for one in told)
    large = {target: RestoredImage(IMAGE, ImageFormat.QCOW2) for target in ("sda", "sdb")}
    assert any("qemu:commandline" in one for one in reaches(definition(LARGE, large).xml, HOST))


def test_a_value_steers_no_terminal_and_is_not_told_in_full() -> None:
    xml = f"<domain type='kvm'><name>a</name><uuid>{UUID}</uuid><evil a='{'x' * 5000}'>&#x9b;31m\n</evil></domain>"
    (told,) = reaches(xml, HOST)
    assert len(told) < 500
    assert "\x9b" not in told
    assert "\n" not in told
