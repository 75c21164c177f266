"""What a running guest has as a disk is not written over, as libvirt tells it: here no QEMU has anything open.

libvirt is its own test driver, or a socket that behaves badly; layers and mirrors are those of a fake guest.
"""

from __future__ import annotations

import errno
import gc
import os
import shlex
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode

import libvirt
import pytest
import typer
from typer.testing import CliRunner

from freezeframe.errors import FreezeframeError
from freezeframe.repository import Manifest, Repository
from tests.unit.identity.test_hung_storage import Guest, in_file, in_pool
from tests.unit.identity.test_unknown_storage import qemu
from tests.unit.kernel import Kernel
from workers.fitness import DiskUse
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_guest import FakeGuest, disk_xml, domain_xml, libvirt_error
from workers.identity import uses
from workers.identity.places import Places, places_of
from workers.restore.capture import plan_capture, restore_capture
from workers.restore.command import restore
from workers.restore.errors import GuestsUnknownError, TargetInUseError
from workers.restore.image import ImageFormat
from workers.restore.place import NbdPlace, places
from workers.restore.plan import GuestPart
from workers.restore.running_guests import Libvirt, check_no_guest_has, libvirts_here, written_over

from .samples import CHUNK, disk_capture, guest_capture, manifest_of, noise, part_of
from .test_places import loop_device

pytestmark = pytest.mark.case("G1")

DRIVER = "test:///default"
HERE = (Libvirt(DRIVER),)
OLD = bytes(4 * CHUNK)
NEW = noise(2 * CHUNK)

UUIDS = [f"00000000-0000-4000-8000-0000000000{number:02d}" for number in range(1, 10)]


@pytest.fixture
def manifest(repository: Repository) -> Manifest:
    return manifest_of(guest_capture(disk_capture(repository, NEW)))


@pytest.fixture
def image(target: Path) -> Path:
    """The file that a restore would write over."""
    path = target / "alpha-vda.raw"
    path.write_bytes(OLD)
    return path


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "behind"
    file.write_bytes(OLD)
    with loop_device(file) as found:
        yield found


@pytest.fixture
def hypervisor() -> Iterator[Hypervisor]:
    """The test driver, whose guests all connections of a process see as long as one of them is open."""
    found = Hypervisor(DRIVER)
    (its_own,) = found.domains()  # with a disk in a file that is not there
    its_own.handle.destroy()
    yield found
    found.close()
    del its_own
    gc.collect()  # of the test: errors that it caught keep connections


class Restore:
    """The restore under test: over a file, or a device if one is given."""

    def __init__(self, repository: Repository, manifest: Manifest, target: Path) -> None:
        self._given = repository, manifest, target

    def __call__(self, device: Path | None = None, libvirts: tuple[Libvirt, ...] = HERE) -> None:
        wanted: dict[str, Any] = {
            "image_format": ImageFormat.RAW,
            "overwrite": True,
            "libvirts": lambda: libvirts,
            "places": places([f"alpha:vda={device}"], []) if device else None,
        }
        plan_capture(*self._given, **wanted)
        restore_capture(*self._given, **wanted, overwrite_devices=True)


@pytest.fixture
def run(repository: Repository, manifest: Manifest, target: Path) -> Restore:
    return Restore(repository, manifest, target)


def define(hypervisor: Hypervisor, *disks: str, name: str = "web", uuid: str = UUIDS[0]) -> Domain:
    """Define a guest in the test driver, which is off."""
    memory = "<memory>1024</memory><os><type>hvm</type></os>"
    return hypervisor.define(
        domain_xml(*disks, name=name, uuid=uuid).replace("kvm", "test").replace("<dev", f"{memory}<dev")
    )


def fake(monkeypatch: pytest.MonkeyPatch, *guests: FakeGuest | Guest) -> None:
    """Let libvirt have these running guests."""
    known = [one if isinstance(one, Guest) else Domain(one) for one in guests]
    monkeypatch.setattr(Hypervisor, "domains", lambda _: known)
    monkeypatch.setattr(Hypervisor, "domain", lambda _, uuid: next(one for one in known if one.uuid == uuid))


def fake_guest(*disks: str, name: str = "web", uuid: str = UUIDS[0]) -> FakeGuest:
    return FakeGuest(domain_xml(*disks, name=name, uuid=uuid), uuid=uuid, label=name)


