"""Whether KVM works here. /dev/kvm says little: nested virtualisation may be there and still run no guest."""

import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from ops.lab.kit.cache import Kit
from ops.lab.kit.initramfs import archive
from ops.lab.process import boot_id

_TOKEN = "FREEZEFRAME KVM WORKS"  # noqa: S105 - what the probe guest prints
#: A KVM guest boots in two; one that hangs is no use either.
_TIMEOUT_S = 5.0


def _probe_initramfs(folder: Path) -> Path:
    root = folder / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin/busybox").chmod(0o755)
    (root / "init").write_text(f"#!/bin/busybox sh\necho {_TOKEN}\npoweroff -f\n")
    (root / "init").chmod(0o755)
    target = folder / "initramfs"
    archive(root, target)
    return target


def kvm_works(kit: Kit) -> bool:
    """Boot a guest under KVM until its init speaks, or fails to."""
    if not Path("/dev/kvm").exists():
        return False
    with tempfile.TemporaryDirectory() as folder:
        words = ["-accel", "kvm", "-m", "192", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
        boot = ["-kernel", str(kit.kernel), "-initrd", str(_probe_initramfs(Path(folder)))]
        try:
            done = subprocess.run(
                ["qemu-system-x86_64", *words, *boot, "-append", "console=ttyS0 quiet panic=-1"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return _TOKEN.encode() in (error.stdout or b"")
        return _TOKEN.encode() in done.stdout


def accelerator(kit: Kit) -> Literal["kvm", "qemu"]:
    """The domain type for this machine, in libvirt's words. Remembered until the next boot, which may bring KVM."""
    note = kit.directory.parent / f"accelerator-{boot_id()}"
    if not note.exists():
        note.write_text("kvm" if kvm_works(kit) else "qemu")
    return "kvm" if note.read_text() == "kvm" else "qemu"
