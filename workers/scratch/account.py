"""The account: how much room for scratch files is promised to whom, and whether one more guest fits.

Nothing is kept but the journals: a reservation is a line there, stands as long as its guest's claim, and counts less what
its files occupy already, since the file system counts those itself.

    free room   ├── promised and not yet occupied, by guest ──┤── left for one more ──┤

A lock file makes asking and promising one step for all threads and processes of the host.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

from workers.claims import Claims
from workers.host import Host
from workers.journal import AnyChange, CaptureJournal, ClaimChange, FreedChange, ReservationChange, ScratchChange
from workers.scratch.errors import ScratchSpaceError

#: The least that is reserved for a guest, however small its disks.
LEAST_BYTES: Final = 64 << 20

_QCOW2_SIZE: Final = slice(24, 32)  # of the header: the virtual size, big-endian [QEMU docs/interop/qcow2]


@dataclass(frozen=True)
class Reservation:
    """The bytes that one guest's scratch files may grow to, and those that they occupy already."""

    capture_id: str
    guest_uuid: str
    guest: str
    promised_bytes: int
    occupied_bytes: int

    @property
    def outstanding_bytes(self) -> int:
        return max(0, self.promised_bytes - self.occupied_bytes)


def needed_bytes(disk_bytes: Iterable[int], share: float) -> int:
    """Return what a guest with disks of these sizes reserves. Pure."""
    return max(int(sum(disk_bytes) * share), LEAST_BYTES)


def reserve(host: Host, journal: CaptureJournal, change: ReservationChange) -> None:
    """Promise a guest its room, in its capture's journal. Raises ScratchSpaceError if it does not fit beside the others."""
    with _alone(host):
        check(host, change, reservations(host), shutil.disk_usage(host.settings.scratch_dir).free)
        journal.record(change)


def check(host: Host, change: ReservationChange, others: Sequence[Reservation], free_bytes: int) -> None:
    """Raise ScratchSpaceError, which names who has the room, if `change` does not fit."""
    reserved = sum(other.outstanding_bytes for other in others)
    if free_bytes - reserved >= change.needed_bytes:
        return
    where = host.settings.scratch_dir
    message = (
        f"The scratch files of guest {change.guest} need {_mib(change.needed_bytes)} on host {host.host_id}, "
        f"and {where} has {_mib(free_bytes)} free"
    )
    advice = f"Make room in {where}, or set FREEZEFRAME_SCRATCH_DIR to a larger file system."
    if not reserved:
        raise ScratchSpaceError(f"{message}.", advice=advice)
    raise ScratchSpaceError(
        f"{message}, of which {_mib(reserved)} are reserved: {_listed(others)}.",
        advice=f"Capture fewer guests of that host at once, or wait for the captures that have the room. {advice}",
    )


def reservations(host: Host) -> list[Reservation]:
    """Return all reservations that stand on this host."""
    return [one for journal in host.journal.unended() for one in _of_capture(host, journal)]


def occupied_bytes(paths: Iterable[Path]) -> int:
    """Return what these files occupy together; one that is missing occupies nothing."""
    total = 0
    for path in paths:
        with suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


def _of_capture(host: Host, journal: CaptureJournal) -> list[Reservation]:
    try:
        guests = journal.guests()
    except OSError:
        return _of_files(host, journal.capture_id, "*")
    return [one for uuid in guests for one in _of_guest(host, journal, uuid)]


def _of_guest(host: Host, journal: CaptureJournal, uuid: str) -> list[Reservation]:
    """Return what the guest's journal says; what its files say if that cannot be read: unreadable is not absent."""
    record = journal.guest(uuid).read()
    if record.trouble:
        return _of_files(host, journal.capture_id, f"{uuid}.*")
    return _standing(host.claims, journal.capture_id, record.changes)


def _standing(claims: Claims, capture_id: str, changes: Sequence[AnyChange]) -> list[Reservation]:
    """Return the reservations that a journal's changes leave standing: the last of each guest that is not undone or freed."""
    last: dict[str, ReservationChange] = {}
    files: dict[str, set[Path]] = {}
    for change in changes:
        if isinstance(change, ReservationChange):
            last[change.guest_uuid] = change
        elif isinstance(change, FreedChange | ClaimChange):  # claimed anew: what was before is undone
            last.pop(change.guest_uuid, None)
        elif isinstance(change, ScratchChange):
            files.setdefault(change.guest_uuid, set()).add(change.path)
    return [
        Reservation(capture_id, uuid, change.guest, change.needed_bytes, occupied_bytes(files.get(uuid, ())))
        for uuid, change in last.items()
        if claims.may_be_held(uuid, capture_id)
    ]


def _of_files(host: Host, capture_id: str, names: str) -> list[Reservation]:
    found = []
    for path in sorted((host.settings.scratch_dir / capture_id).glob(names)):
        promised = int(_virtual_bytes(path) * host.settings.scratch_share)
        found.append(Reservation(capture_id, "", path.name, promised, occupied_bytes([path])))
    return found


def _virtual_bytes(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return int.from_bytes(file.read(_QCOW2_SIZE.stop)[_QCOW2_SIZE], "big")
    except OSError:
        return 0


@contextmanager
def _alone(host: Host) -> Iterator[None]:
    with (host.settings.state_dir / "scratch.lock").open("w") as file:
        flock(file, LOCK_EX)
        yield


def _listed(others: Sequence[Reservation]) -> str:
    by_capture: dict[str, list[Reservation]] = {}
    for other in others:
        if other.outstanding_bytes:
            by_capture.setdefault(other.capture_id, []).append(other)
    return ", ".join(
        f"{_mib(sum(one.outstanding_bytes for one in found))} by capture {capture_id} "
        f"for {', '.join(sorted(one.guest for one in found))}"
        for capture_id, found in sorted(by_capture.items())
    )


def _mib(count: int) -> str:
    return f"{count >> 20} MiB"