@pytest.mark.parametrize("state", ["running", "paused"])
@pytest.mark.parametrize("kind", ["file", "block"])
def test_the_disk_of_a_guest_that_runs_or_is_paused_is_not_written_over(
    run: Restore, hypervisor: Hypervisor, request: pytest.FixtureRequest, kind: str, state: str
) -> None:
    place: Path = request.getfixturevalue("image" if kind == "file" else "device")
    guest = define(hypervisor, disk_xml("vdb", str(place), kind=kind))
    guest.start()
    if state == "paused":
        guest.pause()
    with pytest.raises(TargetInUseError) as refused:
        run(place if kind == "block" else None)
    assert f"{place} is in use: the running guest web" in refused.value.message
    assert "disk vdb" in refused.value.message
    assert f"`virsh -c {DRIVER} shutdown web`" in refused.value.hint
    assert place.read_bytes() == OLD
    guest.handle.destroy()
    run(place if kind == "block" else None)
    assert place.read_bytes()[: len(NEW)] == NEW


def test_a_guest_that_is_off_keeps_nobody_away(run: Restore, hypervisor: Hypervisor, image: Path) -> None:
    define(hypervisor, disk_xml("vda", str(image)))
    run()
    assert image.read_bytes() == NEW


def test_what_is_new_needs_no_libvirt(repository: Repository, manifest: Manifest, target: Path) -> None:
    restore_capture(repository, manifest, target, libvirts=lambda: pytest.fail("it was asked"))


