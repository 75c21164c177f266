"""Undoing what a capture changed on a guest: the one place for release, recovery and a prepare that did not succeed.

In the reverse of the order in which it was done: let the guest go, end the backup, keep or delete the checkpoint, remove the
scratch files, drop the claim. Every part asks what is there first, so undoing twice is undoing once; what cannot be undone
now (a libvirt daemon that is down) is told, and the claim stays, so that nobody builds on the guest before recovery has
been here.

Each guest is undone by itself, under its own lock: one that hangs stays open, and the others are released.

One thing may stay to do when all else is undone: a thaw that the agent does not answer. Only the agent can say whether the
guest is frozen, and the next capture asks it; so the next capture may take the guest over (`claimed.py`), and recovery goes on
sending the thaw until the agent answers, or the guest is off. So it is with a guest that left this host while it was held,
until it was let go where it is (`workers/left_held.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Sequence

import structlog

from freezeframe.contract.words import HoldKind
from freezeframe.errors import FreezeframeError
from workers import durable, hold, left_held
from workers.changes import hold_kind, thaw_is_pending
from workers.claims import ClaimUnreadableError
from workers.host import Host
from workers.hypervisor import backup, lost
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError, GuestGoneError, HypervisorError
from workers.hypervisor.freeze_failure import FreezeExpiredError
from workers.journal import (
    AnyChange,
    BackupChange,
    CaptureJournal,
    ClaimChange,
    FreedChange,
    HoldChange,
    JournalUnreadableError,
    LetGoChange,
    ScratchChange,
    ThawPendingChange,
)
from workers.steps.each_guest import each_guest
from workers.steps.let_go_since import may_hold
from workers.steps.settling import settle, settle_gone
from workers.steps.window import is_pending

log = structlog.get_logger("undo")

#: Seconds for all guests of a capture on this host. One takes tens of milliseconds; ending a backup may take 10 s, an agent
#: that does not answer `agent_timeout_s`. With the wait for other steps (`release.STEP_PATIENCE_S`) less than the
#: orchestrator's `release_timeout_s`.
PATIENCE_S = 60.0


def undo_capture(host: Host, journal: CaptureJournal, *, sealed: Container[str]) -> list[str]:
    """Undo all that a capture changed on this host, and end its journal. Return what could not be undone, if anything.

    Call it while no step of the capture is at work (`CaptureJournal.at_rest`). `sealed` are the guests that the capture's
    manifest has: they keep their new checkpoints.
    """
    left = undo_guests(host, journal, sealed=sealed)
    if not left:
        _remove_scratch_directory(host, journal.capture_id)
        journal.end()
    return left


def undo_guests(host: Host, journal: CaptureJournal, *, sealed: Container[str] | None) -> list[str]:
    """Undo all guests of a capture on which no step is at work. Return what could not be undone, if anything.

    Without `sealed`, while the repository does not answer, nobody knows whether the new checkpoints stay: they and the claims
    do, but no guest stays held and no backup open for that, whose scratch files would grow.
    """
    guests, left = guests_of(host, journal)

    def undo(guest: str) -> list[str]:
        if is_pending(host.calls, guest):
            return [f"guest {guest}: a call of its hold has not returned, and may still begin a backup"]
        with journal.guest(guest).lock():
            return undo_guest(host, journal, guest, sealed=None if sealed is None else guest in sealed)

    answers = each_guest(host.calls, guests, f"undoing capture {journal.capture_id}", PATIENCE_S, undo)
    for guest in guests:
        answer = answers[guest]
        if isinstance(answer, BlockingIOError):
            left.append(f"guest {guest}: a step of the capture, or an earlier undo, is at work on it")
        elif isinstance(answer, Exception):
            log.warning("not undone", capture=journal.capture_id, guest=guest, why=str(answer))
            left.append(f"guest {guest}: {answer}")
        else:
            left += answer
    return left


def guests_of(host: Host, journal: CaptureJournal) -> tuple[list[str], list[str]]:
    """Return the guests that the capture has a journal or a claim of; and what could not be read.

    A crash, or a full disk, between a claim and its line in the journal leaves the claim alone.
    """
    guests: set[str] = set()
    troubles = []
    for read in (journal.guests, lambda: host.claims.held_by(journal.capture_id)):
        try:
            guests.update(read())
        except OSError as error:
            troubles.append(f"{error.filename or 'the journal'} cannot be read: {error.strerror or error}")
    return sorted(guests), troubles


def undo_guest(host: Host, journal: CaptureJournal, guest_uuid: str, *, sealed: bool | None) -> list[str]:
    """Undo all that a capture changed on one guest. Return what could not be undone, if anything."""
    record = journal.guest(guest_uuid).read()
    left = [f"guest {guest_uuid}: {record.trouble}"] if record.trouble else []
    try:
        holder = host.claims.holder(guest_uuid)
        if thaw_is_pending(record.changes):
            left += _thaw_late(host, journal, guest_uuid, record.changes, holder)
        elif holder != journal.capture_id:
            return []  # never ours, or undone already
        else:
            left += _undo_on_host(host, journal, guest_uuid, record.changes, sealed=sealed)
        if not left and sealed is not None:
            host.claims.drop(guest_uuid, journal.capture_id)
    except (FreezeframeError, OSError) as error:
        log.warning("not undone", capture=journal.capture_id, guest=guest_uuid, why=str(error))
        hint = f" {error.hint}" if isinstance(error, ClaimUnreadableError) else ""
        return [*left, f"guest {guest_uuid}: {error}{hint}"]
    return left


def _undo_on_host(
    host: Host, journal: CaptureJournal, guest_uuid: str, changes: Sequence[AnyChange], *, sealed: bool | None
) -> list[str]:
    """Undo the changes. Return what is left: a thaw that the agent has not answered, a passphrase that libvirt still has."""
    unthawed: list[str] = []
    if any(not isinstance(change, ClaimChange) for change in changes):
        try:
            domain = host.hypervisor.domain(guest_uuid)
            unthawed = _undo_on_guest(host, journal, domain, changes, sealed=sealed)
        except GuestGoneError:  # what belonged to the guest went with it, but for what is in its images
            if sealed is not None:
                settle_gone(changes, sealed=sealed)
    for change in changes:
        if isinstance(change, ScratchChange):
            change.path.unlink(missing_ok=True)
        if isinstance(change, BackupChange):
            change.socket.unlink(missing_ok=True)
    kept = _forget_passphrases(host, guest_uuid, changes)
    if any(not isinstance(change, ClaimChange) for change in changes):
        # last, when the files are gone: a full disk does not take it
        unthawed += _left(host, journal, guest_uuid, changes)
    freed = FreedChange(guest_uuid=guest_uuid)
    if (unthawed or kept or sealed is None) and freed not in changes:
        journal.record(freed)  # the claim stays, and the room for its scratch files is free
    if unthawed and not kept and sealed is not None:
        journal.record(ThawPendingChange(guest_uuid=guest_uuid))
    return [*unthawed, *kept]


def _forget_passphrases(host: Host, guest_uuid: str, changes: Sequence[AnyChange]) -> list[str]:
    """Take the passphrases of scratch files from libvirt; return why one could not be taken."""
    for change in changes:
        if isinstance(change, ScratchChange) and change.secret:
            try:
                host.hypervisor.forget_secret(change.secret)
            except HypervisorError as error:
                return [f"guest {guest_uuid}: {error} {error.hint}".rstrip()]
    return []


def _undo_on_guest(
    host: Host, journal: CaptureJournal, domain: Domain, changes: Sequence[AnyChange], *, sealed: bool | None
) -> list[str]:
    """Undo what is on the guest itself, and return a thaw that was not answered: a dead agent keeps no backup running."""
    unthawed = []
    held = _is_held(host, journal, domain.uuid, changes)
    for change in reversed(changes):
        if isinstance(change, HoldChange) and held and domain.active():
            unthawed += _let_go(host, journal, domain, change.hold)
        if isinstance(change, BackupChange):
            ended = backup.end(domain, change.socket)
            if not ended and domain.active() and lost.is_lost(domain):
                scratch = [other.path for other in changes if isinstance(other, ScratchChange)]
                lost.end(domain, scratch, change.checkpoint if sealed is False else None)
            if sealed is not None:
                settle(domain, change, changes, sealed=sealed, ended=ended)
    return unthawed


def _is_held(host: Host, journal: CaptureJournal, guest_uuid: str, changes: Sequence[AnyChange]) -> bool:
    """Return True if the capture may hold the guest. Of a guest that the guard has let go that is written down.

    A line that cannot be read may say that the guest has left as it was held: its lease has gone then, too.
    """
    held = may_hold(host, journal, guest_uuid, changes)
    kinds = {type(change) for change in changes}
    if not held and HoldChange in kinds and LetGoChange not in kinds and not journal.guest(guest_uuid).read().trouble:
        log.info("the guard has no lease of it any more", capture=journal.capture_id, guest=guest_uuid)
        with contextlib.suppress(OSError):
            journal.record(LetGoChange(guest_uuid=guest_uuid))
    return held


def _let_go(host: Host, journal: CaptureJournal, domain: Domain, kind: HoldKind) -> list[str]:
    """Let the guest go, and record that, so that it is not done again to a guest that somebody else holds by then."""
    try:
        hold.let_go(domain, kind, host.settings.agent_timeout_s)
    except FreezeExpiredError:
        log.info("the freeze had ended by itself", capture=journal.capture_id, guest=domain.uuid)
    except AgentError as error:
        log.warning("not thawed", capture=journal.capture_id, guest=domain.uuid, why=str(error))
        todo = f"Restart the agent in guest {domain.name}, or reset the guest; the thaw is sent again every few seconds"
        return [f"guest {domain.uuid}: nobody knows whether it is thawed: {error} {todo}"]
    with contextlib.suppress(OSError):  # a full disk: it is let go a second time, no more
        journal.record(LetGoChange(guest_uuid=domain.uuid))
    return []


def _left(host: Host, journal: CaptureJournal, guest_uuid: str, changes: Sequence[AnyChange]) -> list[str]:
    """Return that the guest is not here, and held where it is, as far as is known (`workers/left_held.py`)."""
    if may_hold(host, journal, guest_uuid, changes):
        with contextlib.suppress(JournalUnreadableError):  # which is told, and keeps the capture open
            left_held.note(host.hypervisor, journal, guest_uuid)
    return left_held.still_left(journal, guest_uuid)


def _thaw_late(
    host: Host, journal: CaptureJournal, guest_uuid: str, changes: Sequence[AnyChange], holder: str | None
) -> list[str]:
    """Send the thaw again that was not answered when all else was undone. A pause had been ended by then."""
    if holder is not None and holder != journal.capture_id:
        return [f"guest {guest_uuid}: capture {holder} has it; the thaw that its agent did not answer waits for that"]
    if not _is_held(host, journal, guest_uuid, changes):
        return []
    with contextlib.suppress(GuestGoneError):
        domain = host.hypervisor.domain(guest_uuid)
        if domain.active():
            left = left_held.still_left(journal, guest_uuid)
            return _let_go(host, journal, domain, hold_kind(changes) if left else HoldKind.FREEZE)
    return _left(host, journal, guest_uuid, changes)


def _remove_scratch_directory(host: Host, capture_id: str) -> None:
    directory = host.settings.scratch_dir / capture_id
    with contextlib.suppress(FileNotFoundError, OSError):
        directory.rmdir()
        durable.sync_directory(directory.parent)
