"""libvirt's modular daemons and QEMU of Debian 13, in a tree of its packages.

Debian ships libvirt's QEMU driver in a package of its own, and the monolithic libvirtd to load it, in 13 as in 12 and in its
unstable release; it builds none of the modular daemons. [debian/rules: only -Ddriver_libvirtd] Each of them is a small program
around the same library and the same drivers, though. They are compiled here from Debian's source of that very version, and
linked with the library that Debian ships; library, drivers, virtlogd and QEMU are the packages' own.

    virtqemud     compiled here      loads libvirt_driver_qemu.so of libvirt-daemon-driver-qemu, and libvirt0
    virtsecretd   compiled here      loads libvirt_driver_secret.so of libvirt-daemon-driver-secret, and libvirt0
    virtlogd      libvirt-daemon-log
    qemu          qemu-system-x86

virtqemud asks virtsecretd for passphrases: those of encrypted disks, and those that Freezeframe has for scratch files of such
disks. Nothing else of libvirt is needed: guests with images in files use no storage pool and no network of libvirt's.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ops.debian import DebianError, Tree, mirror

RELEASE: Final = "trixie"
DAEMON: Final = "virtqemud"
#: What virtqemud is of little use without; virtlogd is a package's own.
SECRETS: Final = "virtsecretd"
#: The host's own, without what they recommend; their users and directories come with them.
PACKAGES: Final = (
    *("libvirt-daemon-driver-qemu", "libvirt-daemon-driver-secret"),
    *("qemu-system-x86", "qemu-utils", "iproute2"),
)
#: What compiles the daemons; the libraries' headers are those that its configuration asks for.
_TOOLS: Final = (
    *(
        "gcc",
        "libc6-dev",
        "meson",
        "ninja-build",
        "pkgconf",
        "perl",
        "python3",
        "libxml2-utils",
        "xsltproc",
        "xz-utils",
    ),
    *("libglib2.0-dev", "libgnutls28-dev", "libjson-c-dev", "libtirpc-dev", "libxml2-dev"),
)
#: The paths are those of Debian's build [debian/rules]; everything else is the library's and the driver's affair.
_OPTIONS: Final = (
    *("--auto-features=disabled", "--prefix=/usr", "--sysconfdir=/etc", "--localstatedir=/var", "-Drunstatedir=/run"),
    *("--libdir=lib/x86_64-linux-gnu", "--libexecdir=/usr/lib/libvirt", "-Djson_c=enabled", "-Ddriver_remote=enabled"),
    *("-Ddriver_libvirtd=enabled", "-Ddriver_qemu=enabled", "-Dqemu_user=libvirt-qemu", "-Dqemu_group=libvirt-qemu"),
    "-Ddriver_secrets=enabled",
)
#: The library is not compiled: its place among the daemons' inputs is taken by Debian's, which exports to its daemons the same
#: private symbols of the same version. They all have the same objects, one apart.
_COMPILE: Final = f"""
mkdir source
tar --extract --file libvirt_*.orig.tar.* --directory source --strip-components 1
meson setup build source "$@"
cd build
daemons="{DAEMON} {SECRETS}"
for daemon in $daemons; do
  objects="$objects $(ninja -t query src/$daemon | grep -o "src/$daemon[.]p/[^ ]*[.]o")"
done
ninja $objects src/admin/libvirt_admin_driver.a
for library in /usr/lib/x86_64-linux-gnu/libvirt*.so.0.*; do ln -s "$library" src/; done
for daemon in $daemons; do
  sh -ec "$(ninja -t commands src/$daemon | tail -n 1)"
done
"""


def ensure(cache: Path | None = None) -> Tree:
    """Return the tree of a Debian 13 host with its daemons, made if it is not there: about two minutes, once."""
    tree = Tree.ensure(RELEASE, [*PACKAGES, *_TOOLS], cache)
    daemons = [tree.root / "usr/sbin" / name for name in (DAEMON, SECRETS)]
    with _locked(tree.root.with_suffix(".lock")):
        if not all(daemon.exists() for daemon in daemons):
            _build(tree, daemons)
    return tree


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(tree: Tree, daemons: Sequence[Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="making-", dir=tree.root.parent) as name:
        work = Path(name)
        _fetch_source(tree, work)
        tree.run(["sh", "-ec", _COMPILE, "sh", *_OPTIONS], work)
        for daemon in daemons:
            new = daemon.with_suffix(".new")
            shutil.copyfile(work / "build/src" / daemon.name, new)
            new.chmod(0o755)
            new.rename(daemon)


def _fetch_source(tree: Tree, work: Path) -> None:
    """Download the archive of the tree's libvirt, by apt with lists of its own, which checks it."""
    fields = "${source:Package}=${source:Version}"
    source = tree.run(["dpkg-query", "-W", "-f", fields, "libvirt0"], work).stdout
    for name in ("lists/partial", "cache/archives/partial"):
        (work / "apt" / name).mkdir(parents=True)
    keys = tree.root / "usr/share/keyrings/debian-archive-keyring.gpg"
    (work / "apt/sources.list").write_text(f"deb-src [signed-by={keys}] {mirror()} {RELEASE} main\n")
    settings = {
        "Dir::Etc::SourceList": work / "apt/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": work / "apt/lists",
        "Dir::Cache": work / "apt/cache",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    for words in (["update"], ["source", "--download-only", "--tar-only", source]):
        done = subprocess.run([*apt, *words], cwd=work, check=False, capture_output=True, text=True)
        if done.returncode:
            raise DebianError(f"apt-get {' '.join(words)}: {done.stderr[-4000:]}")


if __name__ == "__main__":
    ensure()
