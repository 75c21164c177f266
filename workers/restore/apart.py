"""Check that no two disks of a restore go to one place, under whatever names, and none to a part of another's place.

    block device     by the kernel's name, wherever a link or another node leads; a partition, a volume or a multipath map lies
                     within what it is on; a loop device is its file; two paths to a LUN share its WWID (`identity/places.py`)
    NBD export       by server and export: case, default port, escapes and TLS of a URI aside, each address of a server's name,
                     one loopback for this machine's own addresses; a Unix socket by its inode
    file             by inode, or where its directory really is

Two disks at one place would both be told as restored, and one be lost: the claim of a device ends with its own disk. Two names
of one export on its server, or two servers of one export, cannot be told from here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from freezeframe.network_key import network_keys
from workers.identity.places import Places, places_of
from workers.identity.storage import SYS
from workers.restore.disk import DiskPart
from workers.restore.errors import DeviceUnfitError
from workers.restore.place import BlockDevicePlace, NbdPlace

#: Its port where a URI names none. [NetworkBlockDevice/nbd doc/uri.md]
_PORT: Final = 10809


class SamePlaceError(DeviceUnfitError):
    """Two disks would be written to the same storage."""

    code = "same-place"
    advice = (
        "Give each disk a place of its own; `lsblk` shows which devices lie on each other. If the two share nothing, restore "
        "them one after the other, each with --disk."
    )


def check_apart(disks: Iterable[DiskPart], sys: Path = SYS) -> None:
    """Raise SamePlaceError if two disks go to the same storage, or one to a part of the other's."""
    known = [(disk, where_is(disk, sys)) for disk in disks]
    for (one, its), (other, others) in combinations(known, 2):
        if (one.place or other.place) and overlap(its, others):
            raise SamePlaceError(
                f"Disk {one.target} of guest {one.guest_name} goes to {one.where}, and disk {other.target} of guest "
                f"{other.guest_name} to {other.where}: these are the same storage, or one is a part of the other."
            )


def where_is(disk: DiskPart, sys: Path = SYS) -> Places:
    """Return where a disk goes, as far as that can be told; what cannot be opened at all is refused for that."""
    match disk.place:
        case None:
            return place_of_file(disk.path, sys)
        case BlockDevicePlace(path):
            return place_of_file(path, sys)
        case NbdPlace(uri):
            return Places(export_keys(uri))


def overlap(one: Places, other: Places) -> bool:
    """Return True if two places are the same storage, or one is a part of the other."""
    return bool(one.keys & (other.keys | other.within) or one.within & other.keys)


def place_of_file(path: Path, sys: Path = SYS) -> Places:
    """Return where a file or block device is; where its directory really is if it cannot be looked at."""
    with suppress(OSError):
        return places_of(str(path), sys=sys)
    return Places(frozenset({f"path {os.path.realpath(path)}"}))


def export_keys(uri: str) -> frozenset[str]:
    """Return the keys of the export that libnbd opens for a URI: two URIs with one of them in common mean one export."""
    try:
        parts = urlsplit(uri)
        host, port = unquote(parts.hostname or "localhost"), parts.port or _PORT
    except ValueError:  # an address or a port that is none: connecting is refused
        return frozenset({uri})
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme.endswith("+unix"):
        return frozenset(f"{one} {name}" for one in _socket_keys(parts.query)) | _as_of_guest(parts.query, name)
    servers = [f"{_bracketed(one)}:{port}" for one in (host, *_addresses(host, port))]
    return network_keys({"protocol": "nbd", "name": name, "servers": " ".join(servers)})


def _as_of_guest(query: str, name: str) -> frozenset[str]:
    """Return the keys of an export on a socket as a disk of a guest has them, which knows the socket's path alone."""
    path = _socket_path(query)
    sockets = {one for one in (path, os.path.realpath(path)) if one.startswith("/") and " " not in one}
    return network_keys({"protocol": "nbd", "name": name, "servers": " ".join(sockets)}) if sockets else frozenset()


def _socket_path(query: str) -> str:
    fields = dict(field.partition("=")[::2] for field in query.split("&"))
    return unquote(fields.get("socket", ""))  # in which a plus is no blank


def _socket_keys(query: str) -> set[str]:
    path = _socket_path(query)
    keys = {f"socket {os.path.realpath(path)}"}
    with suppress(OSError, ValueError):
        found = Path(path).stat()
        keys.add(f"socket {found.st_dev}:{found.st_ino}")
    return keys


def _addresses(host: str, port: int) -> set[str]:
    """Return the addresses of a host; `localhost` for those of this machine."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # connecting to it will say so
        return set()
    return {"localhost" if _is_own(family, address) else str(address[0]) for family, _, _, _, address in found}


def _is_own(family: int, address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> bool:
    """Return True if the address is this machine's: the kernel sends from it to itself. Nothing is sent."""
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as one:
        one.connect(address)
        return bool(one.getsockname()[0] == address[0])
    return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
