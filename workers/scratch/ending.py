"""Ending a guest's backup before its release: the export and the scratch files go, the checkpoint stays for the release."""

from __future__ import annotations

from contextlib import suppress

import structlog

from freezeframe.contract.fault import Fault
from workers.host import Host
from workers.hypervisor import backup, lost
from workers.hypervisor.errors import GuestGoneError
from workers.journal import FreedChange, GivenUpChange
from workers.scratch.errors import ScratchRunsOutError
from workers.scratch.open_backups import OpenBackup

log = structlog.get_logger("scratch")


def give_up(host: Host, one: OpenBackup) -> None:
    """End the backup of a guest that grows too fast. The reason is on disk first, so that its transfers fail with it."""
    error = ScratchRunsOutError(
        f"Guest {one.guest} rewrites its disks faster than they are read, and {host.settings.scratch_dir} on host "
        f"{host.host_id} is nearly full; its backup was ended, so that no write of a guest fails."
    )
    log.warning("giving up a backup", capture=one.capture_id, guest=one.guest, why=error.message)
    note(host, one, Fault.of(error, guest=one.guest, host=host.host_id))
    end(host, one)


def note(host: Host, one: OpenBackup, fault: Fault) -> None:
    """Write down why a backup is given up: from then on its transfers fail, also one that has read all. Raises OSError."""
    host.journal.of(one.capture_id).record(GivenUpChange(guest_uuid=one.guest_uuid, fault=fault))


def end(host: Host, one: OpenBackup) -> None:
    """End a backup, remove its scratch files and give its room back; twice is once. Raises HypervisorError, OSError.

    What libvirt has lost is left to the release: until then QEMU goes on writing to these files.
    """
    with suppress(GuestGoneError):  # and its QEMU with it
        domain = host.hypervisor.domain(one.guest_uuid)
        if not backup.end(domain, one.socket) and domain.active() and lost.is_lost(domain):
            return
    for path in (*one.scratch, one.socket):
        path.unlink(missing_ok=True)
    if host.claims.may_be_held(one.guest_uuid, one.capture_id):  # else the release was here meanwhile
        host.journal.of(one.capture_id).record(FreedChange(guest_uuid=one.guest_uuid))
    log.info("backup ended", capture=one.capture_id, guest=one.guest)
