"""The name of a file on a file system that other hosts may have mounted too: its server and its path there.

/proc/self/mountinfo   …  0:45  ROOT  /mnt/vm  …  -  nfs4  store:/export  rw,addr=192.0.2.1,…
                          │     │     │              │     │
                          st_dev│     mount point    kind  source
                                └ of a bind mount, what is mounted of the file system; NFS has that in the source

| file system          | keys of `/mnt/vm/i.img`, as `network_key` makes them                                          |
|----------------------|-----------------------------------------------------------------------------------------------|
| NFS                  | server as it was mounted, and its address; path there; file handle, equal in NFS 3 and 4      |
| GlusterFS, SSHFS     | as QEMU's own access to them has                                                              |
| CIFS                 | server as it was mounted, and its address; share; path there                                  |
| CephFS               | each monitor, and the cluster's id where the source has it; name of the file system; path     |
| Lustre               | each management server; path with the name of the file system                                 |
| GFS2, OCFS2          | what names the device everywhere, and the inode                                               |

Others (virtiofs, 9p, ceph-fuse, …) say nothing here that would be the same on another host.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from freezeframe.network_key import network_keys
from workers.identity.file_handle import file_handle, file_system_type

Facts = dict[str, str]

MOUNTINFO: Final = Path("/proc/self/mountinfo")
#: GFS2 and OCFS2 by statfs's f_type: file systems on a block device that several hosts mount at once. [linux/magic.h]
_CLUSTERED: Final = frozenset({0x01161970, 0x7461636F})
#: How the kernel writes blanks and backslashes in a path. [linux fs/proc_namespace.c]
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_CEPH_SOURCE: Final = re.compile(r"[^@:/]*@(?P<cluster>[0-9a-fA-F-]{36})?\.(?P<name>[^=/]+)=(?P<path>/.*)")


@dataclass(frozen=True)
class Mount:
    """A mounted file system, as far as it says where a file is."""

    kind: str
    source: str
    root: str
    point: str
    options: dict[str, str]


def keys_of_file(path: str, seen: os.stat_result) -> frozenset[str]:
    """Return the keys of a file that name it on every host; none for a file of this host. Raises OSError."""
    if os.major(seen.st_dev) != 0:  # on a block device
        return frozenset()
    resolved = os.path.realpath(path)
    mount = mount_of(resolved, seen.st_dev, MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape"))
    if mount is None:
        return frozenset()
    handle = ""
    if mount.kind in {"nfs", "nfs4"}:
        with suppress(OSError):  # a server may give none
            handle = file_handle(resolved)
    return keys_in(mount, resolved, handle)


def keys_of_open(resolved: str, device: int) -> frozenset[str]:
    """Return the keys of an open file by its path, as its link in /proc has it; none for one of this host. Asks no server."""
    text = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    mount = None if os.major(device) else mount_of(resolved, device, text)
    return keys_in(mount, resolved) if mount else frozenset()


def keys_on_device(path: str, inode: int, device: str | None) -> frozenset[str]:
    """Return the key of a file on a device that several hosts have mounted at once; none on any other. Raises OSError.

    `device` is what names its device on every host.
    """
    if device is None or file_system_type(path) not in _CLUSTERED:
        return frozenset()
    return frozenset({f"network inode {inode} of {device}"})


def mount_of(resolved: str, device: int, mountinfo: str) -> Mount | None:
    """Return the mount through which a path is reached: the last over the longest part of it. Pure."""
    number = f"{os.major(device)}:{os.minor(device)}"
    found = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(rest) < 3 or fields[2] != number:
            continue
        root, point = map(_plain, fields[3:5])
        if _is_below(resolved, point) and (found is None or len(point) >= len(found.point)):
            options = dict(option.partition("=")[::2] for option in rest[2].split(","))
            found = Mount(rest[0], _plain(rest[1]), root, point, options)
    return found


def keys_in(mount: Mount, resolved: str, handle: str = "") -> frozenset[str]:
    """Return the keys of a file in a mount. Pure. `handle` is that of a file on NFS, where it has one."""
    path = posixpath.relpath(resolved, mount.point)
    inside = f"{mount.root}/{path}"
    kind = _KINDS.get(mount.kind)
    found = kind(mount, inside, handle) if kind else ()
    return frozenset(key for facts in found for key in network_keys(facts))


def _nfs(mount: Mount, inside: str, handle: str) -> Iterator[Facts]:
    server, colon, export = mount.source.partition(":/")
    if colon:
        servers = _servers(mount, server)
        yield {"protocol": "nfs", "name": _joined(export, inside), "servers": servers}
        if handle:
            yield {"protocol": "nfs", "name": "", "servers": servers, "handle": handle}


def _gluster(mount: Mount, inside: str, _: str) -> Iterator[Facts]:
    server, colon, volume = mount.source.partition(":")
    if colon:
        yield {"protocol": "gluster", "name": _joined(volume, inside).lstrip("/"), "servers": f"{server}:"}


def _sshfs(mount: Mount, inside: str, _: str) -> Iterator[Facts]:
    server, colon, directory = mount.source.rpartition("@")[2].partition(":/")
    if colon:  # else it is below a user's home
        yield {"protocol": "ssh", "name": _joined(directory, inside), "servers": f"{server}:"}


def _cifs(mount: Mount, inside: str, _: str) -> Iterator[Facts]:
    """A share's name is the same in both cases; whether a path is, its server alone knows."""
    server, _, path = mount.source.replace("\\", "/").removeprefix("//").partition("/")
    share, _, directory = path.partition("/")
    yield {
        "protocol": "cifs",
        "name": f"{share.lower()}{_joined(directory, inside)}",
        "servers": _servers(mount, server),
    }


