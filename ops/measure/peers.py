"""The peers, each reading the same guest's disk in its own best way: Debian's virtnbdbackup, and qemu-img."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ops.lab.guest import Guest
from ops.measure.export import exported

#: Seconds and stored bytes of one round.
Round = tuple[float, int]
Contestant = Callable[[Path], Round]


def virtnbdbackup(guest: Guest, target: str) -> Contestant:
    """A full backup with its compression (lz4), of this disk only."""

    def run(out: Path) -> Round:
        excluded = [name for name in ("vda", "vdb") if name != target]
        command = ["virtnbdbackup", "-U", "qemu:///system", "-d", guest.name, "-l", "full", "-z", "-o", str(out)]
        began = time.monotonic()
        # not our PATH: the peer runs on the distribution's Python, with the distribution's modules
        done = guest.host.run(
            [*command, "-x", ",".join(excluded)],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=False,
            timeout_s=300,
        )
        seconds = time.monotonic() - began
        if done.returncode:
            raise RuntimeError(f"virtnbdbackup ended with {done.returncode}: {done.stdout}{done.stderr}")
        for checkpoint in guest.domain.listAllCheckpoints():
            if checkpoint.getName().startswith("virtnbdbackup"):
                checkpoint.delete()
        return seconds, folder_bytes(out)

    return run


def qemu_img(guest: Guest, target: str) -> Contestant:
    """`qemu-img convert` from an export to a compressed qcow2, with zstd."""

    def run(out: Path) -> Round:
        out.mkdir()
        with exported(guest, target) as socket:
            command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"]
            began = time.monotonic()
            subprocess.run([*command, f"nbd+unix:///{target}?socket={socket}", str(out / "disk.qcow2")], check=True)
            return time.monotonic() - began, folder_bytes(out)

    return run


def folder_bytes(folder: Path) -> int:
    """What a folder's files take, as du counts: blocks, not lengths."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def have(program: str) -> bool:
    return shutil.which(program) is not None
