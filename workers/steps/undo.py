"""Undoing what a capture changed on a guest: the one place for release, recovery and a prepare that did not succeed.

In the reverse of the order in which it was done: let the guest go, end the backup, keep or delete the checkpoint, remove the
scratch files, drop the claim. Every part asks what is there first, so undoing twice is undoing once; what cannot be undone
now (a libvirt daemon that is down) is told, and the claim stays, so that nobody builds on the guest before recovery has
been here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container

import structlog

from freezeframe.errors import FreezeframeError
from workers import durable, hold
from workers.host import Host
from workers.hypervisor import backup, lost
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError, GuestGoneError
from workers.journal import AnyChange, BackupChange, CaptureJournal, HoldChange, LetGoChange, ScratchChange
from workers.steps.settling import settle, settle_gone

log = structlog.get_logger("undo")


def undo_capture(host: Host, journal: CaptureJournal, *, sealed: Container[str]) -> list[str]:
    """Undo all that a capture changed on this host, and end its journal; what could not be undone, if anything.

    `sealed` are the guests that the capture's manifest has: they keep their new checkpoints.
    """
    guests = {change.guest_uuid for change in journal.changes()}
    left = [problem for guest in sorted(guests) for problem in undo_guest(host, journal, guest, sealed=guest in sealed)]
    if not left:
        _remove_scratch_directory(host, journal.capture_id)
        journal.end()
    return left


def undo_guest(host: Host, journal: CaptureJournal, guest_uuid: str, *, sealed: bool) -> list[str]:
    """Undo all that a capture changed on one guest; what could not be undone, if anything."""
    if host.claims.holder(guest_uuid) != journal.capture_id:
        return []  # never ours, or undone already
    changes = [change for change in journal.changes() if change.guest_uuid == guest_uuid]
    left: list[str] = []
    try:
        try:
            left = _undo_on_guest(host, host.hypervisor.domain(guest_uuid), changes, sealed=sealed)
        except GuestGoneError:  # what belonged to the guest went with it, but for what is in its images
            settle_gone(changes, sealed=sealed)
        for change in changes:
            if isinstance(change, ScratchChange):
                change.path.unlink(missing_ok=True)
            if isinstance(change, BackupChange):
                change.socket.unlink(missing_ok=True)
    except (FreezeframeError, OSError) as error:
        log.warning("not undone", capture=journal.capture_id, guest=guest_uuid, why=str(error))
        return [f"guest {guest_uuid}: {error}"]
    if left:
        return left
    host.claims.drop(guest_uuid, journal.capture_id)
    return []


def _undo_on_guest(host: Host, domain: Domain, changes: list[AnyChange], *, sealed: bool) -> list[str]:
    """What could not be undone because of the guest itself: an agent that is dead keeps no backup running."""
    left = []
    held = not any(isinstance(change, LetGoChange) for change in changes)
    for change in reversed(changes):
        if isinstance(change, HoldChange) and held and domain.active():
            try:
                hold.let_go(domain, change.hold, host.settings.agent_timeout_s)
            except AgentError as error:
                left.append(f"guest {domain.uuid}: {error}")
        if isinstance(change, BackupChange):
            ended = backup.end(domain, change.socket)
            if not ended and domain.active() and lost.is_lost(domain):
                scratch = [other.path for other in changes if isinstance(other, ScratchChange)]
                lost.end(domain, scratch, None if sealed else change.checkpoint)
            settle(domain, change, changes, sealed=sealed, ended=ended)
    return left


def _remove_scratch_directory(host: Host, capture_id: str) -> None:
    directory = host.settings.scratch_dir / capture_id
    with contextlib.suppress(FileNotFoundError, OSError):
        directory.rmdir()
        durable.sync_directory(directory.parent)
