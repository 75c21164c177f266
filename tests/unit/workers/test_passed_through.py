"""Storage that a guest is given past QEMU's block layer is never missing from a capture without a word (P2)."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from freezeframe.naming import NamedGuest
from workers.fitness import attached_devices, choose_disks, passed_warnings
from workers.hypervisor.disk import disks_of
from workers.hypervisor.fake_guest import disk_xml, domain_xml
from workers.hypervisor.passed_through import passed_devices
from workers.identity.device_class import holds_data, passed_of
from workers.refusal import DiskNotCapturableError

DB = NamedGuest("db", "00000000-0000-4000-8000-00000000000d")

pytestmark = pytest.mark.case("P2")

VDA = disk_xml("vda", "/images/a")
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"


def host_device(kind: str, source: str, *, more: str = "", alias: str = "hostdev0", model: str = "") -> str:
    attribute = f" model='{model}'" if model else ""
    named = f"<alias name='{alias}'/>" if alias else ""
    return f"<hostdev mode='subsystem' type='{kind}'{attribute}>{source}{more}{named}</hostdev>"


def lun(alias: str = "hostdev0", more: str = "") -> str:
    address = "<address bus='0' target='1' unit='2'/>"
    return host_device("scsi", f"<source><adapter name='scsi_host3'/>{address}</source>", alias=alias, more=more)


def pci(slot: int = 3) -> str:
    return host_device(
        "pci", f"<source><address domain='0x0000' bus='0x41' slot='{slot:#04x}' function='0x0'/></source>"
    )


ISCSI = host_device("scsi", "<source protocol='iscsi' name='iqn.2026-11.org.example:db/1'><host name='s'/></source>")
VHOST = host_device("scsi_host", "<source protocol='vhost' wwpn='naa.5123456789abcde0'/>")
STICK = host_device("usb", "<source><vendor id='0x0951'/><product id='0x1666'/><address bus='1' device='7'/></source>")
STICK_BY_ID = host_device("usb", "<source><vendor id='0x0951'/><product id='0x1666'/></source>")
MDEV = host_device("mdev", "<source><address uuid='4b20d080-1b54-4048-85b3-a6a62d165c01'/></source>", model="vfio-pci")
DASD = host_device("mdev", "<source><address uuid='4b20d080-1b54-4048-85b3-a6a62d165c01'/></source>", model="vfio-ccw")
NVDIMM = (
    "<memory model='nvdimm'><source><path>/dev/pmem0</path></source><target><size>1</size></target>"
    "<alias name='nvdimm0'/></memory>"
)
DIMM = "<memory model='dimm'><target><size>1</size></target><alias name='dimm0'/></memory>"
SHARE = (
    "<filesystem type='mount'><driver type='virtiofs'/><source dir='/srv/www'/><target dir='www'/>"
    "<alias name='fs0'/></filesystem>"
)


def refusal(*devices: str, sys: Path = Path("/none"), skip: tuple[str, ...] = ()) -> str | None:
    """Return the refusal of the guest, its message and its advice; None if it is captured."""
    xml = domain_xml(VDA, *devices)
    try:
        taken, skipped = choose_disks(DB, disks_of(xml), skip, passed=passed_of(xml, sys))
    except DiskNotCapturableError as error:
        return f"{error.message} {error.hint}"
    assert [disk.target for disk in taken] == ["vda"]
    assert {one.target: one.reason for one in skipped} == dict.fromkeys(skip, "the caller left it out")
    return None


def told(*devices: str, sys: Path = Path("/none"), skip: tuple[str, ...] = ()) -> str:
    """Return what the receipt says of a guest that is captured with these devices."""
    assert refusal(*devices, sys=sys, skip=skip) is None
    return "\n".join(passed_warnings(DB, passed_of(domain_xml(VDA, *devices), sys), skip))


@pytest.mark.parametrize(
    ("device", "name", "said"),
    [
        (lun(), "hostdev0", "SCSI device 3:0:1:2 passed through"),
        (ISCSI, "hostdev0", "iscsi LUN iqn.2026-11.org.example:db/1 passed through"),
        (VHOST, "hostdev0", "vhost-scsi target naa.5123456789abcde0 passed through"),
        (DASD, "hostdev0", "mediated device 4b20d080-1b54-4048-85b3-a6a62d165c01 passed through"),
        (NVDIMM, "nvdimm0", "persistent memory /dev/pmem0"),
        (NVDIMM.replace("nvdimm", "virtio-pmem"), "memory0", "persistent memory /dev/pmem0"),
    ],
)
def test_storage_that_qemu_cannot_back_up_is_refused_unless_the_caller_leaves_it_out(
    device: str, name: str, said: str
) -> None:
    assert refusal(device) == (
        f"Device {name} of guest db cannot be captured: it is {said}, which QEMU cannot back up. "
        f"Leave it out with --skip-disk {DB.uuid}:{name} if you can do without it."
    )
    assert told(device, skip=(name,)) == ""


def sysfs(root: Path, name: str, **files: str) -> Path:
    for file, text in files.items():
        path = root / name / file.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("number", "refused"),
    [("0x010802", True), ("0x010700", True), ("0x0c0400", True), ("0x020000", False), ("0x030000", False)],
)
def test_a_pci_device_is_storage_if_its_class_says_so(tmp_path: Path, number: str, refused: bool) -> None:  # noqa: FBT001
    """NVMe, SAS and Fibre Channel; a network card and a GPU are not, and nothing is said of them."""
    sysfs(tmp_path, "bus/pci/devices/0000:41:03.0", **{"class": number})
    if refused:
        assert "PCI device 0000:41:03.0" in str(refusal(pci(), sys=tmp_path))
    else:
        assert told(pci(), sys=tmp_path) == ""


@pytest.mark.parametrize("number", [None, "0x0c0330"])
def test_a_pci_device_that_may_be_or_have_storage_is_told(tmp_path: Path, number: str | None) -> None:
    """One whose class this host does not say, and a USB controller with whatever is connected to it."""
    if number:
        sysfs(tmp_path, "bus/pci/devices/0000:41:03.0", **{"class": number})
    assert told(pci(), sys=tmp_path) == (
        "Guest db has PCI device 0000:41:03.0 passed through: data that is on it is not in the capture."
    )
    assert told(pci(), sys=tmp_path, skip=("hostdev0",)) == ""


@pytest.mark.parametrize("device", [STICK, STICK_BY_ID, STICK.replace("'0x0951'", "'0x951'")])
def test_a_usb_device_is_storage_if_an_interface_of_it_is(tmp_path: Path, device: str) -> None:
    assert "USB device" in told(device, sys=tmp_path)  # this host does not say what it is
    ids = {"busnum": "1", "devnum": "7", "idVendor": "0951", "idProduct": "1666"}
    sysfs(tmp_path, "bus/usb/devices/1-2", **ids, **{"1-2:1.0__bInterfaceClass": "03"})
    sysfs(tmp_path, "bus/usb/devices/usb9", busnum="9", devnum="7", **{"9-0:1.0__bInterfaceClass": "08"})
    assert told(device, sys=tmp_path) == ""  # a keyboard
    sysfs(tmp_path, "bus/usb/devices/1-2", **{"1-2:1.1__bInterfaceClass": "08"})
    assert "USB device" in str(refusal(device, sys=tmp_path))


@pytest.mark.parametrize(("kind", "refused"), [("0", True), ("20", True), ("5", False), ("1", False)])
def test_a_scsi_device_that_is_no_disk_is_no_storage(tmp_path: Path, kind: str, refused: bool) -> None:  # noqa: FBT001
    """Zoned disks are disks; a CD-ROM drive's and a tape's media are not the guest's own."""
    sysfs(tmp_path, "bus/scsi/devices/3:0:1:2", type=kind)
    assert (refusal(lun(), sys=tmp_path) is not None) == refused


