"""libvirt's modular daemons and QEMU of Debian 13, in a tree of its packages.

Debian ships libvirt's QEMU driver in a package of its own, and the monolithic libvirtd to load it, in 13 as in 12 and in its
unstable release; it builds none of the modular daemons. [debian/rules: only -Ddriver_libvirtd] virtqemud is a small program
around the same library and the same driver, though. It is compiled here from Debian's source of that very version, and linked
with the library that Debian ships; library, driver, virtlogd and QEMU are the packages' own.

    virtqemud     compiled here      loads libvirt_driver_qemu.so of libvirt-daemon-driver-qemu, and libvirt0
    virtlogd      libvirt-daemon-log
    qemu          qemu-system-x86

Nothing else of libvirt is needed: guests with images in files use no storage pool, no secret and no network of libvirt's.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ops.debian import DebianError, Tree, mirror

RELEASE: Final = "trixie"
DAEMON: Final = "virtqemud"
#: The host's own, without what they recommend; their users and directories come with them.
PACKAGES: Final = ("libvirt-daemon-driver-qemu", "qemu-system-x86", "qemu-utils", "iproute2")
#: What compiles the daemon; the libraries' headers are those that its configuration asks for.
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
)
#: The library is not compiled: its place among the daemon's inputs is taken by Debian's, which exports to its daemons the same
#: private symbols of the same version.
_COMPILE: Final = """
mkdir source
tar --extract --file libvirt_*.orig.tar.* --directory source --strip-components 1
meson setup build source "$@"
cd build
ninja $(ninja -t query src/virtqemud | grep -o 'src/virtqemud[.]p/[^ ]*[.]o') src/admin/libvirt_admin_driver.a
for library in /usr/lib/x86_64-linux-gnu/libvirt*.so.0.*; do ln -s "$library" src/; done
sh -ec "$(ninja -t commands src/virtqemud | tail -n 1)"
"""


def ensure(cache: Path | None = None) -> Tree:
    """Return the tree of a Debian 13 host with virtqemud, made if it is not there: about two minutes, once."""
    tree = Tree.ensure(RELEASE, [*PACKAGES, *_TOOLS], cache)
    daemon = tree.root / "usr/sbin" / DAEMON
    with _locked(tree.root.with_suffix(".lock")):
        if not daemon.exists():
            _build(tree, daemon)
    return tree


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(tree: Tree, daemon: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="making-", dir=tree.root.parent) as name:
        work = Path(name)
        _fetch_source(tree, work)
        tree.run(["sh", "-ec", _COMPILE, "sh", *_OPTIONS], work)
        new = daemon.with_suffix(".new")
        shutil.copyfile(work / "build/src" / DAEMON, new)
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
