"""Decide whether another guest of this host, or another disk, may write to a disk. Pure.

Copy-before-write sees the writes of one QEMU only, so a disk with a second writer is torn over the length of its transfer,
and no hold of one guest keeps it still. An image that several guests only read, as the base of their overlays, is no such disk.

    what a disk shows    its active layer, its data file and the images below
    what a disk writes   its active layer and its data file, unless it is attached read-only
    what it lies within  the devices below it, and those with its files' file systems: their writer may write to all there;
                         what it *writes* within is less, since an image below the active layer is only read
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from freezeframe.contract.result import StorageUse
from freezeframe.storage_key import is_everywhere


@dataclass(frozen=True)
class DiskUse:
    """One disk of a running guest and the storage behind it, each piece by keys that are equal for the same storage."""

    guest_uuid: str
    guest: str
    target: str
    shows: frozenset[str]
    writes: frozenset[str]
    within: frozenset[str] = frozenset()
    writes_within: frozenset[str] = frozenset()
    unseen: str = ""  # why what it shows is not all known
    writes_unseen: str = ""  # why it may write to any storage


def shared_reason(guest_uuid: str, target: str, uses: Iterable[DiskUse]) -> str | None:
    """Return the reason why this disk has another writer than its guest, None if it has none."""
    known = list(uses)
    own = next((use for use in known if (use.guest_uuid, use.target) == (guest_uuid, target)), None)
    if own is None:
        return None
    for other in known:
        if other is own or not _reaches(other, own):
            continue
        if other.guest_uuid == guest_uuid:
            if own.unseen or other.unseen:  # each may be any of the guest's disks that do not tell
                continue
            return f"disk {other.target} of the same guest writes to the same storage"
        return f"disk {other.target} of the running guest {other.guest} writes to the same storage"
    return None


def unseen_reason(guest_uuid: str, target: str, uses: Iterable[DiskUse]) -> str | None:
    """Return the reason why it is not known whether this disk has another writer; None if it is."""
    reasons = (
        use.unseen if (use.guest_uuid, use.target) == (guest_uuid, target) else use.writes_unseen for use in uses
    )
    return next(filter(None, reasons), None)


def _reaches(writer: DiskUse, disk: DiskUse) -> bool:
    """Return True if what `writer` writes to may be a part of what `disk` shows, or that a part of it."""
    return bool(disk.shows & (writer.writes | writer.writes_within) or disk.within & writer.writes)


def uses_everywhere(uses: Iterable[DiskUse]) -> tuple[StorageUse, ...]:
    """Return the uses of storage that guests of other hosts may use too, by what names it there."""
    found = (
        StorageUse(
            guest_uuid=use.guest_uuid,
            guest=use.guest,
            target=use.target,
            readonly=not use.writes,
            shows=_everywhere(use.shows),
            writes=_everywhere(use.writes),
            within=_everywhere(use.within),
        )
        for use in uses
    )
    return tuple(use for use in found if use.shows or use.within)


def later_uses(uses: Iterable[DiskUse], told: Iterable[StorageUse]) -> tuple[StorageUse, ...]:
    """Return those of `uses` that guests of other hosts may have to know, as writers, and were not told yet.

    A thousand hosts tell this after each disk, so it is only what has come since: mostly nothing.
    """
    known: dict[tuple[str, str], set[str]] = {}
    for use in told:
        if not use.readonly:
            known.setdefault((use.guest_uuid, use.target), set()).update(use.writes, use.within)
    found = (use.model_copy(update={"shows": ()}) for use in uses_everywhere(uses) if not use.readonly)
    return tuple(
        use
        for use in found
        if not known.get((use.guest_uuid, use.target), set()).issuperset((*use.writes, *use.within))
    )


def _everywhere(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(filter(is_everywhere, keys)))
