"""Check that QEMU's user can reach the disks that a guest is defined upon: it must pass through every directory above them.

libvirt gives a disk to QEMU's user when the guest starts, and no directory. Asked before anything is written, as that user, and
from the root directory of process 1: a container's own directories are not there for a guest of the host.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from workers import as_qemu
from workers.restore.errors import RestoreRefusedError

_TIMEOUT_S: Final = 10.0
#: The host's first, also in a container that has the host's PID namespace.
_FIRST_PROCESS: Final = 1


class TargetUnreachableError(RestoreRefusedError):
    """QEMU's user cannot reach the directory that a guest's disks are restored to."""

    code = "target-unreachable"


def check_reachable(directory: Path, user: tuple[int, int] | None) -> None:
    """Raise TargetUnreachableError if this user and group cannot pass through `directory`, or what there is of it.

    What is missing of it will be made so that others can pass. Nothing is told where it cannot be tried: libvirt names no user,
    or this process may not become it.
    """
    if user is None or (os.geteuid() != 0 and os.geteuid() != user[0]):
        return
    uid, gid = user
    place = next(one for one in (directory, *directory.parents) if one.is_dir())
    found = place.stat()
    order = {
        "uid": uid,
        "gid": gid,
        "groups": _groups(uid, gid),
        "directories": [[str(place), found.st_dev, found.st_ino]],
    }
    for fault in _faults(order, place):
        raise _refusal(directory, uid, fault)


def _faults(order: Mapping[str, Any], place: Path) -> list[Any]:
    """Return what stops QEMU's user on the host; as seen from here, where process 1 is not to be looked at."""
    try:
        done = as_qemu.run({**order, "pid": _FIRST_PROCESS}, _TIMEOUT_S)
        if done.returncode:
            done = as_qemu.run(order, _TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise TargetUnreachableError(f"{place} has not answered for {_TIMEOUT_S:g} s.") from error
    faults: list[Any] = [] if done.returncode else json.loads(done.stdout)["faults"]
    return faults


def _refusal(directory: Path, uid: int, fault: Mapping[str, Any]) -> TargetUnreachableError:
    told = f"A guest that is defined upon disks in {directory} could not be started:"
    if fault["number"] in {errno.ENOENT, errno.ESTALE}:
        return TargetUnreachableError(
            f"{told} for the host, {fault['at']} is not the directory that it is for this process.",
            advice="In a container, restore to a directory that it has from the host, at the same path.",
        )
    return TargetUnreachableError(
        f"{told} QEMU's user {uid} cannot pass through {fault['at']} ({fault['why']}).",
        advice=f"`chmod o+x {shlex.quote(fault['at'])}`, or restore to another directory, such as one below "
        "/var/lib/libvirt/images.",
    )


def _groups(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]
