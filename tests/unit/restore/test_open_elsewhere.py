"""Whose disk a device or a file is, looked at through mount namespaces, partitions and what is stacked upon it."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workers.restore import block_device
from workers.restore.errors import TargetInUseError
from workers.restore.open_elsewhere import User, related, user_of
from workers.restore.partial import PartialFile

pytestmark = pytest.mark.case("G1")

SIZE = 8 << 20

#: A node of its own in a /dev of its own, as libvirt makes for each QEMU; then the process says so and waits.
OWN_NODE = """
import os, sys, subprocess
number, flags, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if place:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "none", place], check=True)
    node = f"{place}/node"
    os.mknod(node, 0o600 | 0o060000, number)
else:
    node = f"/proc/self/fd/{sys.argv[4]}"
held = os.open(node, flags)
print("open", flush=True)
sys.stdin.read()
"""

#: A file open for writing, without a lock; then the process says so and waits.
HOLD_OPEN = "import sys; file = open(sys.argv[1], 'rb+'); print('open', flush=True); sys.stdin.read()"


@contextmanager
def opened_apart(
    device: Path, place: Path, flags: int = os.O_RDWR, python: str = sys.executable
) -> Iterator[subprocess.Popen[str]]:
    """A process in a mount namespace of its own that has the device open there, and nowhere else."""
    number = str(device.stat().st_rdev)
    command = ["unshare", "--mount", "--propagation", "private", python, "-c", OWN_NODE, number, str(flags), str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.communicate("")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    with looped(tmp_path / "disk") as made:
        yield made


@contextmanager
def looped(file: Path, *options: str) -> Iterator[Path]:
    if not file.exists():
        file.write_bytes(bytes(SIZE))
    command = ["losetup", "--find", "--show", *options, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("a loop device cannot be had here")
    try:
        yield Path(done.stdout.strip())
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "dev"
    made.mkdir()
    return made


def test_a_device_that_is_open_through_another_node_in_another_namespace_is_not_written(
    device: Path, place: Path
) -> None:
    with opened_apart(device, place) as process:
        assert not (place / "node").exists()
        with (
            pytest.raises(TargetInUseError, match=f"in use by process {process.pid} "),
            block_device.claimed(device, 512),
        ):
            pass
    with block_device.claimed(device, 512):
        pass


def test_one_who_only_looks_keeps_nobody_away(device: Path, place: Path) -> None:
    """Udev reads a new device's first blocks whenever it likes."""
    with opened_apart(device, place, os.O_RDONLY), block_device.claimed(device, 512):
        pass


def test_a_qemu_that_only_reads_is_a_guest(device: Path, place: Path, tmp_path: Path) -> None:
    named = tmp_path / "qemu-system-x86_64"
    shutil.copy(Path(sys.executable).resolve(), named)
    with opened_apart(device, place, os.O_RDONLY, str(named)) as process:
        found = user_of(device.stat())
        assert found is not None
        assert (found.pid, found.name) == (process.pid, "qemu-system-x86")


def test_we_ourselves_are_nobody_else(device: Path) -> None:
    with device.open("rb+") as file:
        assert user_of(os.fstat(file.fileno())) is None


@pytest.mark.parametrize("target", ["disk", "partition"])
def test_a_partition_and_its_disk_are_one(tmp_path: Path, place: Path, target: str) -> None:
    """Either is the guest's while the other is written over."""
    file = tmp_path / "parted"
    entry = struct.pack("<B3sB3sII", 0, bytes(3), 0x83, bytes(3), 2048, 2048)  # type 83, from sector 2048, as long
    table = bytes(446) + entry.ljust(64, b"\0") + b"\x55\xaa"
    file.write_bytes(table.ljust(SIZE, b"\0"))
    with looped(file, "--partscan") as disk:
        folder = Path(f"/sys/dev/block/{os.major(disk.stat().st_rdev)}:{os.minor(disk.stat().st_rdev)}")
        numbers = [one.read_text().strip().split(":") for one in folder.glob(f"{disk.name}p1/dev")]
        if not numbers:
            pytest.skip("this kernel shows no partitions of loop devices")
        node = tmp_path / "partition"
        os.mknod(node, 0o600 | 0o060000, os.makedev(int(numbers[0][0]), int(numbers[0][1])))
        wanted, used = (disk, node) if target == "disk" else (node, disk)
        with opened_apart(used, place) as process:
            found = user_of(wanted.stat())
        assert found is not None
        assert found.pid == process.pid


def test_what_is_stacked_upon_a_device_is_followed_to_its_top(tmp_path: Path) -> None:
    """Sda ◀ sda1 ◀ dm-0 ◀ dm-1, as sysfs shows it."""
    devices, block = tmp_path / "dev", tmp_path / "block"
    devices.mkdir()
    disk = block / "sda"
    for folder, number in ((disk, "8:0"), (disk / "sda1", "8:1"), (block / "dm-0", "253:0"), (block / "dm-1", "253:1")):
        (folder / "holders").mkdir(parents=True)
        (folder / "dev").write_text(f"{number}\n")
        (devices / number).symlink_to(folder)
    (disk / "sda1" / "partition").write_text("1\n")
    (disk / "sda1" / "holders" / "dm-0").symlink_to(block / "dm-0")
    (block / "dm-0" / "holders" / "dm-1").symlink_to(block / "dm-1")
    whole = {os.makedev(*number) for number in ((8, 0), (8, 1), (253, 0), (253, 1))}
    assert related(os.makedev(8, 0), devices) == whole
    assert related(os.makedev(8, 1), devices) == whole
    assert related(os.makedev(253, 1), devices) == {os.makedev(253, 1)}  # a multipath daemon has the paths below open


def test_a_file_that_a_guest_has_open_without_a_lock_is_not_replaced(tmp_path: Path) -> None:
    """QEMU's locks can be switched off (`locking=off`), and not every file system has them."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(512))
    command = [sys.executable, "-c", HOLD_OPEN, str(disk)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        found = user_of(disk.stat())
        with pytest.raises(TargetInUseError), PartialFile(disk, overwrite=True):
            pass
        process.communicate("")
    assert found == User(process.pid, found.name if found else "")


def test_no_server_of_a_file_that_another_process_has_open_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is away, of any file on NFS, would keep every restore waiting."""
    looked = os.stat

    def asking(path: str | Path, **how: bool) -> os.stat_result:
        assert "/fd/" not in str(path)
        return looked(path, **how)

    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(512))
    command = [sys.executable, "-c", HOLD_OPEN, str(disk)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        wanted = disk.stat()
        monkeypatch.setattr(os, "stat", asking)
        found = user_of(wanted)
        monkeypatch.undo()
        process.communicate("")
    assert found is not None
    assert found.pid == process.pid


def test_processes_that_cannot_be_looked_at_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "17").mkdir()
    (tmp_path / "self").mkdir()
    assert user_of(tmp_path.stat(), proc=tmp_path) is None
