"""Disks onto block devices and NBD exports: every byte written over, nothing beyond the disk, nothing that is in use."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbd
import pytest

from freezeframe.repository import Manifest, Repository
from ops.qemu_nbd import serving
from workers.restore import block_device, descriptor, nbd_export
from workers.restore.capture import plan_capture, restore_capture
from workers.restore.disk import DiskPart, restore_disk
from workers.restore.errors import (
    DeviceNotConfirmedError,
    DeviceTooSmallError,
    DeviceUnfitError,
    NotInCaptureError,
    TargetInUseError,
)
from workers.restore.image import ImageFormat
from workers.restore.place import BlockDevicePlace, NbdPlace, Place, places

from .dying import interrupted, killed_at
from .samples import CHUNK, disk_bytes, disk_capture, guest_capture, manifest_of, noise, store

#: Chunks, holes, a chunk with holes in it, an odd end.
DISK = disk_bytes(
    24 * CHUNK + 1536, (0, 4 * CHUNK), (6 * CHUNK + 70_000, 3 * CHUNK), (12 * CHUNK, 9 * CHUNK), (24 * CHUNK, 600)
)
BEYOND = 1 << 20
GARBAGE = noise(len(DISK) + BEYOND, seed=5)


class Told:
    """A connection that tells of what it does to the export."""

    def __init__(self, handle: Any, told: list[str]) -> None:
        self._handle = handle
        self._told = told

    def __getattr__(self, name: str) -> Any:
        if name in {"pwrite", "zero", "flush"}:
            self._told.append(name)
        return getattr(self._handle, name)


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    done = subprocess.run(["losetup", "--find", "--show", file], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("a loop device cannot be had here")
    try:
        yield Path(done.stdout.strip())
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


@contextmanager
def nbd_server(file: Path, *options: str) -> Iterator[str]:
    """qemu-nbd on a socket; its URI."""
    socket = file.with_suffix(".socket")
    usual = ["--persistent", "--format=raw", "--shared=16", "--export-name=disk"]
    with serving(socket, file, [*usual, *options]):
        yield f"nbd+unix:///disk?socket={socket}"


@pytest.fixture(params=["device", "export"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Place, Path]]:
    """A place full of garbage, larger than the disk; and the file behind it."""
    file = tmp_path / "behind"
    file.write_bytes(GARBAGE)
    if request.param == "device":
        with loop_device(file) as device:
            yield BlockDevicePlace(device), file
    else:
        with nbd_server(file) as uri:
            yield NbdPlace(uri), file


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """One for all: a repository is not changed by what is done here, and its folders are many."""
    return Repository.init(tmp_path_factory.mktemp("all") / "repository", chunk_bytes=CHUNK)


def part_to(repository: Repository, target: Path, place: Place, disk: bytes = DISK) -> DiskPart:
    index = store(repository, disk)
    return DiskPart("01HZ0000000000000000000001", "alpha", "vda", index, target / "alpha-vda", ImageFormat.RAW, place)


def content(place: Place, file: Path) -> bytes:
    return (place.path if isinstance(place, BlockDevicePlace) else file).read_bytes()


def test_every_byte_is_the_disks_and_none_beyond_it_is_touched(
    repository: Repository, target: Path, made: tuple[Place, Path]
) -> None:
    place, file = made
    done = restore_disk(repository, part_to(repository, target, place))
    assert content(place, file) == DISK + GARBAGE[len(DISK) :]
    assert done.place == str(place)
    assert list(target.iterdir()) == []


def test_a_device_is_synced_after_the_last_write(
    repository: Repository, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    real_pwrite, real_fsync = os.pwrite, os.fsync

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        told.append(f"write {stat.S_ISBLK(os.fstat(fd).st_mode)}")
        return real_pwrite(fd, data, offset)

    def fsync(fd: int) -> None:
        real_fsync(fd)
        told.append(f"sync {stat.S_ISBLK(os.fstat(fd).st_mode)}")

    file = tmp_path / "behind"
    file.write_bytes(GARBAGE)
    with loop_device(file) as device:
        part = part_to(repository, target, BlockDevicePlace(device))
        monkeypatch.setattr(os, "pwrite", pwrite)
        monkeypatch.setattr(os, "fsync", fsync)
        restore_disk(repository, part)
        assert file.read_bytes() == DISK + GARBAGE[len(DISK) :]
    assert [one for one in told if one.endswith("True")][-1] == "sync True"


def test_an_export_is_flushed_after_the_last_write(
    repository: Repository, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    real = nbd.NBD
    file = tmp_path / "behind"
    file.write_bytes(GARBAGE)
    with nbd_server(file) as uri:
        part = part_to(repository, target, NbdPlace(uri))
        monkeypatch.setattr(nbd, "NBD", lambda: Told(real(), told))
        restore_disk(repository, part)
    assert {"pwrite", "zero"} < set(told)
    assert told[-1] == "flush"


def test_zeros_take_no_room_where_the_device_can_leave_them_out(
    repository: Repository, target: Path, tmp_path: Path
) -> None:
    file = tmp_path / "behind"
    disk = disk_bytes(64 << 20, (0, CHUNK))
    with file.open("wb") as out:
        for _ in range(64):
            out.write(noise(1 << 20))
    with loop_device(file) as device:
        restore_disk(repository, part_to(repository, target, BlockDevicePlace(device), disk))
        assert file.read_bytes() == disk
    assert file.stat().st_blocks * 512 < 4 << 20


@pytest.mark.parametrize("lacking", ["punch", "both"])
def test_zeros_are_written_where_the_device_knows_no_better(
    repository: Repository, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    monkeypatch.setattr(descriptor, "_WAYS", descriptor._WAYS[1:] if lacking == "punch" else ())
    file = tmp_path / "behind"
    file.write_bytes(GARBAGE)
    with loop_device(file) as device:
        restore_disk(repository, part_to(repository, target, BlockDevicePlace(device)))
        assert device.read_bytes() == DISK + GARBAGE[len(DISK) :]


def test_zeros_are_written_to_a_server_that_knows_no_better(repository: Repository) -> None:
    sent: list[tuple[int, bytes]] = []
    handle = SimpleNamespace(
        can_zero=lambda: False,
        can_fast_zero=lambda: False,
        get_block_size=lambda _which: 4096,
        pwrite=lambda data, offset: sent.append((offset, bytes(data))),
    )
    lane = nbd_export._NbdLane("nbd://x", handle)
    lane.zero(10 << 20, (3 << 20) + 512)
    assert b"".join(data for _, data in sent) == bytes((3 << 20) + 512)
    assert sent[0][0] == 10 << 20
    assert max(len(data) for _, data in sent) == 4096  # no more than the server takes at once


def test_a_server_that_cannot_zero_fast_is_asked_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class NotFastError(Exception):
        errnum = 95
        string = "not supported"

    def zero(_length: int, _offset: int, flags: int = 0) -> None:
        asked.append(flags)
        if flags:
            raise NotFastError

    monkeypatch.setattr(nbd, "Error", NotFastError)
    handle = SimpleNamespace(
        can_zero=lambda: True, can_fast_zero=lambda: True, get_block_size=lambda _which: 0, zero=zero
    )
    lane = nbd_export._NbdLane("nbd://x", handle)
    lane.zero(0, 1 << 20)
    lane.zero(0, 1 << 20)
    assert asked == [nbd.CMD_FLAG_FAST_ZERO, 0, 0]


def test_one_that_is_smaller_is_refused(repository: Repository, target: Path, made: tuple[Place, Path]) -> None:
    place, file = made
    disk = noise(len(GARBAGE) + 512)
    with pytest.raises(DeviceTooSmallError, match=str(len(disk))):
        restore_disk(repository, part_to(repository, target, place, disk))
    assert content(place, file) == GARBAGE


def test_a_device_that_is_mounted_is_refused(repository: Repository, target: Path, tmp_path: Path) -> None:
    file = tmp_path / "behind"
    file.touch()
    os.truncate(file, 32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", file], check=True)
    before = file.read_bytes()
    with loop_device(file) as device:
        part = part_to(repository, target, BlockDevicePlace(device))
        place = tmp_path / "mounted"
        place.mkdir()
        if subprocess.run(["mount", "-o", "ro", device, place], check=False).returncode:
            pytest.skip("nothing can be mounted here")
        try:
            with pytest.raises(TargetInUseError, match=str(device)):
                restore_disk(repository, part)
        finally:
            subprocess.run(["umount", place], check=True)
        assert file.read_bytes() == before


def test_a_device_that_another_restore_has_is_refused(repository: Repository, target: Path, tmp_path: Path) -> None:
    file = tmp_path / "behind"
    file.write_bytes(GARBAGE)
    with loop_device(file) as device, block_device.claimed(device, 512), pytest.raises(TargetInUseError):
        restore_disk(repository, part_to(repository, target, BlockDevicePlace(device)))


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/dev/null"), lambda _: None])
def test_what_is_no_block_device_is_refused(
    repository: Repository, target: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "device"
    make(path)
    with pytest.raises(DeviceUnfitError, match=str(path)):
        restore_disk(repository, part_to(repository, target, BlockDevicePlace(path)))


def test_a_server_that_lets_nobody_write_is_refused(repository: Repository, target: Path, tmp_path: Path) -> None:
    file = tmp_path / "behind"
    file.write_bytes(GARBAGE)
    with nbd_server(file, "--read-only") as uri, pytest.raises(DeviceUnfitError, match="nobody write"):
        restore_disk(repository, part_to(repository, target, NbdPlace(uri)))


def test_no_server_is_told(repository: Repository, target: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceUnfitError, match="Connecting"):
        restore_disk(repository, part_to(repository, target, NbdPlace(f"nbd+unix:///?socket={tmp_path}/none")))


@pytest.mark.parametrize("step", [3, 12, 20, 27, 33])
def test_killed_it_goes_on_to_the_very_disk(
    repository: Repository, target: Path, made: tuple[Place, Path], step: int
) -> None:
    place, file = made
    part = part_to(repository, target, place)
    killed_at(step, lambda: restore_disk(repository, part, mark_bytes=CHUNK))
    mark = part.progress.seen(part.index)
    done = restore_disk(repository, part, mark_bytes=CHUNK)
    assert done.resumed_bytes == mark
    assert content(place, file) == DISK + GARBAGE[len(DISK) :]
    assert list(target.iterdir()) == []


def test_progress_of_another_capture_is_gone_before_the_device_is_written(
    repository: Repository, target: Path, made: tuple[Place, Path]
) -> None:
    """Else, of three restores that were interrupted, the third would trust what the second had written over."""
    place, file = made
    first, second = part_to(repository, target, place), part_to(repository, target, place, noise(len(DISK), seed=3))
    assert interrupted(repository, first, CHUNK)
    before = content(place, file)
    for step in range(30):
        killed_at(step, lambda: restore_disk(repository, second, mark_bytes=CHUNK))
        if content(place, file) != before:
            break
    assert not first.progress.seen(first.index)
    assert restore_disk(repository, first, trust=True).resumed_bytes == 0
    assert content(place, file)[: len(DISK)] == DISK


@pytest.fixture
def manifest(repository: Repository) -> Manifest:
    disks = disk_capture(repository, DISK), disk_capture(repository, noise(2 * CHUNK), "vdb")
    return manifest_of(guest_capture(*disks))


def test_one_disk_goes_to_its_place_and_the_others_to_files(
    repository: Repository, manifest: Manifest, target: Path, made: tuple[Place, Path]
) -> None:
    place, file = made
    wanted = {("alpha", "vda"): place}
    with pytest.raises(DeviceNotConfirmedError, match=str(place).replace("?", r"\?").replace("+", r"\+")):
        restore_capture(repository, manifest, target, places=wanted)
    assert content(place, file) == GARBAGE
    planned = plan_capture(repository, manifest, target, places=wanted)
    assert [disk.overwritten for disk in planned.disks] == [True, False]
    assert list(target.iterdir()) == []
    report = restore_capture(repository, manifest, target, places=wanted, overwrite_devices=True)
    assert content(place, file)[: len(DISK)] == DISK
    assert {path.name for path in target.iterdir()} == {"alpha-vdb.qcow2", "alpha.xml"}
    assert report.guests[0].disks[0].path is None
    assert report.guests[0].disks[1].path == target / "alpha-vdb.qcow2"


def test_a_disk_that_is_not_restored_has_no_place(repository: Repository, manifest: Manifest, target: Path) -> None:
    wanted: dict[tuple[str, str], Place] = {("alpha", "vdz"): BlockDevicePlace(Path("/dev/none"))}
    with pytest.raises(NotInCaptureError, match="vdz"):
        restore_capture(repository, manifest, target, places=wanted, overwrite_devices=True)


def test_a_place_that_is_unfit_is_known_before_anything_is_written(
    repository: Repository, manifest: Manifest, target: Path
) -> None:
    wanted: dict[tuple[str, str], Place] = {("alpha", "vda"): BlockDevicePlace(Path("/dev/null"))}
    with pytest.raises(DeviceUnfitError):
        restore_capture(repository, manifest, target, places=wanted, overwrite_devices=True)
    assert list(target.iterdir()) == []


def test_how_places_are_named() -> None:
    found = places(["a:vda=/dev/x", "b:c:vdb=/dev/y=z"], ["a:vdb=nbd://h/n", "a:vdc=nbd+unix:///n?socket=/a:vda=/b"])
    assert found == {
        ("a", "vda"): BlockDevicePlace(Path("/dev/x")),
        ("b:c", "vdb"): BlockDevicePlace(Path("/dev/y=z")),
        ("a", "vdb"): NbdPlace("nbd://h/n"),
        ("a", "vdc"): NbdPlace("nbd+unix:///n?socket=/a:vda=/b"),
    }


@pytest.mark.parametrize(
    ("devices", "exports"),
    [
        (["vda=/dev/x"], []),
        (["a:vda"], []),
        (["a:vda=dev/x"], []),
        (["a:vda=nbd://h/n"], []),
        ([], ["a:vda=/dev/x"]),
        ([], ["a:vda=http://h/n"]),
        (["a:vda=/dev/x", "a:vda=/dev/y"], []),
        (["a:vda=/dev/x", "a:vdb=/dev/x"], []),
    ],
)
def test_what_names_no_place_is_refused(devices: list[str], exports: list[str]) -> None:
    with pytest.raises(DeviceUnfitError):
        places(devices, exports)
