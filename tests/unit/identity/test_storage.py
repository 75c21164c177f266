"""The facts of files, and of devices in a made-up /sys."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from workers.identity import file_handle as file_handles
from workers.identity import storage
from workers.identity.file_handle import file_handle
from workers.identity.statx import Born
from workers.identity.storage import device_facts, layer_of


def test_a_file_is_the_same_by_every_name_and_after_every_write(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    image.write_bytes(b"1")
    (tmp_path / "link").symlink_to(image)
    before = layer_of(str(image))
    image.write_bytes(b"2")
    assert layer_of(str(tmp_path / "link")) == before
    assert before.kind == "file"
    assert {"path", "inode", "birth time"} == set(before.facts)


def test_a_file_that_was_replaced_under_its_name_is_another(tmp_path: Path) -> None:
    image, copy = tmp_path / "a.qcow2", tmp_path / "new"
    image.write_bytes(b"1")
    before = layer_of(str(image))
    shutil.copy2(image, copy)
    copy.replace(image)
    assert layer_of(str(image)).facts != before.facts


def test_a_file_in_the_place_and_with_the_inode_of_a_deleted_one_is_another(tmp_path: Path) -> None:
    """ext4 gives the inode of a deleted file to the next one; only its birth time tells them apart."""
    image = tmp_path / "a.qcow2"
    image.write_bytes(b"1")
    before = layer_of(str(image))
    image.unlink()
    image.write_bytes(b"1")
    assert layer_of(str(image)).facts != before.facts


def no_birth_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the file system keep no birth times, as NFS with most servers."""
    monkeypatch.setattr(storage, "statx", lambda path: Born(Path(path).stat().st_ino, None))


@pytest.mark.case("I3")
def test_where_no_birth_time_is_kept_a_file_is_known_by_its_handle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_birth_times(monkeypatch)
    image, moved = tmp_path / "a.qcow2", tmp_path / "b"
    image.write_bytes(b"1")
    (tmp_path / "link").symlink_to(image)
    before = layer_of(str(image))
    assert {"path", "inode", "file handle"} == set(before.facts)
    image.write_bytes(b"2")
    assert layer_of(str(tmp_path / "link")) == before
    image.rename(moved)
    moved.rename(image)
    assert layer_of(str(image)) == before


@pytest.mark.case("I3")
def test_a_file_with_the_path_and_inode_of_a_deleted_one_is_another_also_without_a_birth_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ext4 gives the inode to the next file at once, with another generation; other file systems have another inode."""
    no_birth_times(monkeypatch)
    image = tmp_path / "a.qcow2"
    seen = []
    for _ in range(3):
        image.write_bytes(b"1")
        seen.append(layer_of(str(image)).facts)
        image.unlink()
    handles = {facts["file handle"] for facts in seen}
    assert len(handles) == len(seen)
    assert file_handle("/") not in handles


@pytest.mark.case("I3")
def test_a_file_of_which_neither_birth_nor_generation_is_known_is_no_disk_that_could_be_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over FUSE, whose handles count nodes that it gives out anew at each mount."""
    no_birth_times(monkeypatch)
    monkeypatch.setattr(file_handles, "file_system_type", lambda _path: 0x65735546)
    image = tmp_path / "a.qcow2"
    image.write_bytes(b"1")
    with pytest.raises(OSError, match="neither birth times nor generations") as raised:
        layer_of(str(image))
    assert raised.value.filename == str(image)
    sysfs(tmp_path, "7:4", "loop4", loop__backing_file=str(image))
    assert device_facts("7:4", tmp_path) == {}  # nor is a loop device over it


def test_a_file_system_without_handles_is_an_error_with_the_file_s_name() -> None:
    with pytest.raises(OSError, match="/proc/self/status"):
        file_handle("/proc/self/status")
    with pytest.raises(FileNotFoundError, match="gone"):
        file_handle("/gone")


