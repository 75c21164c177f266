"""Bitmaps of ours in the images of a guest: in those of its disks, and in those below, where a snapshot leaves them.

What cannot be read is told, with the reason: no bitmap that was found is not the same as none that is there.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.hypervisor import bitmaps, volumes
from workers.hypervisor.domain import Domain
from workers.tools import english

#: Seconds for qemu-img to follow a chain of backing files.
_CHAIN_S: Final = 60.0


@dataclass(frozen=True)
class Unread:
    """An image of a guest of which nobody knows whether it has bitmaps of ours."""

    target: str
    image: Path
    why: str
    pool: str = ""  # of a volume, whose path is not known

    def told(self, guest: str, *, runs: bool) -> str:
        """Return what is told of it, and what to do."""
        image, pool = shlex.quote(str(self.image)), shlex.quote(self.pool)
        itself = "Detaching asks the guest's QEMU, which knows. If that fails, see" if runs else "See"
        what = f"Disk {self.target} of guest {guest}: whether bitmaps of ours are in"
        if self.pool:
            return (
                f"{what} volume {self.image} is not known: {self.why}. {itself} that libvirt knows it "
                f"(`virsh pool-start {pool}`, `virsh pool-refresh {pool}`) and detach again."
            )
        return (
            f"{what} {self.image} is not known: {self.why}. "
            f"{itself} that root of this host can read it (mount its storage; export NFS with no_root_squash) and detach "
            f"again. Or look by hand while the guest is off: `qemu-img info {image}` lists them, named freezeframe.…, and "
            f"`qemu-img bitmap --remove {image} NAME` removes one."
        )


@dataclass(frozen=True)
class Stored:
    """The bitmaps of ours that a guest's images have, and the images that could not be read."""

    by_image: dict[Path, list[str]]
    unread: tuple[Unread, ...] = ()


def look(domain: Domain) -> Stored:
    """Look into the images of all disks, and into those below them. Raises HypervisorError."""
    by_image: dict[Path, list[str]] = {}
    images = volumes.images_with_bitmaps(domain, domain.disks())
    unread = [Unread(one.target, Path(one.pool, one.volume), one.why, one.pool) for one in images.unlocated]
    for target, image in images.found:
        chain, why = _chain(image)
        found = bitmaps.ours_in(chain)
        by_image |= found.by_image
        unread += [Unread(target, path, reason) for path, reason in found.unread.items()]
        if why is not None and image not in found.unread:
            unread.append(Unread(target, image, f"the images below it cannot be told: {why}"))
    return Stored(by_image, tuple(unread))


def _chain(image: Path) -> tuple[Sequence[Path], str | None]:
    """Return an image and those below it that can have bitmaps, and why they cannot be told, if so."""
    command = ["qemu-img", "info", "-f", "qcow2", "--force-share", "--backing-chain", "--output=json", str(image)]
    try:
        if not bitmaps.is_qcow2(image):
            return [image], None
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CHAIN_S, check=False, env=english())
    except (OSError, subprocess.SubprocessError) as error:
        return [image], str(error)
    if done.returncode:
        return [image], done.stderr.strip() or f"qemu-img ended with {done.returncode}"
    found = json.loads(done.stdout)
    files = [Path(one["filename"]) for one in found if one["format"] == "qcow2" and one["filename"].startswith("/")]
    return files, None
