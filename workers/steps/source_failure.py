"""Why an export failed in the middle of a transfer: a closed connection says nothing, the journal and libvirt do.

the export fails ─▶ the backup was given up?         ─▶ its reason: scratch-runs-out, disk-shared
                 └▶ the guest is off, gone, or was started again meanwhile? ─▶ guest-stopped
                 └▶ else: as the export told
"""

from __future__ import annotations

import re
import time
from typing import Final

import structlog

from freezeframe.contract.order import TransferOrder
from freezeframe.contract.result import TransferResult
from freezeframe.errors import FreezeframeError
from workers.export import ExportError
from workers.host import Host
from workers.hypervisor import backup
from workers.hypervisor.errors import GuestGoneError, HypervisorError
from workers.journal import BackupChange
from workers.qemu_process import QemuUnknownError
from workers.refusal import SecondWriterError
from workers.scratch.errors import ScratchRunsOutError
from workers.scratch.open_backups import given_up
from workers.steps.transfer import transfer as read_disk

log = structlog.get_logger("transfer")

#: Seconds for libvirt to notice the end of a QEMU, which closes its exports first and then writes what its images lack.
NOTICE_S: Final = 10.0
AFTER_BACKUP_S: Final = 2.0
LOOK_S: Final = 0.05

#: libvirt's directory of a guest that runs, `domain-<number of the start>-<name>`. [virDomainDefGetShortName]
_START: Final = re.compile(r"/domain-(\d+)-[^/]*/")


class GuestStoppedError(FreezeframeError):
    """The guest did not run on until its disks were read."""

    code = "guest-stopped"
    advice = "A backup ends with the guest's QEMU. Capture the guest again while it runs."


def transfer(host: Host, order: TransferOrder) -> TransferResult:
    """Store one disk as it was at the instant. Raises FreezeframeError, which names the cause if the export fails."""
    raise_given_up(host, order)
    started = _start_id(host, order)
    try:
        return read_disk(host, order)
    except (ExportError, QemuUnknownError) as error:
        raise_given_up(host, order)
        if (what := _what_stopped(host, order, started)) is not None:
            raise GuestStoppedError(
                f"Guest {order.guest_name} {what} while disk {order.target} was read; the capture has nothing of this guest."
            ) from error
        raise


def raise_given_up(host: Host, order: TransferOrder) -> None:
    """Raise the reason for which the guest's backup was given up, if it was."""
    fault = given_up(host.journal.of(order.capture_id), order.guest_uuid)
    if fault is not None:
        kind = SecondWriterError if fault.code == SecondWriterError.code else ScratchRunsOutError
        raise kind(fault.message, advice=fault.advice)


def _start_id(host: Host, order: TransferOrder) -> int | None:
    """Return in which start of the guest its backup was begun; None if that is not known, which is no reason not to read.

    The export's socket lies in the directory that libvirt makes for each start of a guest.
    """
    for one in reversed(_backups(host, order)):
        if (match := _START.search(str(one.socket))) is not None:
            return int(match[1])
    try:
        return host.hypervisor.domain(order.guest_uuid).start_id()
    except HypervisorError:
        return None


def _backups(host: Host, order: TransferOrder) -> list[BackupChange]:
    record = host.journal.of(order.capture_id).guest(order.guest_uuid).read()
    return [one for one in record.changes if isinstance(one, BackupChange)]


def _what_stopped(host: Host, order: TransferOrder, started: int | None) -> str | None:
    """Say how the guest stopped; None if it runs, and its backup failed for another reason.

    Waits while libvirt still tells of the backup whose export failed, at most NOTICE_S. A guest that runs without it may be
    one whose QEMU is on its way out: that is looked at for AFTER_BACKUP_S more.
    """
    deadline = time.monotonic() + NOTICE_S
    sockets = {one.socket for one in _backups(host, order)}
    while True:
        try:
            domain = host.hypervisor.domain(order.guest_uuid)
            if backup.current_socket(domain) not in sockets:
                deadline = min(deadline, time.monotonic() + AFTER_BACKUP_S)
            if (how := domain.how_stopped()) is not None:
                return how
            if started not in {None, -1} and domain.start_id() not in {started, -1}:
                return "was stopped and started again"
        except GuestGoneError:
            return "stopped and is gone from the host"
        except HypervisorError as error:  # it may pass: libvirt refuses some questions while a guest shuts down
            log.warning("cannot tell yet whether the guest stopped", guest=order.guest_name, why=str(error))
        if time.monotonic() > deadline:
            return None
        time.sleep(LOOK_S)