def test_two_files_that_exchange_their_names_are_not_taken_for_each_other(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    before = layer_of(str(one)), layer_of(str(other))
    one.rename(tmp_path / "x")
    other.rename(one)
    (tmp_path / "x").rename(other)
    after = layer_of(str(one)), layer_of(str(other))
    assert not {str(layer.facts) for layer in before} & {str(layer.facts) for layer in after}


def test_a_backing_image_that_was_written_to_is_another(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.write_bytes(b"1")
    before = layer_of(str(base), backing=True)
    os.utime(base, ns=(0, 1))
    assert layer_of(str(base), backing=True) != before


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        layer_of(str(tmp_path / "gone"))


def sysfs(root: Path, number: str, device: str, **files: str) -> Path:
    directory = root / "devices" / device
    for name, text in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    (root / "dev/block").mkdir(parents=True, exist_ok=True)
    (root / "dev/block" / number).symlink_to(directory)
    return root


@pytest.mark.parametrize(
    ("files", "facts"),
    [
        ({"dm__uuid": "LVM-abc", "dm__name": "vg-lv"}, {"device-mapper UUID": "LVM-abc"}),
        ({"wwid": "eui.1"}, {"WWID": "eui.1"}),
        ({"device__wwid": "naa.5"}, {"SCSI WWID": "naa.5"}),
        ({"serial": "S1"}, {"serial number": "S1"}),
        ({"dm__uuid": ""}, {}),
        ({"size": "8"}, {}),
    ],
)
def test_a_device_is_known_by_its_own_id(tmp_path: Path, files: dict[str, str], facts: dict[str, str]) -> None:
    assert device_facts("253:3", sysfs(tmp_path, "253:3", "dm-3", **files)) == facts


def test_a_partition_is_its_part_of_a_disk(tmp_path: Path) -> None:
    sysfs(tmp_path, "8:0", "sda", device__wwid="naa.5")
    sysfs(tmp_path, "8:2", "sda/sda2", partition="2", start="2048")
    assert device_facts("8:2", tmp_path) == {"SCSI WWID": "naa.5", "partition": "2", "begins at": "2048"}


def test_a_partition_of_a_disk_without_an_id_has_none(tmp_path: Path) -> None:
    sysfs(tmp_path, "8:2", "sda/sda2", partition="2", start="2048")
    assert device_facts("8:2", tmp_path) == {}


def test_a_loop_device_is_the_file_behind_it(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"")
    sysfs(tmp_path, "7:4", "loop4", loop__backing_file=str(image), loop__offset="512")
    assert device_facts("7:4", tmp_path) == {**layer_of(str(image)).facts, "offset": "512"}


def test_a_mapped_rbd_image_is_known_by_cluster_pool_and_id(tmp_path: Path) -> None:
    sysfs(tmp_path, "252:0", "rbd0", size="1")
    for name, text in {"pool": "vms", "name": "a", "image_id": "10ab", "cluster_fsid": "f-1"}.items():
        path = tmp_path / "bus/rbd/devices/0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert device_facts("252:0", tmp_path) == {"cluster_fsid": "f-1", "pool": "vms", "image_id": "10ab", "name": "a"}


@pytest.mark.case("I2")
def test_a_device_without_an_id_of_its_own_is_no_disk_that_could_be_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two zvols may exchange their numbers at a reboot, and with them the names that their links lead to."""
    (tmp_path / "dev/block/230:0").mkdir(parents=True)
    node = SimpleNamespace(st_mode=stat.S_IFBLK, st_rdev=os.makedev(230, 0), st_mtime_ns=0)
    monkeypatch.setattr(os.path, "realpath", lambda _path, *, strict: "/dev/zd0")
    monkeypatch.setattr(Path, "stat", lambda _self: node)
    with pytest.raises(OSError, match="no id of its own") as raised:
        layer_of("/dev/zvol/tank/a", sys=tmp_path)
    assert raised.value.filename == "/dev/zvol/tank/a"
