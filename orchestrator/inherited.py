"""The findings of audits: disks that differ from their older captures. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from freezeframe.contract.result import PrepareResult, TransferResult


def warnings_of(prepared: Sequence[PrepareResult], transferred: Sequence[TransferResult]) -> list[tuple[str, str]]:
    """Return a warning for each such disk, with the UUID of its guest."""
    disks = {
        (guest.guest_uuid, disk.target): (guest.name, disk.parent_capture_id)
        for result in prepared
        for guest in result.guests
        for disk in guest.disks
    }
    found = []
    for result in transferred:
        if result.inherited_differs:
            guest, older = disks.get((result.guest_uuid, result.target), (result.guest_uuid, None))
            found.append((result.guest_uuid, _warning(guest, result.target, older)))
    return found


def _warning(guest: str, target: str, older: str | None) -> str:
    return (
        f"Disk {target} of guest {guest} is not what capture {older} has of it, although no change was recorded. It was read "
        f"in full. That capture, and those before it, may be of another disk: look at it with `freezeframe verify {older}`."
    )
