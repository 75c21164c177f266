"""The guests' whole system: busybox, the agent, mkfs.ext4, a few modules and our scripts, as one cpio archive.

It stays uncompressed: an emulated CPU unpacks slower than QEMU copies.
"""

import lzma
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from ops.lab.errors import LabError

#: What a guest drives: disks, the agent's channel, randomness (else mkfs waits for it), and the power button.
_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_rng", "evdev", "button")
_SCRIPTS = Path(__file__).with_name("guest")
_SCRIPT_PLACES = {
    "start": "sbin/start",
    "workload": "sbin/workload",
    "workload-fill": "sbin/workload-fill",
    "shutdown": "sbin/shutdown",
    "inittab": "etc/inittab",
    "powerbtn": "etc/acpi/PWRF/00000080",
}
_DIRECTORIES = (
    "bin",
    "dev",
    "etc",
    "lib/modules",
    "mnt",
    "proc",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr/share",
    "var/log",
    "var/run",
)
#: Seed and size of the pool of incompressible bytes from which the workload takes what it writes.
_POOL_SEED, _POOL_BYTES = 20, 2 << 20


def scripts() -> bytes:
    """All of what the project itself puts into a guest, for the kit's key."""
    return b"".join(path.read_bytes() for path in sorted(_SCRIPTS.iterdir()))


def _put(source: Path, root: Path, place: str, mode: int = 0o755) -> None:
    target = root / place.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _libraries(program: Path, tree: Path) -> Iterator[tuple[Path, str]]:
    """(file, place in the guest) of each library that the program loads, from the unpacked tree or the machine."""
    folders = {str(path.parent) for path in tree.rglob("*.so*")}
    done = subprocess.run(
        ["ldd", str(program)],
        env={**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(folders)), "LC_ALL": "C"},  # ldd's "not found" is read
        capture_output=True,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        if "not found" in line:
            raise LabError(f"{program.name} misses a library: {line.strip()}")
        found = re.search(r"(\S+ => )?(/\S+) \(0x", line)
        if found:
            file = Path(found[2])
            # The loader's own path is written into every program; the rest is found by name in /usr/lib.
            yield file, str(file) if found[1] is None else f"usr/lib/{file.name}"


def _program(program: Path, root: Path, tree: Path, place: str) -> None:
    _put(program, root, place)
    for file, library in _libraries(program, tree):
        _put(file, root, library)


def _module_name(file: Path) -> str:
    return file.name.split(".ko")[0].replace("-", "_")


def _module_bytes(file: Path) -> bytes:
    """Debian 13 compresses its modules; insmod of busybox does not read that."""
    return lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()


def _in_order(wanted: Iterable[str], modules: dict[str, bytes], done: list[str]) -> list[str]:
    """The modules and what they depend on, dependencies first.

    The package ships no modules.dep (depmod makes it at installation), but each module names what it needs.
    A name that is no file is built into the kernel.
    """
    for name in wanted:
        if name in done or name not in modules:
            continue
        needs = re.search(rb"\0depends=([^\0]+)\0", modules[name])
        _in_order(needs[1].decode().replace("-", "_").split(",") if needs else (), modules, done)
        done.append(name)
    return done


def _modules(tree: Path, root: Path) -> None:
    modules = {
        _module_name(file): _module_bytes(file)
        for folder in ("virtio", "block", "char", "input", "acpi")
        for file in tree.glob(f"**/lib/modules/*/kernel/drivers/{folder}/**/*.ko*")
    }
    order = _in_order(_MODULES, modules, [])
    for name in order:
        (root / "lib/modules" / name).write_bytes(modules[name])
    (root / "lib/modules/order").write_text("\n".join(order) + "\n")


def _busybox(root: Path) -> None:
    _put(Path("/bin/busybox"), root, "bin/busybox")
    names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    (root / "init").symlink_to("bin/busybox")


def build(tree: Path, root: Path, target: Path) -> None:
    """Write the initramfs from the unpacked packages in `tree`, by way of the directory `root`."""
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    _busybox(root)
    _program(next(tree.glob("**/sbin/qemu-ga")), root, tree, "usr/sbin/qemu-ga")
    _program(Path("/sbin/mkfs.ext4").resolve(), root, tree, "usr/sbin/mkfs.ext4")
    _modules(tree, root)
    for script, place in _SCRIPT_PLACES.items():
        _put(_SCRIPTS / script, root, place)
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "usr/share/random").write_bytes(random.Random(_POOL_SEED).randbytes(_POOL_BYTES))
    archive(root, target)


def archive(root: Path, target: Path) -> None:
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    with target.open("wb") as out:
        subprocess.run(
            ["cpio", "--create", "--format=newc", "--quiet", "--owner=+0:+0"],
            cwd=root,
            input="\n".join([".", *names]).encode(),
            stdout=out,
            check=True,
        )
