"""Which capture of each disk an incremental may start from: a pure choice among manifests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezeframe.repository.manifest import DiskCapture, Manifest


@dataclass(frozen=True)
class Parent:
    """A sealed capture of a disk that began a checkpoint."""

    capture_id: str
    disk: DiskCapture

    @property
    def checkpoint(self) -> str:
        return self.disk.checkpoint or ""


def find_parents(manifests: Iterable[Manifest], guest_uuid: str) -> list[Parent]:
    """For each disk of a guest, the newest sealed capture of it that has a checkpoint; newest first.

    `manifests` are newest first, as the repository lists them: an id's own time may be wrong.

    A disk is what it is, not where it is plugged in: a target under which two disks were captured has two. A later capture
    without a checkpoint (a disk that was raw for a while, say) does not hide it: the checkpoint's bitmap went on recording.
    Whether the disk is still the same, and the checkpoint sound, is for the host to prove.
    """
    newest: dict[tuple[str, str | None], Parent] = {}
    for manifest in manifests:
        for guest, disk in manifest.disks():
            if guest.guest_uuid == guest_uuid and disk.checkpoint is not None:
                key = disk.target, disk.identity.key if disk.identity else None
                newest.setdefault(key, Parent(manifest.capture_id, disk))
    return list(newest.values())
