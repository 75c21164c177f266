"""A restore that is killed leaves nothing that looks whole, no server, and nothing in the way of the next one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from workers.restore.disk import restore_disk
from workers.restore.image import ImageFormat

from .samples import CHUNK, content, noise, part_of

#: Restores a disk, and stops in the middle with a word.
_CHILD = """
import sys, time
from pathlib import Path
from freezeframe.repository import Repository
from workers.restore.disk import DiskPart, restore_disk
from workers.restore.image import ImageFormat

def on_progress(done, total):
    if done * 2 > total:
        print("half", flush=True)
        time.sleep(600)

root, index, path, image_format = sys.argv[1:]
part = DiskPart("01HZ0000000000000000000001", "alpha", "vda", index, Path(path), ImageFormat(image_format))
restore_disk(Repository.open(root), part, on_progress=on_progress)
"""


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_killed_in_the_middle(
    repository: Repository, root: Path, target: Path, tmp_path: Path, image_format: ImageFormat
) -> None:
    disk = noise(24 * CHUNK)
    part = part_of(repository, disk, target / "disk", image_format)
    command = [sys.executable, "-c", _CHILD, str(root), part.index, str(part.path), image_format.value]
    # What it cannot remove itself, the directory of its socket, is left with the test's own files.
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        child.kill()
    partial = target / "disk.partial"
    assert list(target.iterdir()) == [partial]
    while _users(partial):  # qemu-nbd has yet to notice that its clients are gone; the test's own limit ends this
        time.sleep(0.01)

    restore_disk(repository, part)

    assert content(part.path, image_format) == disk
    assert list(target.iterdir()) == [part.path]


def _users(path: Path) -> list[str]:
    """Processes that have the file in their arguments, as our qemu-nbd has."""
    found = []
    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(path).encode() in arguments.read_bytes():
                found.append(arguments.parent.name)
        except OSError:
            continue
    return found