def test_a_virtual_gpu_is_what_the_card_is_that_makes_it(tmp_path: Path) -> None:
    card = tmp_path / "devices/pci0000:00/0000:00:02.0"
    sysfs(tmp_path, "devices/pci0000:00/0000:00:02.0", **{"class": "0x030000"})
    (card / "4b20d080-1b54-4048-85b3-a6a62d165c01").mkdir()
    (tmp_path / "bus/mdev/devices").mkdir(parents=True)
    link = tmp_path / "bus/mdev/devices/4b20d080-1b54-4048-85b3-a6a62d165c01"
    link.symlink_to(card / link.name)
    assert told(MDEV, sys=tmp_path) == ""


def test_a_shared_directory_is_told_unless_the_guest_can_only_read_it() -> None:
    assert told(SHARE) == "Guest db has the host's directory /srv/www (www): what is on it is not in the capture."
    assert told(SHARE.replace("<alias", "<readonly/><alias")) == ""


def test_memory_network_cards_and_read_only_devices_are_not_told() -> None:
    card = "<interface type='hostdev'><source><address type='pci' bus='0x41'/></source></interface>"
    shared = "<shmem name='x'><size unit='M'>4</size></shmem>"
    assert told(DIMM, card, shared, lun(more="<readonly/>"), NVDIMM.replace("<size>", "<readonly/><size>")) == ""


def test_a_drive_that_is_handed_to_qemu_past_libvirt_is_told() -> None:
    options = (
        f"<q:commandline xmlns:q='{QEMU_NAMESPACE}'><q:arg value='-drive'/><q:arg value='file=/x'/></q:commandline>"
    )
    xml = domain_xml(VDA).replace("</domain>", f"{options}</domain>")
    (warning,) = passed_warnings(DB, passed_of(xml), ())
    assert "-drive" in warning


