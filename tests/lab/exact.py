"""Captures that are compared with what qemu-img reads of the same exports, and the verb that removes their traces."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from freezeframe.repository import DiskCapture
from ops.lab.guest import Guest
from ops.system import System
from ops.trial.truth import read_truth, same_bytes, transfers_paused, wait_until_transferring

from .command import Command

Captured = dict[tuple[str, str], DiskCapture]


def captured_exactly(system: System, guests: Iterable[Guest], directory: Path, *words: str) -> Captured:
    """Capture these guests; return the disks, by guest and target, each of which has the bytes that the guest had."""
    command, guests = Command(system), list(guests)
    with transfers_paused(system):
        process = command.begin("capture", *(guest.name for guest in guests), *words)
        capture_id = wait_until_transferring(system.redis, process)
        truth = {guest.name: read_truth(guest, directory) for guest in guests}
    outcome = command.finish(process)
    assert outcome.code == 0, outcome.stderr
    disks = {(guest.name, disk.target): disk for guest, disk in system.repository.manifest(capture_id).disks()}
    assert disks.keys() == {(guest, target) for guest, disks in truth.items() for target in disks}
    for (guest, target), disk in disks.items():
        path = _stored(system, disk, directory)
        assert same_bytes(path, truth[guest][target].path), f"{target} is not what {guest} had"
        path.unlink()
    return disks


def _stored(system: System, disk: DiskCapture, directory: Path) -> Path:
    """Write what the repository has of a disk to a file."""
    path = directory / "stored"
    with path.open("wb") as file, system.repository.disk_reader(disk.index) as reader:
        file.truncate(disk.size_bytes)
        for extent in reader:
            if extent.data is not None:
                file.seek(extent.offset)
                file.write(extent.data)
    return path


def kinds(disks: Captured) -> set[str]:
    return {str(disk.kind) for disk in disks.values()}


def reasons(disks: Captured) -> set[str | None]:
    """Why these disks were read in full; None for one that was not."""
    return {disk.full_reason for disk in disks.values()}


def detach(system: System, guest: Guest) -> dict[str, Any]:
    """`freezeframe detach GUEST --yes` on the guest's host; what it tells of the guest."""
    line = system.command_line("detach", guest.name, "--yes", "--json")
    done = guest.host.run(line, env=system.settings(guest.host), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [told] = json.loads(done.stdout)["guests"]
    traces: dict[str, Any] = told
    return traces


def checkpoints(guest: Guest) -> list[str]:
    return sorted(one.getName() for one in guest.domain.listAllCheckpoints())
