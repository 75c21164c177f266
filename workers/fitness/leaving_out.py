"""How a disk or device is left out of a capture: by the caller, by name, or the capture is refused. Pure."""

from __future__ import annotations

from freezeframe.contract.result import SkippedDisk
from freezeframe.naming import NamedGuest
from workers.refusal import DiskNotCapturableError


def left_out(target: str) -> SkippedDisk:
    """Return the record of a disk that the caller has agreed to leave out."""
    return SkippedDisk(target=target, reason="the caller left it out")


def not_capturable(guest: NamedGuest, target: str, reason: str, kind: str = "Disk") -> DiskNotCapturableError:
    """Return the refusal of a disk, with the way to leave it out as advice."""
    return DiskNotCapturableError(
        f"{kind} {target} of guest {guest} cannot be captured: {reason}.",
        advice=f"Leave it out with --skip-disk {guest.option(target)} if you can do without it.",
    )
