"""A guest's QEMU: its process, the user that it runs as, and the directory that is this guest's alone.

    <libvirt_run_dir>/<guest's name>.xml    libvirt's own note of a running guest: root's, mode 0600, replaced as a whole
        domstatus pid="…"                   QEMU's process
        libDir path="…"                     …/lib/libvirt/qemu/domain-<id>-<short name>
        domain/uuid

libvirt's API tells none of these. [libvirt src/qemu/qemu_domain.c, qemuDomainObjPrivateXMLFormat; since 1.3.3]
That directory belongs to QEMU's user. It is in the AppArmor profile of this guest and of no other [virt-aa-helper.c], and has
this guest's SELinux label [qemu_process.c, qemuSecurityDomainSetPathLabel].

Both identities are checked: the note is of that UUID, and that process was started as that guest's QEMU (`-uuid`). The second
alone would prove nothing, since a process can write over its own command line; the first could be older than the process.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from freezeframe.errors import EXIT_REFUSED, FreezeframeError
from workers.hypervisor.disk import parse
from workers.peer import Peer

#: The longest path that a Unix socket can have: sun_path has 108 bytes, one of them for its end. [unix(7)]
SOCKET_PATH_BYTES: Final = 107
#: The least room for an export socket's name: as libvirt's own beside it, `monitor.sock`, needs; without that no guest starts.
LEAST_NAME_BYTES: Final = 12
#: The characters of a hash that say as much as a capture's id does, at 5 bits each.
_WHOLE_ID: Final = 26


class QemuUnknownError(FreezeframeError):
    """libvirt's note of a running guest is missing, or does not fit the guest."""

    code = "qemu-unknown"
    exit_code = EXIT_REFUSED
    advice = (
        "Freezeframe must see libvirt's directory of running guests, and their processes. Set FREEZEFRAME_LIBVIRT_RUN_DIR if "
        "it is elsewhere; give a worker in a container that directory and the host's PID namespace."
    )


class SocketPathTooLongError(FreezeframeError):
    """No socket fits into the directory that libvirt has made for the guest."""

    code = "socket-path-too-long"
    exit_code = EXIT_REFUSED
    advice = "Give the guest a shorter name (`virsh domrename`, while it is off)."


@dataclass(frozen=True)
class QemuProcess:
    """One guest's running QEMU."""

    guest: str
    uuid: str
    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]
    directory: Path

    @property
    def peer(self) -> Peer:
        """The other end of every connection to this guest's exports."""
        return Peer(f"the QEMU of guest {self.guest}", self.pid)

    def export_socket(self, capture_id: str) -> Path:
        """Return the path at which this QEMU shall serve a capture's exports. Raises SocketPathTooLongError.

        libvirt takes 20 characters of the guest's name for the directory, of up to 4 bytes each. [libvirt domain_conf.c:
        virDomainDefGetShortName] Where that leaves no room for the capture's id, the socket is named by as much of its hash as
        fits, 60 bits at least. Only captures of this one guest have sockets there.
        """
        path = self.directory / f"{capture_id}.sock"
        if len(bytes(path)) <= SOCKET_PATH_BYTES:
            return path
        room = SOCKET_PATH_BYTES - len(bytes(self.directory)) - len("/")
        if room < LEAST_NAME_BYTES:
            raise SocketPathTooLongError(
                f"The socket of guest {self.guest} would be in {self.directory}, which leaves {room} bytes of "
                f"{SOCKET_PATH_BYTES} for its name; {LEAST_NAME_BYTES} are needed."
            )
        return self.directory / hashed(capture_id)[:room]


def hashed(capture_id: str) -> str:
    """Return a name for a socket that says as much as the id does; any beginning of it is one too."""
    digest = hashlib.sha256(capture_id.encode()).digest()
    return base64.b32encode(digest).decode().lower()[:_WHOLE_ID]


def find(run_dir: Path, name: str, uuid: str, proc: Path = Path("/proc")) -> QemuProcess:
    """Return the QEMU of the running guest. Raises QemuUnknownError."""
    note = run_dir / f"{name}.xml"
    pid, directory = _read_note(note, name, uuid)
    try:
        status = _fields((proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace"))
        command = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError as error:
        raise QemuUnknownError(
            f"The QEMU of guest {name}, process {pid} by {note}, is not to be seen: {error}."
        ) from error
    if (b"-uuid", uuid.encode()) not in pairwise(command):
        raise QemuUnknownError(f"Process {pid}, by {note} the QEMU of guest {name}, was not started as QEMU of {uuid}.")
    effective = 1  # of real, effective, saved and for file systems [proc(5)]
    return QemuProcess(
        guest=name,
        uuid=uuid,
        pid=pid,
        uid=int(status["Uid"].split()[effective]),
        gid=int(status["Gid"].split()[effective]),
        groups=tuple(int(group) for group in status["Groups"].split()),
        directory=directory,
    )


def _read_note(note: Path, name: str, uuid: str) -> tuple[int, Path]:
    try:
        root = parse(note.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise QemuUnknownError(f"libvirt's note of guest {name}, {note}, cannot be read: {error}.") from error
    found, pid, directory = root.findtext("domain/uuid"), root.get("pid", ""), root.find("libDir")
    path = Path(directory.get("path", "")) if directory is not None else Path()
    if found != uuid or not pid.isdecimal() or not path.is_absolute():
        raise QemuUnknownError(f"libvirt's note of guest {name}, {note}, does not tell of {uuid} where its QEMU is.")
    return int(pid), path


def _fields(status: str) -> Mapping[str, str]:
    return {key: value for key, _, value in (line.partition(":") for line in status.splitlines())}
