"""A Debian of another release in a directory: its packages, installed there and nowhere else.

Words
    tree    the root directory of a Debian, made of packages by mmdebstrap, from the mirror that apt has
    work    the one directory of a tree that a command may write to and find again: it is bound from outside

A tree is kept between uses, under a name made of its release and packages; remove the cache to have newer packages. It is
made in a directory of another name and renamed when complete; what a crash leaves is removed by the next making.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Documents and translations are a third of the files; and a tree that a crash left half-written is made again.
_DPKG_OPTIONS = (
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
)
#: In new mount and PID namespaces, so that what a command mounts or leaves behind ends with it.
_ENTER = """
mount --rbind /dev "$1/dev"
mount --rbind /sys "$1/sys"
mount --rbind "$2" "$1/mnt"
root=$1 directory=$3
shift 3
exec chroot "$root" sh -ec 'cd "$0"; exec "$@"' "$directory" "$@"
"""


class DebianError(RuntimeError):
    """A tree could not be made. The message has the end of the output."""


def default_cache() -> Path:
    """Kept over a reboot, unlike what is in /tmp; by user, because another's tree is not to be trusted."""
    return Path(f"/var/tmp/freezeframe-debian-{os.getuid()}")  # noqa: S108 - made 0700 and checked for its owner


def mirror() -> str:
    """Return the address of the archive that this machine's apt takes its own release from."""
    release = _os_release()["VERSION_CODENAME"]
    columns = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    done = subprocess.run(columns, check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        site, *rest = line.split()
        if rest == [release, "main"]:
            return site
    raise DebianError(f"apt has no archive of {release}")


def _os_release() -> dict[str, str]:
    pairs = (line.partition("=") for line in Path("/etc/os-release").read_text().splitlines())
    return {name: value.strip('"') for name, _, value in pairs}


@dataclass(frozen=True)
class Tree:
    """A Debian in a directory."""

    root: Path

    @classmethod
    def ensure(cls, release: str, packages: Sequence[str], cache: Path | None = None) -> Tree:
        """Return the tree of these packages, made if it is not there: about a minute, once."""
        cache = cache or default_cache()
        wanted = " ".join(sorted({*packages}))
        root = cache / f"{release}-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"
        with _locked(cache):
            if not root.is_dir():
                _make(cache, root, release, wanted)
        return cls(root)

    def run(
        self,
        argv: Sequence[str],
        work: Path,
        *,
        env: Mapping[str, str] | None = None,
        directory: str = "/mnt",
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the tree, with `work` at /mnt. Raises DebianError unless it is not to be checked."""
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self.root}/proc"]
        command = [*spaces, "sh", "-ec", _ENTER, "sh", str(self.root), str(work), directory, *argv]
        usual = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, env={**usual, **(env or {})}, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise DebianError(
                f"{' '.join(argv)} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
            )
        return done


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise PermissionError(f"{cache} belongs to somebody else")
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(cache: Path, root: Path, release: str, packages: str) -> None:
    for left in cache.glob("making-*"):
        shutil.rmtree(left)
    making = cache / f"making-{root.name}"
    options = [f"--dpkgopt={option}" for option in _DPKG_OPTIONS]
    include = [f"--include={packages.replace(' ', ',')}"] if packages else []
    command = ["mmdebstrap", "--variant=minbase", *options, *include, release, str(making), mirror()]
    # /tmp may be small, and a path under it too private for the user that apt downloads as
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(making, ignore_errors=True)
        raise DebianError(f"mmdebstrap {release}: {done.stderr[-4000:]}")
    making.rename(root)
