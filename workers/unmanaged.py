"""QEMUs that run without libvirt: libvirt has lost their guests, and calls them shut off.

A libvirtd that dies at the wrong moment cannot read its own state of a guest when it is back (`workers/guard/agent_line.py`).
The guest runs on. Starting it again would have two QEMUs write to its disks.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

#: The state of such a guest in the inventory, beside virsh's words.
UNMANAGED = "unmanaged"

PROC = Path("/proc")


def running_qemus(proc: Path = PROC) -> dict[str, int]:
    """Return the pid of each process on this host that was started as the QEMU of a guest, by the guest's UUID."""
    found = {}
    for directory in proc.iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if b"qemu" not in words[0]:
            continue
        for option, value in pairwise(words):
            if option == b"-uuid":
                found[value.decode(errors="replace")] = int(directory.name)
    return found


def trouble_of(pid: int) -> str:
    """Return what is told about a guest whose QEMU, process `pid`, runs without libvirt."""
    return (
        f"Its QEMU, process {pid}, runs, and libvirt has lost it: do not start the guest before that process has ended, "
        "or two will write to its disks."
    )
