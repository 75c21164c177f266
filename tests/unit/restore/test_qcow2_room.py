"""A file system that runs full under a qcow2 is told by name, and nothing is left. Needs to mount a tmpfs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from ops.qemu_nbd import serving
from workers.restore.capture import restore_capture
from workers.restore.disk import restore_disk
from workers.restore.errors import NoRoomError, TargetFullError, TargetInUseError
from workers.restore.image import ImageFormat

from .samples import disk_capture, guest_capture, manifest_of, noise, part_of

MIB = 1 << 20


@pytest.fixture
def small(target: Path) -> Iterator[Path]:
    """A directory with room for 4 MiB."""
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "t", target], check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield target
    subprocess.run(["umount", target], check=True)


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_running_full_names_the_file_and_removes_it(
    repository: Repository, small: Path, image_format: ImageFormat
) -> None:
    part = part_of(repository, noise(8 * MIB), small / "disk", image_format)
    with pytest.raises(TargetFullError, match=str(part.path)):
        restore_disk(repository, part)
    assert list(small.iterdir()) == []


def test_too_little_room_is_known_before_anything_is_written(repository: Repository, small: Path) -> None:
    manifest = manifest_of(guest_capture(disk_capture(repository, noise(8 * MIB))))
    with pytest.raises(NoRoomError, match=str(small)):
        restore_capture(repository, manifest, small)
    assert list(small.iterdir()) == []


def test_an_image_that_qemu_has_open_is_not_overwritten(repository: Repository, target: Path) -> None:
    path = target / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    socket = target / "socket"
    with serving(socket, path, ["--persistent", "--format=qcow2"]), pytest.raises(TargetInUseError):
        restore_disk(repository, part_of(repository, noise(MIB), path, ImageFormat.QCOW2), overwrite=True)