def handed(*words: str) -> list[str]:
    """What is told of a guest to whose QEMU these words are handed past libvirt."""
    values = "".join(f"<q:arg value={quoteattr(word)}/>" for word in words)
    options = f"<q:commandline xmlns:q='{QEMU_NAMESPACE}'>{values}</q:commandline>"
    xml = domain_xml(VDA).replace("</domain>", f"{options}</domain>")
    return list(passed_warnings(DB, passed_of(xml), ()))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("-device", "vfio-pci,host=0000:01:00.0"), "vfio-pci"),
        (("-device", "driver=vfio-pci,host=0000:01:00.0"), "vfio-pci"),
        (("--device", '{"driver":"vfio-pci","host":"0000:01:00.0"}'), "vfio-pci"),
        (("-device", "vhost-scsi-pci,wwpn=naa.5001"), "vhost-scsi-pci"),
        (("-device", "vhost-user-blk-pci,chardev=c"), "vhost-user-blk-pci"),
        (("-object", "memory-backend-file,id=m,mem-path=/dev/dax0.0", "-device", "nvdimm,memdev=m"), "nvdimm"),
        (("-device", "virtio-pmem-pci,memdev=m"), "virtio-pmem-pci"),
        (("-device", "usb-host,vendorid=1"), "usb-host"),
        (("-virtfs", "local,path=/srv,mount_tag=s"), "-virtfs"),
        (("-fsdev", "local,path=/srv,id=s"), "-fsdev"),
        (("-usbdevice", "disk:/x"), "-usbdevice"),
        (("-blockdev", "driver=file,filename=/x,node-name=x", "-device", "virtio-blk-pci,drive=x"), "-blockdev"),
        (("-readconfig", "/etc/more.cfg"), "-readconfig"),
    ],
)
def test_whatever_may_hold_data_and_is_handed_to_qemu_past_libvirt_is_told(words: tuple[str, ...], named: str) -> None:
    (warning,) = handed(*words)
    assert named in warning
    assert "is not in the capture" in warning


@pytest.mark.parametrize(
    "words",
    [
        ("-device", "virtio-net-pci,netdev=n"),
        ("-device", "vhost-vsock-pci,guest-cid=3"),
        ("-device", "usb-tablet"),
        ("-device", "{not json"),
        ("-device",),
        ("-usbdevice", "tablet"),
        ("-cpu", "host"),
        ("-name", "nvdimm"),
    ],
)
def test_what_holds_no_data_is_not_told(words: tuple[str, ...]) -> None:
    assert handed(*words) == []


def test_addresses_are_read_in_decimal_and_hexadecimal() -> None:
    address = "<source><address domain='0' bus='0x0a' slot='010' function='0x7'/></source>"
    (device,) = passed_devices(domain_xml(VDA, host_device("pci", address)))
    assert device.address == "0000:0a:0a.7"


def test_devices_are_named_so_that_they_can_be_left_out() -> None:
    """By libvirt's alias; a user's own alias cannot be a target, and no two devices have one name."""
    xml = domain_xml(disk_xml("hostdev0", "/a"), lun(), lun("ua-my-lun"), lun(""), lun("hostdev2"))
    names = [device.name for device in passed_devices(xml)]
    assert len({*names, "hostdev0"}) == 5
    assert "hostdev2" in names
    for name in names:
        assert name.isalnum()
    with pytest.raises(DiskNotCapturableError) as caught:
        choose_disks(DB, disks_of(xml), names[:2], passed=passed_of(xml))
    assert names[2] in caught.value.message


def test_a_name_that_neither_disk_nor_device_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(DiskNotCapturableError, match="no disk vdx") as caught:
        choose_disks(DB, disks_of(domain_xml(VDA)), ["vdx"], passed=passed_of(domain_xml(VDA, lun())))
    assert caught.value.hint == "Its disks are vda, hostdev0."


def test_storage_that_is_passed_through_between_prepare_and_hold_is_found() -> None:
    before, now = passed_of(domain_xml(VDA)), passed_of(domain_xml(VDA, lun()))
    assert attached_devices(before, now) == ["device hostdev0 (SCSI device 3:0:1:2) was attached"]
    assert attached_devices(now, now) == attached_devices(now, before) == []


def test_this_host_s_own_devices_are_read_without_an_error() -> None:
    for device in passed_devices(domain_xml(VDA, lun(), pci(), STICK, MDEV, SHARE)):
        holds_data(device)


def test_each_device_is_known_by_what_leads_to_its_storage() -> None:
    found = {device.what: device for device in passed_devices(domain_xml(VDA, lun(), ISCSI, VHOST))}
    assert [(device.address, device.iscsi) for device in found.values()] == [
        ("3:0:1:2", ""),
        ("", "iqn.2026-11.org.example:db/1"),
        ("naa.5123456789abcde0", ""),
    ]