def _lustre(mount: Mount, inside: str, _: str) -> Iterator[Facts]:
    servers, colon, name = mount.source.rpartition(":/")
    for server in re.split(r"[:,]", servers) if colon else ():
        yield {"protocol": "lustre", "name": _joined(name, inside), "servers": f"{server}:"}


def _ceph(mount: Mount, inside: str, _: str) -> Iterator[Facts]:
    """Old: `MONITOR,MONITOR:/path`. New: `USER@CLUSTER.NAME=/path`, with the monitors as an option. [mount.ceph(8)]"""
    if new := _CEPH_SOURCE.fullmatch(mount.source):
        name, path = new["name"], _joined(new["path"], inside)
        monitors = mount.options.get("mon_addr", "").split("/")
        clusters = [new["cluster"].lower()] if new["cluster"] else []
    else:
        listed, colon, path = mount.source.rpartition(":/")
        name, path = mount.options.get("mds_namespace", mount.options.get("fs", "")), _joined(path, inside)
        monitors, clusters = listed.split(",") if colon else [], []
    servers = " ".join(f"{server}" if _has_port(server) else f"{server}:" for server in monitors if server)
    if servers:
        yield {"protocol": "cephfs", "name": path, "servers": servers, "fs": name}
    for cluster in clusters:
        yield {"protocol": "cephfs", "name": path, "servers": f"{cluster}:", "fs": name}


#: By the kind of the file system: the facts of network storage that is a file, which is `inside` it.
_KINDS: Final[Mapping[str, Callable[[Mount, str, str], Iterable[Facts]]]] = {
    "nfs": _nfs,
    "nfs4": _nfs,
    "fuse.glusterfs": _gluster,
    "fuse.sshfs": _sshfs,
    "cifs": _cifs,
    "smb3": _cifs,
    "ceph": _ceph,
    "lustre": _lustre,
}


def _servers(mount: Mount, server: str) -> str:
    port = mount.options.get("port", "").removeprefix("0")
    names = dict.fromkeys(filter(None, (server, mount.options.get("addr", ""))))
    return " ".join(f"{name}:{port}" for name in names)


def _has_port(server: str) -> bool:
    return bool(re.search(r"(^[^:]*|\]):\d+$", server))


def _joined(above: str, inside: str) -> str:
    """Return the path on the server of what is mounted of it."""
    return f"/{posixpath.normpath(f'./{above}/{inside}')}"


def _is_below(path: str, point: str) -> bool:
    return point in {"/", path} or path.startswith(f"{point}/")


def _plain(field: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)