def test_a_definition_that_is_written_over_counts_too(
    run: Restore, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    xml = target / "alpha.xml"
    xml.write_bytes(OLD)
    fake(monkeypatch, fake_guest(disk_xml("sda", str(xml))))
    with pytest.raises(TargetInUseError, match=f"{xml} is in use"):
        run()
    assert xml.read_bytes() == OLD


def test_of_two_guests_the_one_that_has_it_is_named(
    run: Restore, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").write_bytes(OLD)
    other = fake_guest(disk_xml("vda", str(tmp_path / "other")), name="other", uuid=UUIDS[1])
    fake(monkeypatch, other)
    run()
    mine = fake_guest(disk_xml("vda", str(tmp_path / "other")), disk_xml("vdc", str(image)))
    fake(monkeypatch, other, mine)
    with pytest.raises(TargetInUseError, match=r"running guest web .* disk vdc\."):
        run()


def below(path: Path) -> str:
    return f"<backingStore type='file'><format type='qcow2'/><source file='{path}'/><backingStore/></backingStore>"


def test_every_layer_and_the_mirror_of_a_disk_count(
    run: Restore, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("top", "middle"):
        (tmp_path / name).write_bytes(OLD)
    top, middle = str(tmp_path / "top"), tmp_path / "middle"
    store = f"<dataStore type='file'><format type='raw'/><source file='{image}'/></dataStore>"
    layered = (
        disk_xml("vda", top, more=below(image)),
        disk_xml("vda", top, more=below(middle).replace("<backingStore/>", below(image))),
        disk_xml(
            "vda", top, more=f"<mirror type='file' job='copy'><format type='raw'/><source file='{image}'/></mirror>"
        ),
        disk_xml("vda", top).replace(f"file='{top}'/>", f"file='{top}'>{store}</source>"),
        disk_xml("vda", str(image), more="<readonly/>"),
        disk_xml("vda", str(image)).replace("'disk'>", "'cdrom'>"),
    )
    for disk in layered:
        assert str(image) in disk
        fake(monkeypatch, fake_guest(disk))
        with pytest.raises(TargetInUseError, match="disk vda"):
            run()
    fake(monkeypatch, fake_guest(disk_xml("vda", top, more=below(middle))))
    run()


def linked(place: Path, other: Path) -> None:
    other.symlink_to(place)


def linked_hard(place: Path, other: Path) -> None:
    other.hardlink_to(place)


def node(place: Path, other: Path) -> None:
    try:
        os.mknod(other, stat.S_IFBLK | 0o600, place.stat().st_rdev)
    except PermissionError:
        pytest.skip("a device's node cannot be made here")


@pytest.mark.parametrize(
    ("kind", "alias"), [("file", linked), ("file", linked_hard), ("block", linked), ("block", node)]
)
def test_a_guest_may_know_it_by_another_name(
    run: Restore,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    alias: Callable[[Path, Path], None],
) -> None:
    place: Path = request.getfixturevalue("image" if kind == "file" else "device")
    alias(place, tmp_path / "other")
    fake(monkeypatch, fake_guest(disk_xml("vda", str(tmp_path / "other"), kind=kind)))
    with pytest.raises(TargetInUseError):
        run(place if kind == "block" else None)


def test_a_loop_device_and_its_file_are_one(
    run: Restore, device: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, fake_guest(disk_xml("vda", str(tmp_path / "behind"))))
    with pytest.raises(TargetInUseError, match=str(device)):
        run(device)
    with loop_device(image) as over:
        fake(monkeypatch, fake_guest(disk_xml("vda", str(over), kind="block")))
        with pytest.raises(TargetInUseError, match=str(image)):
            run()


@pytest.mark.parametrize(
    ("guests", "wanted", "same"),
    [
        ("sda1", "sda", True),  # a partition of the device
        ("sda", "sda1", True),
        ("sda2", "sda1", False),
        ("dm-0", "sda", True),  # stacked on a partition of it
        ("sda", "dm-0", True),
        ("dm-1", "dm-0", False),
        ("sdc", "sdb", True),  # two paths to one LUN
    ],
)
def test_devices_that_lie_on_each_other_are_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    guests: str,
    wanted: str,
    same: bool,  # noqa: FBT001
) -> None:
    kernel = Kernel(tmp_path, monkeypatch)
    monkeypatch.setattr(uses, "SYS", kernel.sys)
    kernel.add("sda", device__wwid="naa.1")
    kernel.add("sda1", part_of="sda")
    kernel.add("sda2", part_of="sda")
    kernel.add("dm-0", on=("sda2",), dm__uuid="LVM-a")
    kernel.add("dm-1", on=("sda2",), dm__uuid="LVM-b")
    kernel.add("sdb", device__wwid="naa.2")
    kernel.add("sdc", device__wwid="naa.2")
    fake(monkeypatch, fake_guest(disk_xml("vda", f"/dev/{guests}", kind="block")))
    written = {f"/dev/{wanted}": places_of(f"/dev/{wanted}", sys=kernel.sys)}
    if same:
        with pytest.raises(TargetInUseError, match=f"/dev/{wanted} is in use"):
            check_no_guest_has(written, HERE)
    else:
        check_no_guest_has(written, HERE)


def test_an_image_lies_on_the_device_below_its_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    lies = DiskUse(UUIDS[0], "web", "vda", frozenset({"file 1:2"}), frozenset(), frozenset({"device sdb"}))
    monkeypatch.setattr(uses, "disk_uses", lambda _: [lies])
    with pytest.raises(TargetInUseError, match="disk vda"):
        check_no_guest_has({"/dev/sdb": Places(frozenset({"device sdb"}))}, HERE)
    check_no_guest_has({"/dev/sdc": Places(frozenset({"device sdc"}))}, HERE)


def test_a_volume_of_a_pool_is_where_its_pool_says(run: Restore, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, in_pool(1, "images", lambda: str(image)))
    with pytest.raises(TargetInUseError, match="running guest g1 "):
        run()


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("nbd://store/disk", "name='store' port='10809'"),
        ("nbd+unix:///disk?socket={}/s", "transport='unix' socket='{}/s'"),
        ("nbd+unix:///disk?socket={}/link", "transport='unix' socket='{}/s'"),
    ],
)
def test_an_export_that_is_a_guest_s_disk_is_not_written_over(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, server: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "s")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    source = f"<source protocol='nbd' name='disk'><host {server.format(tmp_path)}/></source>"
    guest = fake_guest(f"<disk type='network' device='disk'>{source}<target dev='vda'/></disk>")
    fake(monkeypatch, guest)
    part = part_of(repository, NEW, tmp_path / "vda", ImageFormat.RAW)

    def to(export: str) -> dict[str, Places]:
        disk = replace(part, place=NbdPlace(export))
        return written_over([GuestPart(guest_capture(), tmp_path / "x.xml", (disk,))])

    with pytest.raises(TargetInUseError, match="nbd"):
        check_no_guest_has(to(uri.format(tmp_path)), HERE)
    check_no_guest_has(to(uri.format(tmp_path).replace("/disk", "/more")), HERE)


