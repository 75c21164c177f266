"""Check that QEMU's user can reach the disks that a guest is defined upon: it must pass through every directory above them.

libvirt gives a disk to QEMU's user when the guest starts, and no directory. Asked before anything is written, as that user.
"""

from __future__ import annotations

import json
import os
import pwd
import shlex
import subprocess
from pathlib import Path
from typing import Final

from workers import as_qemu
from workers.restore.errors import RestoreRefusedError

_TIMEOUT_S: Final = 10.0


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
    order = {"uid": uid, "gid": gid, "groups": _groups(uid, gid), "directories": [str(place)]}
    try:
        done = as_qemu.run(order, _TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise TargetUnreachableError(f"{place} has not answered for {_TIMEOUT_S:g} s.") from error
    for fault in json.loads(done.stdout)["faults"] if not done.returncode else ():
        raise TargetUnreachableError(
            f"A guest that is defined upon disks in {directory} could not be started: QEMU's user {uid} cannot pass through "
            f"{fault['at']} ({fault['why']}).",
            advice=f"`chmod o+x {shlex.quote(fault['at'])}`, or restore to another directory, such as one below "
            "/var/lib/libvirt/images.",
        )


def _groups(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]
