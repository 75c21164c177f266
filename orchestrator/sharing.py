"""Guests on different hosts that write to one piece of storage, of which a disk is captured. Pure.

A host compares what its own guests use; only here is known what those of all hosts of the capture use. A disk that is left
out, a guest that is refused and one that nobody asked for write on, so all of them count as writers. The same path on two hosts
is not the same disk, so storage is compared only by what names it everywhere:

| storage                                                        | compared by                                    |
|----------------------------------------------------------------|------------------------------------------------|
| block device, also one below a partition, volume or file       | what names it everywhere (`freezeframe.storage_key`) |
| iSCSI; NBD, HTTP, … at a server that is not the host's own     | name and server (`freezeframe.network_key`)    |
| RBD image, by QEMU or by the kernel                            | cluster's id, and each monitor                 |
| file on NFS, CIFS, CephFS, GlusterFS, Lustre, GFS2, …          | server and path there (`workers/identity/network_file.py`) |

Names that nothing ties together are two: two names of one server in the DNS, an NFS server's own path to what it exports.

Hosts are compared after prepare, and again with what each has told since: when its guests ran again after the hold, each time
when it had read a disk, and when it saw a writer come while disks were read. A writer of which a host tells late may have come
when the disk had been read already; that is nobody's to tell by clocks, so it counts as one all the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from freezeframe.contract.fault import Fault
from freezeframe.contract.identity import Layer
from freezeframe.contract.result import HoldResult, PreparedDisk, PrepareResult, SeenUses, StorageUse, TransferResult
from freezeframe.errors import EXIT_REFUSED, FreezeframeError
from freezeframe.naming import NamedGuest
from freezeframe.network_key import network_keys
from freezeframe.storage_key import everywhere_key, is_everywhere


class SharedDiskError(FreezeframeError):
    """A guest on another host writes to a disk of the capture."""

    code = "disk-shared"
    exit_code = EXIT_REFUSED


class _Use(NamedTuple):
    """A disk or device of a running guest, and the keys of its storage."""

    host_id: str
    guest_uuid: str
    guest: str
    target: str
    readonly: bool
    shows: frozenset[str]
    writes: frozenset[str]
    within: frozenset[str]
    captured: PreparedDisk | None = None


def shared_faults(results: Sequence[PrepareResult]) -> dict[str, Fault]:
    """Return a fault for each prepared guest with a disk that a guest on another host writes to, by UUID."""
    uses = [use for result in results for use in _uses(result)]
    return _faults([use for use in uses if use.captured], uses, lambda own, other: own.guest_uuid == other.guest_uuid)


def faults_since(
    prepared: Sequence[PrepareResult], kept: Collection[str], later: Sequence[HoldResult | TransferResult | SeenUses]
) -> dict[str, Fault]:
    """Return a fault for each kept guest with a disk that a guest on another host has begun to write to, by UUID.

    A guest that is captured cannot migrate while its backup is open. When it has been read it may, and is then no writer; in
    the answers to a hold a second guest of its UUID is one.
    """
    told = [_use_of(result.host_id, use) for result in later for use in result.uses]
    if not told:  # as nearly always
        return {}
    members = frozenset(kept)
    captured = [
        use for result in prepared for use in _uses(result) if use.captured is not None and use.guest_uuid in members
    ]
    held = any(isinstance(result, HoldResult) for result in later)

    def is_itself(own: _Use, other: _Use) -> bool:
        return own.host_id == other.host_id or (own.guest_uuid == other.guest_uuid and not held)

    return _faults(captured, told, is_itself)


def captured_disks(prepared: Sequence[PrepareResult], kept: Collection[str]) -> Iterator[tuple[str, str, str, bool]]:
    """Yield the captured disks of kept guests: host, guest's UUID, target, and whether other hosts may have it too."""
    members = frozenset(kept)
    for result in prepared:
        for use in _uses(result):
            if use.captured is not None and use.guest_uuid in members:
                yield use.host_id, use.guest_uuid, use.target, bool(use.shows or use.within)


def _faults(
    captured: Iterable[_Use], uses: Sequence[_Use], is_itself: Callable[[_Use, _Use], bool]
) -> dict[str, Fault]:
    writing = [use for use in uses if not use.readonly]  # many may read one image
    writers, parts = _by_key(writing, lambda use: use.writes), _by_key(writing, lambda use: use.within)

    def others(own: _Use) -> Iterator[_Use]:
        for key in own.shows:
            yield from writers.get(key, ())
            yield from parts.get(key, ())
        for key in own.within:
            yield from writers.get(key, ())

    faults: dict[str, Fault] = {}
    for own in captured:
        if own.captured is None or own.guest_uuid in faults:
            continue
        other = next((other for other in others(own) if not is_itself(own, other)), None)  # one is enough
        if other is not None:
            faults[own.guest_uuid] = _fault(own, own.captured, other)
    return faults


def _by_key(uses: Iterable[_Use], keys: Callable[[_Use], Iterable[str]]) -> Mapping[str, list[_Use]]:
    found = defaultdict[str, list[_Use]](list)
    for use in uses:
        for key in keys(use):
            found[key].append(use)
    return found


def _uses(result: PrepareResult) -> Iterator[_Use]:
    """Yield the captured disks of a host's guests, then all else that its running guests use."""
    told = {(use.guest_uuid, use.target): use for use in result.uses}
    for guest in result.guests:
        for disk in guest.disks if guest.fault is None else ():
            use = told.pop((guest.guest_uuid, disk.target), None)
            own = frozenset((*everywhere_keys(disk), *(use.writes if use else ())))
            yield _Use(
                result.host_id,
                guest.guest_uuid,
                guest.name,
                disk.target,
                disk.readonly,
                shows=own | frozenset(use.shows if use else ()),
                writes=own,
                within=frozenset((*keys_below(disk), *(use.within if use else ()))),
                captured=disk,
            )
    for use in told.values():
        yield _use_of(result.host_id, use)


def _use_of(host_id: str, use: StorageUse) -> _Use:
    keys = (frozenset(use.shows), frozenset(use.writes), frozenset(use.within))
    return _Use(host_id, use.guest_uuid, use.guest, use.target, use.readonly, *keys)


def _fault(own: _Use, disk: PreparedDisk, other: _Use) -> Fault:
    choice = f"--skip-disk {NamedGuest(own.guest, own.guest_uuid).option(own.target)}"
    if other.captured is None:
        instead = f" Else shut guest {other.guest} down, or detach its {other.target}, until the capture has ended."
    else:  # left out of one guest only, its writes would be in the other's way still
        choice, instead = f"{choice} --skip-disk {NamedGuest(other.guest, other.guest_uuid).option(other.target)}", ""
    error = SharedDiskError(
        f"Disk {own.target} of guest {own.guest} cannot be captured: guest {other.guest} on host {other.host_id} writes to "
        f"the same storage ({disk.source}).",
        advice=f"Leave it out with {choice} if you can do without it.{instead}",
    )
    return Fault.of(error, guest=own.guest, host=own.host_id)


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
