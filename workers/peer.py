"""The other end of an NBD connection: the process that must serve it, shown by the kernel (SO_PEERCRED).

A path proves nothing. QEMU unlinks what is at a path before it binds, so whoever bound last serves all who connect, and all
QEMUs of a host run as one user. The kernel notes the process that called listen(2), and tells it to whoever connects. [unix(7)]
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from freezeframe.errors import EXIT_FAILED, FreezeframeError

_UCRED: Final = struct.Struct("iII")  # pid, uid, gid


class WrongPeerError(FreezeframeError):
    """Another process than the guest's own QEMU answers at the guest's socket."""

    code = "wrong-peer"
    exit_code = EXIT_FAILED
    advice = (
        "Nothing was stored from it. Look on that host which program that process is, and how it came to that socket; "
        "then capture again."
    )


@dataclass(frozen=True)
class Peer:
    """The process that must be at the other end. `name` is how messages call it, as in `the QEMU of guest alpha`."""

    name: str
    pid: int  # as this process's PID namespace counts

    def connect(self, path: Path) -> socket.socket:
        """Connect to `path`, and to no other process than this. Raises WrongPeerError and OSError."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
            self.check(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection

    def check(self, connection: socket.socket, path: Path) -> None:
        """Raise WrongPeerError unless this process serves `connection`."""
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(packed)
        if pid != self.pid:
            # the kernel tells 0 for a process outside this one's PID namespace
            found = f"process {pid} (user {uid})" if pid else f"a process of another PID namespace (user {uid})"
            raise WrongPeerError(f"At {path} answers {found}, which is not {self.name}, process {self.pid}.")