@pytest.mark.parametrize("name", ["-web", "5", "web 1", "a'b`c", "$(reboot)", "web;true", "wéb", UUIDS[5], "web-1"])
@pytest.mark.parametrize("uri", [DRIVER, "qemu+unix:///system?socket=/run/a b&mode=direct"])
def test_the_printed_command_means_that_guest(
    image: Path, monkeypatch: pytest.MonkeyPatch, name: str, uri: str
) -> None:
    fake(monkeypatch, fake_guest(disk_xml("vda", str(image)), name=name))
    with pytest.raises(TargetInUseError) as refused:
        check_no_guest_has({str(image): places_of(str(image))}, [Libvirt(uri)])
    verbs = []
    for command in refused.value.hint.split("`")[1::2]:
        *words, guest = shlex.split(command)
        verbs.append(words.pop())
        assert words == ["virsh", "-c", uri]
        assert guest == (name if name == "web-1" else UUIDS[0])
    assert verbs == ["shutdown", "resume", "destroy"]  # a crashed guest, or one in S3, follows the last alone


# libvirt that is not there, or does not tell


@contextmanager
def daemon(directory: Path, serve: Callable[[socket.socket], None] | None) -> Iterator[Libvirt]:
    """A process at libvirt's socket that treats each client so; None for one that has ended and left its socket."""
    path = directory / "libvirt-sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        if serve is not None:
            listener.listen()
            threading.Thread(target=_serve, args=(listener, serve), daemon=True).start()
        else:
            listener.close()
        yield Libvirt(f"qemu+unix:///system?{urlencode({'socket': path})}")
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    with suppress(OSError):
        while True:
            serve(listener.accept()[0])


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Comes when the test has ended."""
    event = threading.Event()
    yield event
    event.set()


def test_a_libvirt_that_hangs_may_have_any_guest(image: Path, tmp_path: Path, over: threading.Event) -> None:
    def hang(client: socket.socket) -> None:
        over.wait()
        client.close()

    written = {str(image): places_of(str(image))}
    with daemon(tmp_path, hang) as broken, pytest.raises(GuestsUnknownError) as refused:
        check_no_guest_has(written, [broken], patience_s=0.2)
    assert f"Whether a running guest has {image} as its disk cannot be told: " in refused.value.message
    assert "has not ended within 0.2 s" in refused.value.message
    assert "--no-guest-check" in refused.value.hint


def test_a_libvirt_that_fails_may_have_any_guest(run: Restore, image: Path, tmp_path: Path) -> None:
    with (
        daemon(tmp_path, socket.socket.close) as broken,
        pytest.raises(GuestsUnknownError, match="Connecting to libvirt"),
    ):
        run(libvirts=(broken,))
    assert image.read_bytes() == OLD


def test_a_guest_whose_definition_cannot_be_read_may_have_it(
    run: Restore, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, FakeGuest("<domain", uuid=UUIDS[0]))
    with pytest.raises(GuestsUnknownError, match="not well-formed"):
        run()
    assert image.read_bytes() == OLD


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (libvirt.VIR_ERR_SYSTEM_ERROR, errno.EACCES),  # a socket that is not this user's
        (libvirt.VIR_ERR_SYSTEM_ERROR, errno.EMFILE),
        (libvirt.VIR_ERR_AUTH_UNAVAILABLE, 0),
        (libvirt.VIR_ERR_INTERNAL_ERROR, errno.ENOENT),  # no errno
    ],
)
def test_a_libvirt_that_refuses_this_user_is_there(
    run: Restore, image: Path, monkeypatch: pytest.MonkeyPatch, code: int, number: int
) -> None:
    error = libvirt_error(code, "Permission denied")
    error.err = (code, libvirt.VIR_FROM_RPC, "Permission denied", 2, "", None, None, number, -1)

    def refuse(uri: str) -> NoReturn:
        assert uri == "qemu:///system"
        raise error

    monkeypatch.setattr(libvirt, "open", refuse)
    with pytest.raises(GuestsUnknownError, match="Permission denied") as refused:
        run(libvirts=(Libvirt("qemu:///system"),))
    assert "Run this as root" in refused.value.hint
    assert "restart libvirtd" in refused.value.hint
    assert image.read_bytes() == OLD


@pytest.mark.parametrize("left", ["nothing", "socket"])
def test_where_no_daemon_listens_there_is_none(run: Restore, image: Path, tmp_path: Path, left: str) -> None:
    if left == "nothing":
        run(libvirts=(Libvirt(f"qemu+unix:///system?socket={tmp_path}/none"),))
    else:
        with daemon(tmp_path, None) as broken:
            run(libvirts=(broken,))
    assert image.read_bytes() == NEW


#: The test driver has a guest with a disk in a file that is not there: asked, it leaves doubt.
ASK = """
import sys
sys.modules |= dict.fromkeys(sys.argv[1:])
from workers.identity.places import Places
from workers.restore.command import restore
from workers.restore.errors import GuestsUnknownError
from workers.restore.running_guests import Libvirt, check_no_guest_has
try:
    check_no_guest_has({"/there": Places()}, [Libvirt("test:///default")])
