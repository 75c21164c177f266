"""QEMUs that run without libvirt: libvirt has lost their guests, and calls them shut off.

A libvirtd that dies at the wrong moment cannot read its own state of a guest when it is back (`workers/guard/agent_line.py`).
The guest runs on. Starting it again would have two QEMUs write to its disks.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        if (guest_uuid := _guest_of(words)) is not None:
            found[guest_uuid] = int(directory.name)
    return found


def _guest_of(words: Sequence[bytes]) -> str | None:
    """Return the UUID of the guest whose QEMU was started with these words; None for another program.

    By libvirt's arguments (`-name guest=… -uuid …`), for its emulator may have any path: `/usr/bin/kvm`, or a wrapper.
    """
    values = dict(pairwise(words))
    if b"qemu" not in words[0] and not values.get(b"-name", b"").startswith(b"guest="):
        return None
    value = values.get(b"-uuid")
    return None if value is None else value.decode(errors="replace").lower()


def trouble_of(pid: int) -> str:
    """Return what is told about a guest whose QEMU, process `pid`, runs without libvirt."""
    return (
        f"Its QEMU, process {pid}, runs, and libvirt has lost it: do not start the guest before that process has ended, "
        "or two will write to its disks."
    )
