"""Guests of one capture, on different hosts, that write to one piece of storage. Pure.

A host compares what its own guests use; only here are the disks of all hosts known. The same path on two hosts is not the same
disk, so storage is compared only by what names it everywhere:

| storage                                                        | compared by                                    |
|----------------------------------------------------------------|------------------------------------------------|
| block device, also one below a partition, volume or file       | what names it everywhere (`freezeframe.storage_key`) |
| iSCSI; NBD, HTTP, … at a server that is not the host's own     | name and server (`freezeframe.network_key`)    |

An RBD image that QEMU opens is known by its pool and name only, which two clusters may both have; it is not compared.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

from freezeframe.contract.fault import Fault
from freezeframe.contract.identity import Layer
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult
from freezeframe.errors import EXIT_REFUSED, FreezeframeError
from freezeframe.network_key import network_keys
from freezeframe.storage_key import everywhere_key, is_everywhere


class SharedDiskError(FreezeframeError):
    """Guests on two hosts of a capture write to one disk."""

    code = "disk-shared"
    exit_code = EXIT_REFUSED


class _Use(NamedTuple):
    host_id: str
    guest: PreparedGuest
    disk: PreparedDisk
    is_all: bool  # the disk is this storage, and does not only lie on it


def shared_faults(results: Sequence[PrepareResult]) -> dict[str, Fault]:
    """Return a fault for each prepared guest with a disk that a guest on another host writes to, by UUID."""
    uses: dict[str, list[_Use]] = {}
    for result in results:
        for guest in result.guests:
            for disk in guest.disks if guest.fault is None else ():
                own, below = everywhere_keys(disk), keys_below(disk)
                for key in own | below:
                    uses.setdefault(key, []).append(_Use(result.host_id, guest, disk, is_all=key in own))
    faults: dict[str, Fault] = {}
    for same in uses.values():
        for own_use, other in permutations(same, 2):
            if own_use.guest.guest_uuid == other.guest.guest_uuid or other.disk.readonly:
                continue
            if own_use.is_all or other.is_all:  # else each has a part of it, such as two volumes of one group
                faults.setdefault(own_use.guest.guest_uuid, _fault(own_use, other))
    return faults


def _fault(own: _Use, other: _Use) -> Fault:
    choice = shlex.quote(f"{own.guest.name}:{own.disk.target}")
    error = SharedDiskError(
        f"Disk {own.disk.target} of guest {own.guest.name} cannot be captured: guest {other.guest.name} on host "
        f"{other.host_id} writes to the same storage ({own.disk.source}).",
        advice=f"Leave it out with --skip-disk {choice} if you can do without it.",
    )
    return Fault.of(error, guest=own.guest.name, host=own.host_id)


def everywhere_keys(disk: PreparedDisk) -> set[str]:
    """Return keys of the storage that a disk writes to, equal on all hosts for the same storage; none if nothing is known."""
    return {key for layer in _layers(disk) for key in _keys(layer)}


def keys_below(disk: PreparedDisk) -> set[str]:
    """Return keys of the storage that a disk lies on: whoever writes to all of that writes to the disk."""
    return {key for layer in _layers(disk) for key in layer.lies_on}


def _layers(disk: PreparedDisk) -> list[Layer]:
    if disk.identity is None:
        return []
    return [disk.identity.active, *([disk.identity.data_file] if disk.identity.data_file else [])]


def _keys(layer: Layer) -> frozenset[str]:
    if layer.kind == "block" and (key := everywhere_key(layer.facts)) is not None:
        return frozenset({key})
    found = network_keys(layer.facts) if layer.kind == "network" else frozenset()
    return frozenset(filter(is_everywhere, found))
