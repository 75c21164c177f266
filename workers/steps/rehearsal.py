"""The rehearsal that ends a guest's prepare: what its QEMU will do in the hold is tried before, by a process of QEMU's user.

    scratch file    opened for reading and writing, by its path, from QEMU's root directory
    export socket   bound in the directory that libvirt made for the guest, under the name that the hold will use

libvirt gives a scratch file to QEMU's user in the hold, but no directory above it, and nothing where `dynamic_ownership` is off
[libvirt src/security/security_dac.c]; so the worker gives the file away itself, and the directories are tried. A security
module's rules do not hold for the child: docs/security.md says what those let a QEMU reach.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from workers import as_qemu
from workers.bounded import GuestHangsError, NotStartedError
from workers.host import Host
from workers.qemu_process import QemuProcess
from workers.refusal import RefusedError

#: Seconds for the child. It takes 40 ms; on a network file system whose server is away it never ends.
CHILD_S: Final = 10.0
#: Seconds for the child to have ended once it was killed: one that waits in the kernel does not end.
PATIENCE_S: Final = CHILD_S + 5.0

_HANGS: Final = (
    "Look whether the file system of FREEZEFRAME_SCRATCH_DIR answers on this host (`ls` in it), then capture again."
)
_ELSEWHERE: Final = "set FREEZEFRAME_SCRATCH_DIR to a directory of a local file system"


class ScratchUnreachableError(RefusedError):
    """QEMU's user cannot use the scratch files of a guest."""

    code = "scratch-unreachable"


class SocketUnreachableError(RefusedError):
    """QEMU's user cannot make the socket of a guest."""

    code = "socket-unreachable"
    advice = (
        "libvirt makes that directory for the guest when it starts: start the guest again, or look at who changed it."
    )


class RehearsalFailedError(RefusedError):
    """The rehearsal itself could not be held."""

    code = "rehearsal-failed"
    advice = (
        "Run the host's worker as root; in a container, with the host's PID namespace and the capabilities that compose.yaml "
        "gives it. It must see what QEMU sees, and become QEMU's user."
    )


def rehearse(host: Host, capture_id: str, qemu: QemuProcess, scratch: Sequence[Path]) -> None:
    """Give a guest's scratch files to its QEMU and try them, and the socket. Raises RefusedError, SocketPathTooLongError."""
    refused = {path: _give(path, qemu) for path in scratch}
    order = {
        "pid": qemu.pid,
        "uid": qemu.uid,
        "gid": qemu.gid,
        "groups": qemu.groups,
        "files": [[str(path), found.st_dev, found.st_ino] for path in scratch for found in (path.stat(),)],
        "socket": str(qemu.export_socket(capture_id)),
    }
    what = f"Trying the scratch files of guest {qemu.guest} as user {qemu.uid}"
    try:
        answer = host.calls.answered(f"{qemu.uuid} rehearsal", what, PATIENCE_S, lambda: _answer(qemu, order))
    except NotStartedError:
        raise  # nothing was tried, so nothing hangs
    except (GuestHangsError, subprocess.TimeoutExpired) as error:
        raise ScratchUnreachableError(f"{what} has not ended within {CHILD_S:g} s.", advice=_HANGS) from error
    for fault in answer["faults"]:
        if fault["path"] == order["socket"]:
            raise SocketUnreachableError(
                f"QEMU of guest {qemu.guest} (user {qemu.uid}) cannot make the socket {fault['path']}: "
                f"{fault['why']} at {fault['at']}."
            )
        raise scratch_refusal(qemu.guest, qemu.uid, fault, refused.get(Path(fault["path"])))


def _give(path: Path, qemu: QemuProcess) -> OSError | None:
    """Give a scratch file to QEMU's user; the error if root may not, which matters only if that user cannot use it."""
    try:
        os.chown(path, qemu.uid, qemu.gid, follow_symlinks=False)
    except OSError as error:
        return error
    return None


def _answer(qemu: QemuProcess, order: Mapping[str, Any]) -> Any:
    done = as_qemu.run(order, CHILD_S)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise RehearsalFailedError(f"What QEMU of guest {qemu.guest} may do could not be tried: {''.join(said)}.")
    return json.loads(done.stdout)


def scratch_refusal(guest: str, uid: int, fault: Mapping[str, Any], refused: OSError | None) -> ScratchUnreachableError:
    """Return the refusal for what stopped QEMU's user on its way to a scratch file. Pure."""
    path, at, number, why = fault["path"], fault["at"], fault["number"], fault["why"]
    told = f"QEMU of guest {guest} (user {uid}) cannot use its scratch file {path}: {why}"
    if number in {errno.ENOENT, errno.ESTALE}:
        return ScratchUnreachableError(
            f"{told}, although it is there for this worker: QEMU's mount namespace is older than the file system at {at}, or "
            "the worker is in a container in which another directory is there.",
            advice=f"Start the guest again now that it is mounted, or {_ELSEWHERE}. Give a container the scratch directory at "
            "the path that it has on the host.",
        )
    if at != path:
        return ScratchUnreachableError(
            f"{told} at {at}.",
            advice=f"`chmod o+x {shlex.quote(at)}`, or {_ELSEWHERE} that this user may pass through.",
        )
    if refused is not None:
        return ScratchUnreachableError(
            f"{told}. Root may not give it to that user ({refused.strerror}), as on a network file system with root squash.",
            advice=f"{_ELSEWHERE[0].upper()}{_ELSEWHERE[1:]}.",
        )
    return ScratchUnreachableError(f"{told}.", advice=f"{_ELSEWHERE[0].upper()}{_ELSEWHERE[1:]}.")
