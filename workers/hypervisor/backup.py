"""Backups of a guest's disks: begun in one QMP transaction, so that all disks of a guest share an instant.

In pull mode QEMU serves each disk's state at the instant over NBD, on a Unix socket, and saves what the guest overwrites
meanwhile to scratch files. The scratch files are made ahead (REUSE_EXTERNAL), which takes a third off the begin. Disks that
are not listed would be left out in silence by libvirt, so every disk is listed here. [formatbackup, qemu_backup.c]
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import libvirt
from lxml import etree

from workers.hypervisor.disk import parse, text
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError, telling

#: Seconds until a backup that was told to end has ended, and between two looks. It takes tens of milliseconds.
END_S = 10.0
LOOK_S = 0.005
#: Seconds after which libvirt is made to look at the jobs' ends itself (`_nudge`).
NUDGE_AFTER_S = 0.5


@dataclass(frozen=True)
class BackupDisk:
    """One disk of a backup; `incremental` names the checkpoint since which changes are wanted.

    `secret` is the UUID of the passphrase of an encrypted scratch file.
    """

    target: str
    scratch: Path
    incremental: str | None = None
    secret: str | None = None


def bitmap_name(target: str) -> str:
    """The name under which the export shows which blocks have changed."""
    return f"changed-{target}"


def backup_xml(socket: Path, disks: Sequence[BackupDisk], left_out: Sequence[str]) -> str:
    """What backupBegin wants to know. Pure."""
    root = etree.Element("domainbackup", mode="pull")
    etree.SubElement(root, "server", transport="unix", socket=str(socket))
    listing = etree.SubElement(root, "disks")
    for disk in disks:
        element = etree.SubElement(listing, "disk", name=disk.target, backup="yes", type="file", exportname=disk.target)
        if disk.incremental:
            element.set("backupmode", "incremental")
            element.set("incremental", disk.incremental)
            element.set("exportbitmap", bitmap_name(disk.target))
        else:
            element.set("backupmode", "full")
        etree.SubElement(element, "driver", type="qcow2")
        scratch = etree.SubElement(element, "scratch", file=str(disk.scratch))
        if disk.secret:
            encryption = etree.SubElement(scratch, "encryption", format="luks")
            etree.SubElement(encryption, "secret", type="passphrase", uuid=disk.secret)
    for target in left_out:
        etree.SubElement(listing, "disk", name=target, backup="no")
    return text(root)


def begin(domain: Domain, backup: str, checkpoint: str | None) -> None:
    """Begin the backup, and the checkpoint with it. The instant lies within this call."""
    with telling(f"beginning the backup of {domain}"):
        domain.handle.backupBegin(backup, checkpoint, libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL)


def current_socket(domain: Domain) -> Path | None:
    """The socket of the backup that runs on this guest, or None if none does."""
    found = _current(domain)
    if found is None:
        return None
    server = found.find("server")
    return Path(server.get("socket", "")) if server is not None else Path()


def scratch_files(domain: Domain) -> list[Path]:
    """Return the scratch files of the backup that runs on this guest."""
    found = _current(domain)
    return [] if found is None else [Path(one.get("file", "")) for one in found.iterfind("disks/disk/scratch")]


def _current(domain: Domain) -> etree._Element | None:
    try:
        with telling(f"asking for the backup of {domain}"):
            return parse(domain.handle.backupGetXMLDesc())
    except HypervisorError as error:
        if error.libvirt_code in {libvirt.VIR_ERR_NO_DOMAIN_BACKUP, libvirt.VIR_ERR_OPERATION_INVALID}:
            return None
        raise


def end(domain: Domain, socket: Path) -> bool:
    """End the backup that serves `socket` and wait until it has ended; return True if there was one. Leave others alone.

    There is no virDomainBackupEnd: a pull backup ends by aborting its job, and reports COMPLETED. That says nothing about
    whether its data was read. [qemu_backup.c] Raises HypervisorError if it has not ended within END_S.
    """
    if not domain.active() or current_socket(domain) != socket:
        return False
    try:
        with telling(f"ending the backup of {domain}"):
            domain.handle.abortJob()
    except HypervisorError:
        if current_socket(domain) == socket:
            raise  # else the watcher and a release have ended it at once, or the guest has
    told = time.monotonic()
    while current_socket(domain) == socket:
        waited_s = time.monotonic() - told
        if waited_s > END_S:
            raise HypervisorError(f"The backup of {domain} has not ended within {END_S:g} s.")
        if waited_s > NUDGE_AFTER_S:
            _nudge(domain)
        time.sleep(LOOK_S)
    return True


def _nudge(domain: Domain) -> None:
    """Make libvirt take notice that the jobs of an aborted backup have ended.

    It has one thread for the events of all guests [qemu_driver.c, workerPool]. An agent's channel that closed or opened
    during a backup keeps that thread waiting for the backup to end, for 30 s [processSerialChangedEvent: its kind of job is
    not in the backup's mask], and the news of the end wait behind it. After that the change is dropped: if it was a close,
    libvirt answers that the agent "disappeared" until it closes again or libvirtd is started anew. A blockJobAbort of a job
    that is being ended is refused, and looks at the job's state on its way out, in its own thread [qemuBlockJobSyncEnd].
    Seen with libvirt 9.0; 11.3 has the same code.
    """
    current = _current(domain)
    if current is None:
        return
    for target in (disk.get("name", "") for disk in current.iterfind("disks/disk") if disk.get("backup") != "no"):
        if domain.block_job_type(target) in {None, libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP}:
            with suppress(libvirt.libvirtError):  # refused: that is what it is for
                domain.handle.blockJobAbort(target)
