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
from workers.restore.trust import Host, reaches

from .corpus import AARCH64, CORPUS, EMULATOR, UUID
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


HOSTDEV = "<hostdev mode='subsystem' type='pci'><source><address bus='0x3'/></source></hostdev>"
FILESYSTEM = "<filesystem type='mount'><source dir='/etc'/><target dir='x'/></filesystem>"
SHARED_MEMORY = (
    "<filesystem type='mount'><driver type='virtiofs'/><source dir='/srv/share'/><target dir='x'/></filesystem>"
)
QEMU = "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-d /'/></qemu:commandline>"
OVERRIDE = "<q:override xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:device alias='x'/></q:override>"

#: What is put into a guest; and what a refusal must name of it.
DANGERS = [
    (".", QEMU, ("qemu:commandline", "-d /")),
    (".", OVERRIDE, ("q:override",)),
    (".", "<seclabel type='none'/>", ("seclabel", "none")),
    (".", "<seclabel type='none' model='selinux'/>", ("seclabel", "none")),
    (".", "<seclabel type='dynamic' model='selinux' relabel='no'/>", ("seclabel", "relabel='no'")),
    (".", "<seclabel type='static' model='dac' relabel='yes'><label>+0:+0</label></seclabel>", ("static", "+0:+0")),
    (".", "<seclabel type='dynamic' model='selinux'><baselabel>unconfined_t</baselabel></seclabel>", ("unconfined_t",)),
    (".", "<launchSecurity type='sev'><policy>1</policy></launchSecurity>", ("launchSecurity",)),
    (".", "<sysinfo type='fwcfg'><entry name='opt/x' file='/etc/shadow'/></sysinfo>", ("sysinfo", "/etc/shadow")),
    (".", "<memoryBacking><source type='file'/></memoryBacking>", ("memoryBacking/source", "file")),
    (".", "<bootloader>/usr/bin/evil</bootloader>", ("bootloader", "/usr/bin/evil")),
    (".", "<resource><partition>/system.slice</partition></resource>", ("partition", "/system.slice")),
    (".", "<blkiotune><device><path>/dev/sda</path></device></blkiotune>", ("blkiotune/device", "/dev/sda")),
    ("os", "<kernel>/boot/vmlinuz</kernel>", ("os/kernel", "/boot/vmlinuz")),
    ("os", "<initrd>/etc/shadow</initrd>", ("os/initrd", "/etc/shadow")),
    ("os", "<dtb>/etc/shadow</dtb>", ("os/dtb", "/etc/shadow")),
    ("os", "<acpi><table type='slic'>/etc/shadow</table></acpi>", ("os/acpi", "/etc/shadow")),
    ("os", "<loader>/etc/shadow</loader>", ("os/loader", "/etc/shadow")),
    ("os", "<loader readonly='no' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>", ("os/loader", "OVMF_CODE")),
    ("os", "<loader type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>", ("os/loader", "OVMF_CODE")),
    ("os", "<loader>/usr/share/OVMF/../../../etc/shadow</loader>", ("os/loader", "/etc/shadow")),
    ("os", "<nvram template='/etc/shadow'/>", ("os/nvram", "/etc/shadow")),
    ("os", "<nvram>/etc/cron.d/evil</nvram>", ("os/nvram", "/etc/cron.d/evil")),
    ("os", "<nvram>/var/lib/libvirt/qemu/nvram/other_VARS.fd</nvram>", ("os/nvram", "other_VARS.fd")),
    ("os", "<nvram type='file'><source file='/etc/x'/></nvram>", ("os/nvram", "/etc/x")),
    ("devices", "<emulator>/opt/evil</emulator>", ("emulator", "/opt/evil")),
    (
        "devices",
        "<emulator>/usr/bin/qemu-system-x86_64<!-- -->/../../../opt/evil</emulator>",
        ("emulator", "/opt/evil"),
    ),
    ("devices", HOSTDEV, ("hostdev", "pci", "0x3")),
    ("devices", FILESYSTEM, ("filesystem", "/etc")),
    ("devices", SHARED_MEMORY, ("filesystem", "/srv/share")),
    ("devices", "<interface type='hostdev'><source/></interface>", ("interface", "hostdev")),
    ("devices", "<interface type='ethernet'><script path='/opt/evil'/></interface>", ("ethernet", "/opt/evil")),
    ("devices", "<interface type='vhostuser'><source type='unix' path='/run/x'/></interface>", ("vhostuser", "/run/x")),
    ("devices", "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>", ("vdpa",)),
    ("devices", "<interface type='direct'><source dev='eno1' mode='passthrough'/></interface>", ("passthrough",)),
    (
        "devices",
        "<interface type='user'><portForward proto='tcp'><range start='22'/></portForward></interface>",
        ("22",),
    ),
    ("devices", "<interface type='user'><backend type='passt' logFile='/etc/x'/></interface>", ("logFile", "/etc/x")),
    ("devices/interface", "<script path='/opt/evil'/>", ("interface/script", "/opt/evil")),
    ("devices/interface", "<downscript path='/opt/evil'/>", ("interface/downscript", "/opt/evil")),
    ("devices/interface", "<backend tap='/dev/sda'/>", ("interface/backend", "/dev/sda")),
    ("devices/interface", "<rom file='/etc/shadow'/>", ("interface/rom", "/etc/shadow")),
    ("devices", "<serial type='file'><source path='/etc/cron.d/x'/></serial>", ("serial", "file", "/etc/cron.d/x")),
    ("devices", "<serial type='pty'><log file='/etc/cron.d/x'/></serial>", ("serial/log", "/etc/cron.d/x")),
    ("devices", "<serial type='dev'><source path='/dev/sda'/></serial>", ("serial", "dev", "/dev/sda")),
    ("devices", "<serial type='pty'><source path='/dev/sda'/></serial>", ("serial/source", "/dev/sda")),
    ("devices", "<serial type='pipe'><source path='/run/x'/></serial>", ("serial", "pipe", "/run/x")),
    (
        "devices",
        "<serial type='tcp'><source mode='connect' host='h' service='1'/></serial>",
        ("serial", "tcp", "host='h'"),
    ),
    (
        "devices",
        "<channel type='unix'><source mode='connect' path='/run/docker.sock'/></channel>",
        ("/run/docker.sock",),
    ),
    ("devices", "<console type='unix'><source mode='bind' path='/run/x'/></console>", ("console/source", "/run/x")),
    (
        "devices",
        "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
        ("/dev/tpm0",),
    ),
    (
        "devices",
        "<tpm model='tpm-tis'><backend type='emulator'><source type='file' path='/etc/x'/></backend></tpm>",
        ("/etc/x",),
    ),
    ("devices", "<rng model='virtio'><backend model='random'>/dev/sda</backend></rng>", ("rng/backend", "/dev/sda")),
    ("devices", "<rng model='virtio'><backend model='egd' type='udp'/></rng>", ("rng/backend", "egd")),
    ("devices", "<shmem name='x'><model type='ivshmem-plain'/></shmem>", ("shmem", "name='x'")),
    (
        "devices",
        "<input type='passthrough' bus='virtio'><source evdev='/dev/input/event1'/></input>",
        ("/dev/input/event1",),
    ),
    ("devices", "<input type='evdev'><source dev='/dev/input/event1'/></input>", ("evdev", "/dev/input/event1")),
    ("devices", "<graphics type='vnc' listen='0.0.0.0'/>", ("graphics", "0.0.0.0")),  # noqa: S104
    ("devices", "<graphics type='vnc'><listen type='address' address='::'/></graphics>", ("graphics/listen", "::")),
    (
        "devices",
        "<graphics type='vnc'><listen type='socket' socket='/etc/x'/></graphics>",
        ("graphics/listen", "/etc/x"),
    ),
    ("devices", "<graphics type='sdl' xauth='/root/.Xauthority'/>", ("sdl", "/root/.Xauthority")),
    ("devices", "<graphics type='egl-headless'><gl rendernode='/dev/dri/card0'/></graphics>", ("/dev/dri/card0",)),
    ("devices", "<video><driver name='vhostuser'/><model type='virtio'/></video>", ("video/driver", "vhostuser")),
    ("devices", "<memory model='nvdimm'><source><path>/dev/sda</path></source></memory>", ("nvdimm", "/dev/sda")),
    ("devices", "<smartcard mode='host-certificates'><database>/etc/pki</database></smartcard>", ("/etc/pki",)),
    ("devices", "<redirdev bus='usb' type='tcp'><source mode='connect' host='h'/></redirdev>", ("redirdev", "tcp")),
    ("devices", "<audio id='2' type='file' path='/etc/x'/>", ("audio", "/etc/x")),
    ("devices", "<crypto model='virtio'><backend model='lkcf'/></crypto>", ("crypto/backend", "lkcf")),
    ("devices", "<pstore backend='acpi-erst'><path>/etc/x</path></pstore>", ("pstore", "/etc/x")),
    ("devices", "<lease><target path='/etc/x'/></lease>", ("lease", "/etc/x")),
]


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
    told = found(text(root))
    assert [value in one for one in told] == [True]


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
