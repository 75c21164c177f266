"""Scratch files, made in prepare so that the hold need not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from freezeframe.contract.result import PreparedDisk
from workers import durable
from workers.host import Host
from workers.hypervisor.domain import Domain
from workers.journal import CaptureJournal, ReservationChange, ScratchChange
from workers.scratch import account
from workers.scratch.errors import ScratchSpaceError


def make_files(host: Host, journal: CaptureJournal, domain: Domain, disks: Sequence[PreparedDisk]) -> None:
    """Reserve a guest's room and make its scratch files. Raises ScratchSpaceError."""
    durable.make_directory(host.settings.scratch_dir, durable.PASSABLE)
    needed = account.needed_bytes((disk.size_bytes for disk in disks), host.settings.scratch_share)
    change = ReservationChange(
        guest_uuid=domain.uuid,
        guest=domain.name,
        needed_bytes=needed,
        targets=tuple(disk.target for disk in disks),
        images=tuple(Path(disk.source) for disk in disks if disk.checkpoint and disk.source.startswith("/")),
    )
    account.reserve(host, journal, change)
    for disk in disks:
        _make_file(host, journal, domain, disk)


def _make_file(host: Host, journal: CaptureJournal, domain: Domain, disk: PreparedDisk) -> None:
    path = host.scratch_file(journal.capture_id, domain.uuid, disk.target)
    durable.make_directory(path.parent, durable.PASSABLE)
    journal.record(ScratchChange(guest_uuid=domain.uuid, path=path))
    command = ["qemu-img", "create", "-q", "-f", "qcow2", os.fspath(path), str(disk.size_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ScratchSpaceError(
            f"The scratch file for disk {disk.target} of guest {domain.name} cannot be made: {done.stderr.strip()}",
            advice="Look at the file system of FREEZEFRAME_SCRATCH_DIR.",
        )
    path.chmod(0o600)  # others pass through the directories, and libvirt gives the file to QEMU's user