except GuestsUnknownError:
    print("it was asked")
"""


@pytest.mark.parametrize("missing", [[], ["libvirt", "libvirt_qemu"], ["libvirtmod"], ["lxml"]])
def test_without_the_package_there_is_none(missing: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", ASK, *missing], capture_output=True, text=True, check=True)
    assert done.stdout == ("" if missing else "it was asked\n")


def test_a_module_of_ours_that_is_missing_is_a_defect(
    run: Restore, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "workers.identity.uses", None)
    with pytest.raises(ImportError):
        run()
    assert image.read_bytes() == OLD


def test_the_second_libvirt_is_asked_where_the_first_is_none(
    run: Restore, hypervisor: Hypervisor, image: Path, tmp_path: Path
) -> None:
    define(hypervisor, disk_xml("vda", str(image))).start()
    none = Libvirt(f"qemu+unix:///system?socket={tmp_path}/none")
    with pytest.raises(TargetInUseError):
        run(libvirts=(none, *HERE))


@pytest.mark.parametrize("way", ["file", "pool"])
def test_storage_that_this_host_does_not_find_may_be_any_unless_descriptors_told(
    run: Restore, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """As of a guest of a libvirt in a container, whose paths are the container's."""

    def no_pool() -> NoReturn:
        raise FreezeframeError("The pool is not started.")

    guest = in_file(1, f"{tmp_path}/elsewhere") if way == "file" else in_pool(1, "images", no_pool)
    fake(monkeypatch, guest)
    with pytest.raises(GuestsUnknownError, match="disk vda of guest g1: ") as refused:
        run(libvirts=(Libvirt(DRIVER, tmp_path),))
    assert "shut that guest down" in refused.value.hint
    assert "--no-guest-check" in refused.value.hint
    assert "restart" not in refused.value.hint  # libvirt has answered
    assert image.read_bytes() == OLD
    (tmp_path / "its").write_bytes(OLD)
    with qemu(tmp_path, guest, f"r+{tmp_path}/its"):
        run(libvirts=(Libvirt(DRIVER, tmp_path),))
    assert image.read_bytes() == NEW


@pytest.mark.parametrize(
    ("connect", "asked"),
    [
        (None, ["qemu:///system"]),
        ("qemu:///system", ["qemu:///system"]),
        ("qemu:///session", ["qemu:///system", "qemu:///session"]),
        ("qemu+unix:///system?socket=/s", ["qemu:///system", "qemu+unix:///system?socket=/s"]),
        ("qemu+ssh://root@other/system", ["qemu:///system"]),
    ],
)
def test_every_libvirt_of_this_host_is_asked_and_no_other(
    monkeypatch: pytest.MonkeyPatch, connect: str | None, asked: list[str]
) -> None:
    monkeypatch.delenv("FREEZEFRAME_LIBVIRT_URI", raising=False)
    assert [one.uri for one in libvirts_here(connect)] == asked


@pytest.mark.parametrize("name", ["(none)", "rescue_1", ""])
def test_a_machine_whose_name_is_no_host_s_can_restore(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Nor is DNS asked for it, which may be away."""
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    monkeypatch.setattr(socket, "gethostbyaddr", lambda _: pytest.fail("DNS was asked"))
    monkeypatch.setenv("FREEZEFRAME_LIBVIRT_URI", DRIVER)
    monkeypatch.delenv("FREEZEFRAME_HOST_ID", raising=False)
    assert [one.uri for one in libvirts_here(None)] == [DRIVER]


def test_the_command_asks_the_libvirt_of_the_settings_unless_told_not_to(
    repository: Repository,
    manifest: Manifest,
    root: Path,
    hypervisor: Hypervisor,
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FREEZEFRAME_LIBVIRT_URI", DRIVER)
    repository.write_manifest(manifest)
    define(hypervisor, disk_xml("vda", str(image))).start()
    app = typer.Typer()
    app.command()(restore)
    words = ["latest", "--repository", str(root), "--to", str(image.parent), "--format", "raw", "--overwrite"]
    call = partial(CliRunner().invoke, app, catch_exceptions=False)
    for more in ([], ["--dry-run"]):
        with pytest.raises(TargetInUseError, match="running guest web "):
            call([*words, *more])
    assert image.read_bytes() == OLD
    assert call([*words, "--no-guest-check"]).exit_code == 0
    assert image.read_bytes() == NEW
