"""The socket of a guest's export, and the process that must serve it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from freezeframe.contract.order import TransferOrder
from freezeframe.errors import EXIT_UNREACHABLE, FreezeframeError
from workers.host import Host
from workers.journal import BackupChange
from workers.peer import Peer


class NoBackupError(FreezeframeError):
    """This host has begun no backup of the guest for this capture."""

    code = "no-backup"
    exit_code = EXIT_UNREACHABLE
    advice = "The guest or its backup has ended meanwhile; capture it again."


@dataclass(frozen=True)
class ServedExport:
    """The socket at which a guest's QEMU serves its disks, and the peer to expect there."""

    socket: Path
    peer: Peer


def export_of(host: Host, order: TransferOrder) -> ServedExport:
    """Return what the hold wrote down of the guest's backup. Raises NoBackupError, JournalUnreadableError, QemuUnknownError.

    Not made up anew from ids: a guest that was started again since has another directory, and another QEMU. Only this guest's
    journal is read: one of another guest of the capture that is damaged is that guest's own trouble.
    """
    changes = host.journal.of(order.capture_id).guest(order.guest_uuid).changes()
    begun = [one for one in changes if isinstance(one, BackupChange)]
    if not begun:
        raise NoBackupError(
            f"The journal of host {host.host_id} has no backup of guest {order.guest_name} in capture {order.capture_id}."
        )
    return ServedExport(begun[-1].socket, host.qemu(order.guest_name, order.guest_uuid).peer)
