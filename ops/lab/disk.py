"""Disk images of lab guests."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from ops.lab.errors import LabError
from ops.lab.spec import DiskSpec


class Image(NamedTuple):
    """An image file and its format; said, never probed: a guest can write a qcow2 header into a raw disk."""

    path: Path
    format: str


def _qemu_img(*words: str) -> None:
    done = subprocess.run(["qemu-img", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"qemu-img {' '.join(words)}: {done.stderr.strip()}")


def create(folder: Path, spec: DiskSpec) -> Path:
    """A blank image for this disk, or the one it brings."""
    if spec.source is not None:
        return spec.source
    path = folder / f"{spec.target}.{spec.format}"
    # Version 3 (compat 1.1): checkpoints keep their bitmaps in it.
    options = ("-o", "compat=1.1") if spec.format == "qcow2" else ()
    _qemu_img("create", "-q", "-f", spec.format, *options, str(path), f"{spec.size_mib}M")
    return path


def overlay(folder: Path, target: str, image: Image) -> DiskSpec:
    """A disk that shows the image and keeps what is written to itself."""
    path = folder / f"{target}.qcow2"
    _qemu_img("create", "-q", "-f", "qcow2", "-b", str(image.path), "-F", image.format, str(path))
    return DiskSpec(target=target, format="qcow2", source=path)
