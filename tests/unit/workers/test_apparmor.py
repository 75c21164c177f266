"""Our paths against the text of the AppArmor profiles that Debian ships for libvirt. No kernel of a lab enforces them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from freezeframe.settings import HostSettings
from tests.apparmor import Rule, allows, rules
from workers.host import Host
from workers.qemu_process import LEAST_NAME_BYTES, QemuProcess, hashed
from workers.restore.image import ImageFormat

pytestmark = pytest.mark.case("G1")

PROFILES = Path("/etc/apparmor.d")
HELPER = "/usr/lib/libvirt/virt-aa-helper"
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
#: Guests of one host: their libvirt ids, names and UUIDs.
GUESTS = {
    "alpha": (7, "0198c0de-0000-7000-8000-000000000001"),
    "beta": (8, "0198c0de-0000-7000-8000-000000000002"),
    "a name that is longer than twenty": (9, "0198c0de-0000-7000-8000-000000000003"),
    "with space": (77, "0198c0de-0000-7000-8000-000000000004"),
    "数据库": (12, "0198c0de-0000-7000-8000-000000000005"),
    "Grüße aus Köln": (13, "0198c0de-0000-7000-8000-000000000006"),
}


def helper(name: str, *options: str) -> list[Rule]:
    """Return the rules that libvirt adds for one guest: by its own helper, told to write nothing."""
    number, uuid = GUESTS[name]
    xml = (
        f"<domain type='qemu' id='{number}'><name>{escape(name)}</name><uuid>{uuid}</uuid><memory>1024</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os>"
        "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>"
    )
    command = [HELPER, "--dryrun", "--replace", "--uuid", f"libvirt-{uuid}", *options]
    done = subprocess.run(command, input=xml, capture_output=True, text=True, check=True)
    return rules(done.stdout + done.stderr)


@pytest.fixture(scope="module")
def shipped() -> list[Rule]:
    """What every QEMU may."""
    found = rules((PROFILES / "abstractions" / "libvirt-qemu").read_text())
    assert len(found) > 100
    return found


def of(name: str, shipped: list[Rule]) -> list[Rule]:
    return [*shipped, *helper(name)]


def socket(name: str) -> Path:
    """As the hold asks for it, in the directory that libvirt makes. [domain_conf.c, virDomainDefGetShortName]"""
    number, uuid = GUESTS[name]
    directory = Path(f"/var/lib/libvirt/qemu/domain-{number}-{name[:20]}")
    return QemuProcess(name, uuid, 1, 64055, 64055, (), directory).export_socket(CAPTURE)


@pytest.fixture
def scratch(host: Host) -> Path:
    """By default settings."""
    default: Path = HostSettings.model_fields["scratch_dir"].default
    return default / host.scratch_file(CAPTURE, GUESTS["alpha"][1], "vda").relative_to(host.settings.scratch_dir)


@pytest.mark.parametrize("name", GUESTS)
def test_each_qemu_may_make_its_own_export_socket(name: str, shipped: list[Rule]) -> None:
    assert allows(of(name, shipped), socket(name), "rw")


def test_each_qemu_may_make_a_socket_that_is_named_by_a_hash(shipped: list[Rule]) -> None:
    """The profile opens the guest's directory, whatever is made there.

    A guest whose name is long enough for that does not run where profiles are enforced: libvirt's helper takes 20 bytes of a
    name, and libvirtd 20 characters, so the profile opens another directory than the one with the guest's own key.
    """
    directory = Path("/var/lib/libvirt/qemu/domain-7-alpha")
    assert allows(of("alpha", shipped), directory / hashed(CAPTURE)[:LEAST_NAME_BYTES], "rw")
    assert not allows(of("beta", shipped), directory / hashed(CAPTURE)[:LEAST_NAME_BYTES], "w")


@pytest.mark.parametrize("name", GUESTS)
def test_no_qemu_may_make_that_of_another_guest(name: str, shipped: list[Rule]) -> None:
    own = of(name, shipped)
    assert [other for other in GUESTS if allows(own, socket(other), "w")] == [name]


def test_a_guests_scratch_file_is_opened_to_it_alone_as_libvirt_opens_it(shipped: list[Rule], scratch: Path) -> None:
    """libvirt appends the file to the profile when the backup begins. [security_apparmor.c, reload_profile]"""  # noqa: D403
    opened = [*of("alpha", shipped), *helper("alpha", "-F", str(scratch))]
    assert allows(opened, scratch, "rwk")
    assert not allows(of("alpha", shipped), scratch, "r")
    assert not allows(of("beta", shipped), scratch, "r")


def test_libvirts_helper_may_look_into_scratch_files_and_restored_disks(scratch: Path) -> None:
    """It looks for backing files, and fails where its own profile hides the file."""
    own = rules((PROFILES / "usr.lib.libvirt.virt-aa-helper").read_text())
    assert allows(own, scratch, "r")
    for image_format in ImageFormat:
        assert allows(own, f"/a/place/alpha-vda.{image_format.value}", "r")
    assert not allows(own, "/a/place/alpha-vda.other", "r")


@pytest.mark.parametrize(
    "path",
    [
        f"/run/freezeframe/{CAPTURE}.sock",
        f"/var/lib/freezeframe/{CAPTURE}.sock",
        f"/var/lib/libvirt/qemu/{CAPTURE}.sock",
        f"/var/lib/libvirt/qemu/domain-7-alpha/below/{CAPTURE}.sock",
        f"/tmp/{CAPTURE}.sock",  # noqa: S108
        "/var/lib/freezeframe/host/claims/alpha",
        "/run/libvirt/libvirt-sock",
    ],
)
def test_a_place_that_the_profiles_do_not_open_is_found_out(path: str, shipped: list[Rule]) -> None:
    """This test can fail: the rules are read, not counted. The first is where sockets once were."""
    assert not allows(of("alpha", shipped), path, "w")


@pytest.mark.parametrize(
    ("text", "path", "may", "allowed"),
    [
        ("/a/* r,", "/a/b", "r", True),
        ("/a/* r,", "/a/b/c", "r", False),
        ("/a/** r,", "/a/b/c", "r", True),
        ("/a/* r,", "/a/b", "rw", False),
        ("/a/* r,\n/a/b w,", "/a/b", "rw", True),
        ("/a/* rw,\ndeny /a/b w,", "/a/b", "w", False),
        ("/a/* rw,\naudit deny /a/b w,", "/a/b", "r", True),
        ("  owner /{,var/}run/x r,", "/var/run/x", "r", True),
        ("/x{,.*} r,", "/x.y", "r", True),
        ('"/with space/*" rw,', "/with space/a", "w", True),
        ("@{PROC}/@{pid}/x r,", "/proc/17/x", "r", True),
        ("/dev/sd[a-z] r,", "/dev/sda", "r", True),
        ("/dev/sd[a-z] r,", "/dev/sd1", "r", False),
        ("capability chown,", "/chown", "r", False),
        ("# /a r,", "/a", "r", False),
    ],
)
def test_rules_are_read_as_apparmor_reads_them(text: str, path: str, may: str, allowed: bool) -> None:  # noqa: FBT001
    assert allows(rules(text), path, may) is allowed
