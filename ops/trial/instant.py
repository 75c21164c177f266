"""Whether a captured disk shows the instant that the hold says: what the guest itself remembers, against what is on the disk.

    guest's memory   … S-1 ack ── S ack ────────── held ────────── S+1 ack …      no acknowledgement while held
    captured disk    … S-1        S                                               ends with record S

If S had been written but not acknowledged when the hold came, the gap lies before its own acknowledgement.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from freezeframe.contract.proof import GuestProof
from ops.lab.guest import Guest
from ops.lab.workload import Record, disk_log

#: The guest's clock is read to a hundredth of a second, twice.
CLOCK_S = 0.02


def file_on(image: Path, path: str) -> bytes:
    """A file on a raw image of an ext4 filesystem, without mounting it: a frozen filesystem needs no replay."""
    done = subprocess.run(["debugfs", "-R", f"cat {path}", str(image)], capture_output=True, check=True)
    return done.stdout


def instant_fault(guest: Guest, target: str, image: Path, proof: GuestProof) -> str | None:
    """Why the restored `image` cannot be of the instant that the proof tells; None if it can."""
    if proof.held_ns is None or proof.thaw_start_ns is None:
        return "the guest was not held"
    held_s = (proof.thaw_start_ns - proof.held_ns) / 1e9
    on_disk = disk_log(file_on(image, "/log").decode(errors="replace"))
    if not on_disk:
        return "there is no record on the disk"
    return gap_fault(guest.workload_log(target), on_disk[-1][0], held_s)


def gap_fault(remembered: list[Record], last: int, held_s: float) -> str | None:
    """Why a disk that ends with record `last` was not taken in a hold of this length; None if it can have been. Pure."""
    acks = {record.seq: record.after_s for record in remembered}
    if not {last - 1, last, last + 1} <= acks.keys():
        return f"the guest does not remember the records around {last}"
    gap_s = max(acks[last + 1] - acks[last], acks[last] - acks[last - 1])
    if gap_s < held_s - CLOCK_S:
        return f"record {last} lies at a gap of {gap_s:.2f} s, and the guest was held for {held_s:.2f} s"
    return None
