"""Bitmaps in images, made and removed by QEMU's own tools: ours are found beside others, and only ours ever go."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.qemu_nbd import serving
from workers.hypervisor import bitmaps
from workers.hypervisor.bitmaps import Found, ImageInUseError
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.errors import HypervisorError
from workers.scratch import files

OURS = "freezeframe.0123456789ab.01KAAAAAAAAAAAAAAAAAAAAAAA"
NEWER = "freezeframe.0123456789ab.01KAAAAAAAAAAAAAAAAAAAAAAB"
ELSEWHERE = "freezeframe.ba9876543210.01KAAAAAAAAAAAAAAAAAAAAAAA"
THEIRS = ("virtnbdbackup.0", "freezeframe", "freezeframe.mine", f"{OURS}.copy", "é" * 40)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def image(path: Path, *names: str, options: str = "compat=1.1") -> Path:
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, os.fspath(path), "64M")
    for name in names:
        run("qemu-img", "bitmap", "--add", "-f", "qcow2", os.fspath(path), name)
    return path


def as_qemu_says(path: Path) -> list[str]:
    told = json.loads(run("qemu-img", "info", "--output=json", os.fspath(path)))
    return [bitmap["name"] for bitmap in told["format-specific"]["data"].get("bitmaps", [])]


@pytest.mark.case("G6")
def test_the_names_are_those_that_qemu_tells(tmp_path: Path) -> None:
    path = image(tmp_path / "a", OURS, *THEIRS, NEWER)
    assert bitmaps.in_image(path) == as_qemu_says(path) == [OURS, *THEIRS, NEWER]
    assert bitmaps.ours_in([path]) == Found({path: [OURS, NEWER]}, {})


@pytest.mark.parametrize(
    "options", ["compat=1.1", "compat=0.10", "compat=1.1,compression_type=zstd", "cluster_size=4k"]
)
def test_an_image_without_bitmaps_has_none(tmp_path: Path, options: str) -> None:
    assert bitmaps.in_image(image(tmp_path / "a", options=options)) == []


def test_a_bitmap_beside_other_extensions_of_the_header(tmp_path: Path) -> None:
    """A backing file and a data file have extensions of their own, which come first."""
    image(tmp_path / "base")
    path = tmp_path / "top"
    options = f"data_file={tmp_path / 'data'}"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, os.fspath(path), "64M")
    run("qemu-img", "bitmap", "--add", "-f", "qcow2", os.fspath(path), OURS)
    assert bitmaps.in_image(path) == [OURS]
    upper = tmp_path / "upper"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", os.fspath(path), "-F", "qcow2", os.fspath(upper))
    run("qemu-img", "bitmap", "--add", "-f", "qcow2", os.fspath(upper), NEWER)
    assert bitmaps.in_image(upper) == [NEWER]


@pytest.mark.parametrize("name", [OURS, NEWER, ELSEWHERE, f"freezeframe.{'0' * 32}.01KAAAAAAAAAAAAAAAAAAAAAAA"])
def test_ours(name: str) -> None:
    assert bitmaps.is_ours(name)


@pytest.mark.parametrize("name", [*THEIRS, "", f"x{OURS}", f"{OURS}\n", "changed-vda", OURS.upper()])
def test_not_ours(name: str) -> None:
    assert not bitmaps.is_ours(name)


@pytest.mark.case("G6")
def test_only_the_named_bitmap_is_removed(tmp_path: Path) -> None:
    first, second = image(tmp_path / "a", OURS, *THEIRS, NEWER), image(tmp_path / "b", NEWER)
    bitmaps.remove_from_images([first, second, tmp_path / "none", _raw(tmp_path)], {OURS})
    assert as_qemu_says(first) == [*THEIRS, NEWER]
    assert as_qemu_says(second) == [NEWER]
    bitmaps.remove_from_images([first, second], {OURS})  # twice is once


def _raw(folder: Path) -> Path:
    path = folder / "raw"
    path.write_bytes(b"\0" * 4096)
    return path


@pytest.mark.case("G6")
def test_an_image_that_is_in_use_keeps_it_and_says_so(tmp_path: Path) -> None:
    path = image(tmp_path / "a", OURS)
    with (
        serving(tmp_path / "s", path, ["--persistent", "--format=qcow2"]),
        pytest.raises(ImageInUseError, match="in use"),
    ):
        bitmaps.remove_from_images([path], {OURS})
    assert as_qemu_says(path) == [OURS]


@pytest.mark.case("G6")
def test_another_failure_of_an_image_whose_path_tells_of_locks_is_not_an_image_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "block"
    folder.mkdir()
    path = image(folder / "a", OURS)
    with path.open("r+b") as file:
        file.seek(73)
        file.write(b"\x01")  # an incompatible feature that no QEMU knows
    with pytest.raises(HypervisorError, match="feature") as caught:
        bitmaps.remove_from_images([path], {OURS})
    assert not isinstance(caught.value, ImageInUseError)
    assert str(path) in caught.value.message


def test_what_qemu_img_says_is_read_in_english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    environments: list[Mapping[str, str]] = []

    def run(command: Sequence[str], *, env: Mapping[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        environments.append(env)
        return subprocess.CompletedProcess(command, 0, "", "")

    path = image(tmp_path / "a", OURS)
    monkeypatch.setattr(subprocess, "run", run)
    bitmaps.remove_from_images([path], {OURS})
    files.create_encrypted(tmp_path / "scratch", 1 << 20, b"secret")
    assert [(env["LC_ALL"], env["LANGUAGE"], env["PATH"]) for env in environments] == [
        ("C", "", os.environ["PATH"])
    ] * 2


def test_bitmaps_of_a_crashed_qemu_can_be_removed(tmp_path: Path) -> None:
    """It was killed while it had them in memory: they are marked as in use."""
    path = image(tmp_path / "a", OURS)
    with serving(tmp_path / "s", path, ["--persistent", "--format=qcow2"]):
        assert bitmaps.in_image(path) == [OURS]  # beside a QEMU that has it
        copy = tmp_path / "copy"
        copy.write_bytes(path.read_bytes())
    assert bitmaps.in_image(copy) == [OURS]
    bitmaps.remove_from_images([copy], {OURS})
    assert as_qemu_says(copy) == []


@pytest.mark.parametrize("length", [0, 4, 50, 103, 110, 130])
def test_an_image_that_is_cut_off_is_none_that_could_be_read(tmp_path: Path, length: int) -> None:
    whole = image(tmp_path / "a", OURS).read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(whole[:length])
    with pytest.raises((ValueError, OSError)):
        bitmaps.in_image(path)
    assert bitmaps.ours_in([path]) == Found({}, {path: "the image is cut off"} if length else {})
    if length:
        with pytest.raises(HypervisorError, match="cut off"):
            bitmaps.remove_from_images([path], {OURS})


def test_an_image_of_a_later_version_of_qcow2_is_not_one_without_bitmaps(tmp_path: Path) -> None:
    path = image(tmp_path / "a", OURS)
    with path.open("r+b") as file:
        file.seek(4)
        file.write((4).to_bytes(4, "big"))
    assert list(bitmaps.ours_in([path]).unread) == [path]
    assert "version 4" in bitmaps.ours_in([path]).unread[path]
    with pytest.raises(HypervisorError, match="version 4"):
        bitmaps.remove_from_images([path], {OURS})


def test_what_is_no_qcow2_has_no_bitmaps_and_what_is_not_there_is_not_known(tmp_path: Path) -> None:
    gone, below_a_file = tmp_path / "gone", _raw(tmp_path) / "a"
    assert bitmaps.ours_in([_raw(tmp_path), gone, below_a_file]) == Found(
        {}, {gone: "No such file or directory", below_a_file: "Not a directory"}
    )


@pytest.mark.parametrize(
    ("other", "taken"),
    [
        ({}, True),
        ({"device": "lun"}, True),
        ({"source_format": "raw"}, False),  # what a guest writes into it may look like a qcow2
        ({"device": "cdrom"}, False),
        ({"source": ""}, False),
        ({"source": "nbd:export"}, False),
    ],
)
def test_the_images_that_can_have_bitmaps_here(other: dict[str, Any], *, taken: bool) -> None:
    disk = DomainDisk("vda", "disk", "file", "/a", "qcow2", transient=False)
    assert bitmaps.images_with_bitmaps([replace(disk, **other)]) == ([("vda", Path("/a"))] if taken else [])


def test_an_image_that_cannot_be_read_is_not_one_without_bitmaps(tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match="cannot be read"):
        bitmaps.remove_from_images([tmp_path], {OURS})  # a directory


class StorageDaemon:
    """QEMU's block layer without a guest, with an image open as a guest's QEMU has it."""

    def __init__(self, path: Path) -> None:
        options = ["--chardev", "stdio,id=m", "--monitor", "chardev=m"]
        options += ["--blockdev", f"driver=file,filename={path},node-name=file"]
        options += ["--blockdev", "driver=qcow2,file=file,node-name=format"]
        self._process = subprocess.Popen(
            ["qemu-storage-daemon", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()  # its greeting
        self.tell("qmp_capabilities")

    def tell(self, command: str, **arguments: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        assert self._read() == {"return": {}}

    def quit(self) -> None:
        self.tell("quit")
        self._process.communicate()

    def _read(self) -> object:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@pytest.mark.case("G6")
def test_what_a_running_qemu_has_in_the_image(tmp_path: Path) -> None:
    """Those that were there when it opened the image are, until they are removed; a new one is stored at its end."""
    path = image(tmp_path / "a", OURS)
    qemu = StorageDaemon(path)
    assert bitmaps.in_image(path) == [OURS]
    qemu.tell("block-dirty-bitmap-add", node="format", name=NEWER, persistent=True)
    assert bitmaps.in_image(path) == [OURS]
    qemu.tell("block-dirty-bitmap-remove", node="format", name=OURS)
    assert bitmaps.in_image(path) == []
    with pytest.raises(ImageInUseError):
        bitmaps._remove(path, NEWER)
    qemu.quit()
    assert bitmaps.in_image(path) == [NEWER]
    bitmaps.remove_from_images([path], {NEWER})
    assert bitmaps.in_image(path) == []
