"""Settle a guest's new checkpoint, and bitmaps that have none: no bitmap of ours stays without its checkpoint.

sealed                        the new one is the one to build upon; the older ones of its line go
not sealed, the guest runs    libvirt deletes it with its bitmap
not sealed, the guest is off  its bitmap is in the image by now: qemu-img removes it, then libvirt forgets it
not sealed, the guest is gone (transient, undefined)         qemu-img removes the bitmap from the image that the journal names
left by a migration, a lost daemon, a transient guest's end   removed before the next capture begins (`remove_orphans`)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from workers.hypervisor import bitmaps, checkpoint, lost, volumes
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError
from workers.journal import AnyChange, BackupChange, FreedChange, ReservationChange

log = structlog.get_logger("settling")


def settle(domain: Domain, change: BackupChange, changes: Sequence[AnyChange], *, sealed: bool, ended: bool) -> None:
    """Keep or delete the checkpoint of a capture that is over. Raises HypervisorError for what is left to do.

    `ended`: its backup was open until now. A libvirtd that was killed between writing down the backup and its checkpoint knows
    only the first; QEMU has the bitmap.
    """
    if change.checkpoint is None:
        return
    if sealed:
        _delete_older(domain, change)
        return
    known = checkpoint.delete(domain, change.checkpoint, images_of(changes))
    if known:
        return
    if not domain.active():
        bitmaps.remove_from_images(images_of(changes), {change.checkpoint})
    elif ended or any(isinstance(one, FreedChange) for one in changes):
        lost.remove_bitmaps(domain, {change.checkpoint})


def settle_gone(changes: Sequence[AnyChange], *, sealed: bool) -> None:
    """Remove the bitmap of a guest that is not on the host any more from the images that the journal names.

    An image that is in use belongs to whoever uses it now; the next capture of that guest removes the bitmap.
    """
    names = {change.checkpoint for change in changes if isinstance(change, BackupChange) and change.checkpoint}
    if sealed or not names:
        return
    try:
        bitmaps.remove_from_images(images_of(changes), names)
    except HypervisorError as error:
        log.warning("a bitmap stays for now", why=error.message)


def images_of(changes: Iterable[AnyChange]) -> list[Path]:
    """Return the images that the guest's new bitmap may be stored in, as its disks were when it was prepared."""
    return [path for change in changes if isinstance(change, ReservationChange) for path in change.images]


def remove_orphans(domain: Domain, disks: Iterable[DomainDisk]) -> list[str]:
    """Remove bitmaps of ours without a checkpoint in libvirt from a running guest; return their names.

    Each migration leaves one for each disk, since checkpoints do not move with the guest. Call it after all that might still
    make use of such a bitmap. What cannot be removed is logged: it costs the guest's writes a little, and no capture.
    """
    images = volumes.images_with_bitmaps(domain, disks)
    stored = bitmaps.ours_in(images.paths)
    unread = {str(path): why for path, why in stored.unread.items()}
    unread |= {f"volume {one.volume} of pool {one.pool}": one.why for one in images.unlocated}
    for image, why in unread.items():  # looked into again before the next capture
        log.warning(
            "bitmaps of an image are not known",
            guest=domain.name,
            image=image,
            why=why,
        )
    found = {name for names in stored.by_image.values() for name in names}
    orphans = sorted(found - set(checkpoint.names(domain))) if found else []
    if not orphans:
        return []
    log.info("removing bitmaps without a checkpoint", guest=domain.name, bitmaps=orphans)
    try:
        lost.remove_bitmaps(domain, orphans)
    except HypervisorError as error:
        log.warning("bitmaps without a checkpoint stay", guest=domain.name, why=error.message)
    return orphans


def _delete_older(domain: Domain, change: BackupChange) -> None:
    """Delete the checkpoints of the line that are older than the new one; of a guest that is off when it runs again."""
    if not domain.active():
        return
    line = checkpoint.own_names(domain, change.repository_id)
    if change.checkpoint in line:
        for name in line[: line.index(change.checkpoint)]:
            checkpoint.delete(domain, name)
