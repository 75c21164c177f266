"""Try, as the user of a guest's QEMU and in its file systems, what that QEMU will do in a hold. Run by its path, as a child.

It reads one JSON object from standard input and writes one to standard output. It starts as root, like the worker, and gives
that up before it tries anything: Python, which it runs on, need not be readable for QEMU's user. Standard library only.

    {"uid", "gid", "groups"}, and any of {"pid", "socket"} and of {"directories", "files"}: [[path, device, inode], …]
    {"faults": [{"path", "at", "number", "why"}, …]}        `at`: the first on the way to `path` that stops this user
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Fault = dict[str, Any]


def run(order: Mapping[str, Any], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run this file as a child. Raises subprocess.TimeoutExpired."""
    command = [sys.executable, "-I", "-S", __file__]
    return subprocess.run(
        command, input=json.dumps(order), capture_output=True, text=True, timeout=timeout_s, check=False
    )


def enter_root(pid: int) -> None:
    """See the file systems that QEMU sees: it may have a mount namespace of its own, and a container has one for sure.

    By its root directory, because setns(2) takes CAP_SYS_ADMIN, which a container should not have. Only root's libvirt gives
    QEMU a mount namespace, so a worker that is not root sees the same as QEMU. [proc(5): root; libvirt qemu_conf.c]
    """
    if os.geteuid() == 0:
        os.chroot(f"/proc/{pid}/root")
        os.chdir("/")


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Give up root for good; with it go the capabilities. [capabilities(7)]"""
    if os.geteuid() == uid != 0:
        return
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def fault(path: str, error: OSError) -> Fault:
    return {"path": path, "at": stopped_at(Path(path)), "number": error.errno, "why": error.strerror}


def stopped_at(path: Path) -> str:
    """Return the first of the directories above `path` that cannot be passed; `path` itself if all can."""
    for below in (*reversed(path.parents), path):
        try:
            below.lstat()
        except PermissionError:
            return str(below.parent)
        except OSError:
            return str(below)
    return str(path)


def try_file(path: str, device: int, inode: int) -> list[Fault]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return [fault(path, error)]
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return compared(path, found, (device, inode))


def try_directory(path: str, device: int, inode: int) -> list[Fault]:
    """Pass through it, without looking into it."""
    try:
        found = os.stat(f"{path}/.")  # noqa: PTH116  a Path would leave out the dot, which is what asks for passage
    except OSError as error:
        return [fault(path, error)]
    return compared(path, found, (device, inode))


def compared(path: str, found: os.stat_result, wanted: tuple[int, int]) -> list[Fault]:
    if (found.st_dev, found.st_ino) == wanted:
        return []
    return [{"path": path, "at": path, "number": errno.ESTALE, "why": "QEMU sees another file there"}]


def try_socket(path: str) -> list[Fault]:
    """As QEMU does: unlink what is there, then bind."""
    try:
        Path(path).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
        Path(path).unlink()
    except OSError as error:
        return [fault(path, error)]
    return []


def main() -> None:
    order = json.load(sys.stdin)
    if "pid" in order:
        enter_root(order["pid"])
    become(order["uid"], order["gid"], order["groups"])
    faults = [one for path in order.get("directories", ()) for one in try_directory(*path)]
    faults += [one for file in order.get("files", ()) for one in try_file(*file)]
    faults += try_socket(order["socket"]) if "socket" in order else []
    json.dump({"faults": faults}, sys.stdout)


if __name__ == "__main__":
    main()
