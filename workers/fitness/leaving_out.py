"""How a disk or device is left out of a capture: by the caller, by name, or the capture is refused. Pure."""

from __future__ import annotations

import shlex

from freezeframe.contract.result import SkippedDisk
from workers.steps.refusal import DiskNotCapturableError


def left_out(target: str) -> SkippedDisk:
    """Return the record of a disk that the caller has agreed to leave out."""
    return SkippedDisk(target=target, reason="the caller left it out")


def not_capturable(guest: str, target: str, reason: str, kind: str = "Disk") -> DiskNotCapturableError:
    """Return the refusal of a disk, with the way to leave it out as advice."""
    choice = shlex.quote(f"{guest}:{target}")
    return DiskNotCapturableError(
        f"{kind} {target} of guest {guest} cannot be captured: {reason}.",
        advice=f"Leave it out with --skip-disk {choice} if you can do without it.",
    )
