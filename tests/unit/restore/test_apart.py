"""Two disks never go to one place, whichever names lead to it: one of them would be lost, and told as restored."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from freezeframe.repository import Manifest, Repository
from tests.unit.kernel import Kernel
from workers.restore.apart import SamePlaceError, check_apart, export_keys
from workers.restore.capture import plan_capture, restore_capture
from workers.restore.disk import DiskPart
from workers.restore.errors import DeviceUnfitError
from workers.restore.image import ImageFormat
from workers.restore.place import BlockDevicePlace, NbdPlace, Place, places

from .samples import CHUNK, disk_capture, guest_capture, manifest_of, noise
from .test_places import loop_device

BLANK = bytes(4 * CHUNK)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "repository", chunk_bytes=CHUNK)


@pytest.fixture
def manifest(repository: Repository) -> Manifest:
    targets = ("vda", "vdb", "vdc")
    disks = (disk_capture(repository, noise(2 * CHUNK, seed), target) for seed, target in enumerate(targets))
    return manifest_of(guest_capture(*disks))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "behind"
    file.write_bytes(BLANK)
    with loop_device(file) as found:
        yield found


def link(device: Path, path: Path) -> None:
    path.symlink_to(device)


def node(device: Path, path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFBLK | 0o600, device.stat().st_rdev)
    except PermissionError:
        pytest.skip("a device's node cannot be made here")


def linked_directory(device: Path, path: Path) -> None:
    path.parent.joinpath("by").symlink_to(device.parent)
    path.symlink_to(Path("by") / device.name)


@pytest.mark.parametrize("alias", [link, node, linked_directory])
def test_a_device_under_two_names_is_refused_before_anything_is_written(
    repository: Repository, manifest: Manifest, tmp_path: Path, device: Path, alias: Callable[[Path, Path], None]
) -> None:
    other = tmp_path / "wwn-0x5000"  # as in /dev/disk/by-id, or /dev/mapper/vg-lv for /dev/vg/lv
    alias(device, other)
    wanted = places([f"alpha:vda={device}", f"alpha:vdc={other}"], [])
    with pytest.raises(SamePlaceError) as planned:
        plan_capture(repository, manifest, tmp_path / "out", places=wanted)
    with pytest.raises(SamePlaceError) as refused:
        restore_capture(repository, manifest, tmp_path / "out", places=wanted, overwrite_devices=True)
    assert planned.value.message == refused.value.message
    assert all(word in refused.value.message for word in ("Disk vda", "disk vdc", str(device), str(other)))
    assert device.read_bytes() == BLANK
    assert not (tmp_path / "out").exists()


def test_two_loop_devices_over_one_file_are_one_place(tmp_path: Path, device: Path) -> None:
    (tmp_path / "linked").hardlink_to(tmp_path / "behind")
    with loop_device(tmp_path / "linked") as second, pytest.raises(SamePlaceError):
        check_apart([part("vda", BlockDevicePlace(device)), part("vdb", BlockDevicePlace(second))])


def test_two_loop_devices_over_two_files_are_two_places(tmp_path: Path, device: Path) -> None:
    (tmp_path / "other").write_bytes(BLANK)
    with loop_device(tmp_path / "other") as second:
        check_apart([part("vda", BlockDevicePlace(device)), part("vdb", BlockDevicePlace(second))])


def test_the_file_behind_a_device_is_no_second_disk(tmp_path: Path, device: Path) -> None:
    with pytest.raises(SamePlaceError, match="behind"):
        check_apart([part("vda", BlockDevicePlace(device)), part("vdb", None, tmp_path / "behind")])


def part(target: str, place: Place | None, path: Path = Path("/none/disk")) -> DiskPart:
    return DiskPart("01HZ0000000000000000000001", "alpha", target, "", path, ImageFormat.RAW, place)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("sda", "sda", True),
        ("sda", "sda1", True),  # a disk and its partition
        ("sda1", "sda2", False),
        ("sda2", "dm-0", True),  # a partition and a volume on it
        ("sda", "dm-0", True),
        ("sda1", "dm-0", False),
        ("dm-0", "dm-1", False),  # two volumes of one group
        ("sdb", "sdc", True),  # two paths to one LUN
        ("sdb", "sda", False),
    ],
)
def test_devices_that_lie_on_each_other_are_one_place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    one: str,
    other: str,
    same: bool,  # noqa: FBT001
) -> None:
    kernel = Kernel(tmp_path, monkeypatch)
    kernel.add("sda", device__wwid="naa.1")
    kernel.add("sda1", part_of="sda")
    kernel.add("sda2", part_of="sda")
    kernel.add("dm-0", on=("sda2",), dm__uuid="LVM-a")
    kernel.add("dm-1", on=("sda2",), dm__uuid="LVM-b")
    kernel.add("sdb", device__wwid="naa.2")
    kernel.add("sdc", device__wwid="naa.2")
    disks = [part("vda", BlockDevicePlace(Path(f"/dev/{one}"))), part("vdb", BlockDevicePlace(Path(f"/dev/{other}")))]
    if same:
        with pytest.raises(SamePlaceError, match=f"/dev/{one}.*/dev/{other}"):
            check_apart(disks, kernel.sys)
    else:
        check_apart(disks, kernel.sys)


HERE = "127.0.0.1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("nbd://store/n", "nbd://STORE:10809/n", True),
        ("nbd://store/n", "nbds://someone@store/n?tls-type=x509", True),
        ("nbd://store/a%2fb", "nbd://store/a/b", True),
        ("nbd://store", "nbd://store/", True),
        ("nbd://store/n", "nbd://store./n", True),
        ("nbd://[2001:db8::1]/n", "nbd://[2001:DB8:0::1]:10809/n", True),
        ("nbd://127.0.0.1/n", "nbd://localhost/n", True),
        ("nbd:///n", "nbd://localhost/n", True),
        ("nbd://store/n", "nbd://192.0.2.7/n", True),  # what the name means
        ("nbd://store/n", "nbd://mirror/n", True),  # two names of one address
        ("nbd://own/n", "nbd://localhost/n", True),
        ("nbd://store/n", "nbd://store:10810/n", False),
        ("nbd://store/n", "nbd://store/N", False),
        ("nbd://store/n", "nbd://store//n", False),
        ("nbd://store/n", "nbd://other/n", False),
        ("nbd://store:no/n", "nbd://store:no/n", True),
        ("nbd://[store/n", "nbd://store/n", False),
        ("nbd+unix:///n?socket=/none/a+b", "nbd+unix:///n?socket=/none/a b", False),
    ],
)
def test_exports_are_compared_by_what_their_uris_mean(
    monkeypatch: pytest.MonkeyPatch,
    one: str,
    other: str,
    same: bool,  # noqa: FBT001
) -> None:
    known = {"store": "192.0.2.7", "mirror": "192.0.2.7", "own": "127.0.1.1", "other": "192.0.2.8", "localhost": HERE}

    def look_up(host: str, port: int, **how: object) -> list[tuple[object, ...]]:
        assert how == {"type": socket.SOCK_STREAM}
        address = known.get(host.rstrip(".").lower(), host)
        if ":" in address:
            return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert bool(export_keys(one) & export_keys(other)) is same
    disks = [part("vda", NbdPlace(one)), part("vdb", NbdPlace(other))]
    if same:
        with pytest.raises(SamePlaceError):
            check_apart(disks)
    else:
        check_apart(disks)


@pytest.mark.parametrize("alias", ["link", "linked directory", "hard link", "escaped", "dots", "tls"])
def test_sockets_are_compared_by_what_they_are(tmp_path: Path, alias: str) -> None:
    path = tmp_path / "a b"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        (tmp_path / "link").symlink_to(path)
        (tmp_path / "directory").symlink_to(tmp_path)
        (tmp_path / "second").hardlink_to(path)
        others = {
            "link": f"nbd+unix:///n?socket={tmp_path}/link",
            "linked directory": f"nbd+unix:///n?socket={tmp_path}/directory/a b",
            "hard link": f"nbd+unix:///n?socket={tmp_path}/second",
            "escaped": f"nbd+unix:///%6e?socket={tmp_path}/a%20b",
            "dots": f"nbd+unix:///n?socket={tmp_path}/directory/../{tmp_path.name}/a b",
            "tls": f"nbds+unix:///n?tls-type=psk&socket={tmp_path}/a b",
        }
        assert export_keys(f"nbd+unix:///n?socket={path}") & export_keys(others[alias])
        assert not export_keys(f"nbd+unix:///n?socket={path}") & export_keys(others[alias].replace("///", "///x"))


def test_a_server_whose_name_means_nothing_is_left_to_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(_host: str, _port: int, **_how: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    check_apart([part("vda", NbdPlace("nbd://none/a")), part("vdb", NbdPlace("nbd://none/b"))])


@pytest.mark.parametrize("second", ["b:vdb=/dev/x", "a:vda=/dev/y"])
def test_what_is_named_twice_in_one_spelling_is_told_with_both_disks(second: str) -> None:
    with pytest.raises(DeviceUnfitError, match=second) as refused:
        places(["a:vda=/dev/x", second], [])
    assert "a:vda" in refused.value.message
