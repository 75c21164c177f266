"""Where kits are kept, and the making of one."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ops.lab.kit import initramfs, packages


def default_cache() -> Path:
    """Kept over a reboot, unlike what is in /tmp; by user, because another's kit is not to be trusted."""
    return Path(f"/var/tmp/freezeframe-lab-kit-{os.getuid()}")  # noqa: S108 - others may only pass through, and its owner is checked


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise PermissionError(f"{cache} belongs to somebody else")
    # QEMU's own user boots guests from the kits in it
    cache.chmod(0o711)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Kit:
    """What a guest boots from: `kernel` and `initramfs`, in a directory that holds nothing else that changes."""

    directory: Path

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initramfs(self) -> Path:
        return self.directory / "initramfs"

    def copy_to(self, directory: Path) -> None:
        """Make a copy of what guests boot from, without the files' attributes."""
        directory.mkdir()
        directory.chmod(0o755)
        for path in (self.kernel, self.initramfs):
            shutil.copyfile(path, directory / path.name)
            (directory / path.name).chmod(0o644)

    @classmethod
    def ensure(cls, cache: Path | None = None) -> Self:
        """The kit of the versions that apt offers now, made if it is not there: about ten seconds, once."""
        cache = cache or default_cache()
        with _locked(cache):
            versions = _versions()
            text = json.dumps(versions, indent=2, sort_keys=True)
            directory = cache / f"kit-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            if not directory.is_dir():
                _make(cache, directory, text)
            return cls(directory)


def _versions() -> dict[str, str]:
    _, versions = packages.candidates()
    return {
        **versions,
        **packages.installed_versions("busybox-static", "e2fsprogs", "libc6"),
        "recipe": hashlib.sha256(initramfs.scripts() + Path(initramfs.__file__).read_bytes()).hexdigest(),
    }


def _make(cache: Path, directory: Path, versions: str) -> None:
    for left in cache.glob("making-*"):
        shutil.rmtree(left)
    downloads = cache / "packages"
    downloads.mkdir(exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
    tree = making / "tree"
    for package in {packages.candidates()[0], *packages.agent_packages()}:
        packages.unpack(packages.fetch(package, downloads), tree)
    new = making / "kit"
    new.mkdir()
    shutil.copyfile(next(tree.glob("boot/vmlinuz-*")), new / "vmlinuz")
    initramfs.build(tree, making / "root", new / "initramfs")
    (new / "versions.json").write_text(versions + "\n")
    new.chmod(0o755)
    for path in new.iterdir():
        path.chmod(0o644)
    new.rename(directory)
    shutil.rmtree(making)
