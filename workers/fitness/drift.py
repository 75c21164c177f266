"""Decide, right before the hold, whether the guest still has the disks that were prepared. Pure.

Minutes may lie between prepare and hold. A disk that was attached meanwhile would be left out of the capture, one that
was replaced would be read instead of the one that was proven, and one that was detached makes libvirt refuse the begin with
guests held. A drive without data of the guest's own, and a disk that the caller left out, may come and go.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Final

from workers.fitness.disks import obstacle
from workers.hypervisor.disk import DomainDisk

#: How a field is called in a message; of a field that says yes or no, both answers.
_WORDS: Final = {"source_type": "kind of storage", "source_format": "format"}
_ANSWERS: Final = {
    "shareable": ("is not shareable any more", "is shareable now"),
    "readonly": ("can be written to now", "is read-only now"),
    "transient": ("is not transient any more", "is transient now"),
    "has_data_file": ("has no data file any more", "has a data file now"),
}


@dataclass(frozen=True)
class DiskSet:
    """The disks of a guest right before its hold: what the backup must name as left out, and what has changed."""

    left_out: tuple[str, ...]
    changes: tuple[str, ...] = ()


def compare_disks(
    prepared: Sequence[DomainDisk], now: Sequence[DomainDisk], captured: Collection[str], skipped: Collection[str]
) -> DiskSet:
    """Compare the disks that were prepared with those that the guest has now."""
    before = {disk.target: disk for disk in prepared}
    present = {disk.target: disk for disk in now}
    changes = [f"disk {target} was detached" for target in captured if target not in present]
    for target, disk in present.items():
        if target in captured:
            changes += _differences(before.get(target), disk)
        elif not _is_harmless(disk) and not _caller_left_out(before.get(target), skipped):
            changes.append(f"disk {target} ({disk.source}) was attached")
    return DiskSet(tuple(target for target in present if target not in captured), tuple(changes))


def _caller_left_out(before: DomainDisk | None, skipped: Collection[str]) -> bool:
    """Return True for a disk with data that was skipped: a drive that was skipped as harmless may have become a disk."""
    return before is not None and before.target in skipped and not _is_harmless(before)


def _is_harmless(disk: DomainDisk) -> bool:
    found = obstacle(disk)
    return found is not None and found.harmless


def _differences(before: DomainDisk | None, now: DomainDisk) -> list[str]:
    if before is None:
        return [f"disk {now.target} was attached"]
    names = [one.name for one in fields(DomainDisk) if getattr(before, one.name) != getattr(now, one.name)]
    return [f"disk {now.target} {_difference(name, getattr(before, name), getattr(now, name))}" for name in names]


def _difference(name: str, before: object, now: object) -> str:
    if name in _ANSWERS:
        return _ANSWERS[name][bool(now)]
    return f"has another {_WORDS.get(name, name)}: {now} instead of {before}"
