"""Guests that left their host while a capture held them: each is let go where its memory goes on.

    the agent's freeze, or the pause, is part of the guest's memory: it goes with a migration, and into a saved state

    on the host it left    the guard, an undo         write a line into the journal (`LeftChange`), which stays open by it
                           recovery, every few s      puts a note into Redis, whether or not the run goes on
                           recovery, it is back       lets it go: it was started from its saved state, or migrated back
    on any other host      recovery, a note names     lets it go, if it is held, and says so in the note
                           a guest that runs there
    on the host it left    recovery, the note says    takes the note away, and calls the guest let go in the journal
                           that it was let go

A guest that a capture of the other host has in hand is left to that: it finds the guest frozen, and drops it. A guest that has
ended is held by nobody. One that is found nowhere is looked for as long as `LOOKED_FOR`, one with a saved state here as long as
that is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import cast

import structlog
from pydantic import ValidationError

from freezeframe.contract import names
from freezeframe.contract.left_held import LOOKED_FOR, LeftHeld
from freezeframe.contract.words import HoldKind
from freezeframe.errors import EXIT_UNREACHABLE, FreezeframeError
from freezeframe.naming import NamedGuest
from workers import hold
from workers.changes import HoldChange, LeftChange, hold_kind, left_held
from workers.host import Host
from workers.hypervisor import agent
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import ARRIVING, Domain, Presence
from workers.hypervisor.errors import GuestGoneError
from workers.hypervisor.freeze_failure import FreezeExpiredError
from workers.journal import CaptureJournal, Journal, JournalUnreadableError, LetGoChange
from workers.steps.each_guest import each_guest

log = structlog.get_logger("left-held")

#: Seconds for the guests of one look; one takes milliseconds. Recovery waits for it in every round: one whose agent is dead or
#: hangs is given up, its thread ends by itself, and it is not asked again before.
PATIENCE_S = 2.0
_PURPOSE = "letting go of a guest that has moved"


class LeftHeldError(FreezeframeError):
    """The guest is not on its host any more, and was not seen running since it was held there."""

    code = "guest-left-held"
    exit_code = EXIT_UNREACHABLE

    def __init__(self, guest: NamedGuest) -> None:
        super().__init__(
            f"Guest {guest} left its host while it was held: it migrated, or was saved. It may be frozen or paused still.",
            advice="The host that has it lets it go within seconds, if its control worker runs and Redis answers. If not, run "
            f"`freezeframe thaw {guest.uuid}` on that host; a saved guest is let go when it is started.",
        )


def left_error(domain: Domain) -> LeftHeldError | None:
    """Return the error of a guest that has left its host; None if it is here, or has ended. Raises HypervisorError."""
    left = domain.presence() is Presence.ELSEWHERE
    return LeftHeldError(NamedGuest(domain.name, domain.uuid)) if left else None


def note(hypervisor: Hypervisor, journal: CaptureJournal, guest_uuid: str) -> None:
    """Write down of a guest that was held, and not seen running since, that it has left.

    Raises HypervisorError, OSError; JournalUnreadableError if nobody knows whether it was held.

    Call it only while the capture may hold the guest (`let_go_since`).
    """
    record = journal.guest(guest_uuid).read()
    changes = record.changes
    kinds = {type(change) for change in changes}
    if record.trouble and HoldChange not in kinds:
        raise JournalUnreadableError(f"{record.trouble}.")
    if HoldChange not in kinds or LeftChange in kinds or LetGoChange in kinds or hold_kind(changes) is HoldKind.NONE:
        return
    try:
        presence = hypervisor.domain(guest_uuid).presence()
    except GuestGoneError:
        presence = Presence.ELSEWHERE
    if presence is Presence.ELSEWHERE:
        log.error("a guest has left this host while it was held", guest=guest_uuid, capture=journal.capture_id)
        journal.record(LeftChange(guest_uuid=guest_uuid, at=datetime.now(UTC)))


def noting(hypervisor: Hypervisor, journal: Journal) -> Callable[[str, str], None]:
    """Return how the guard notes that a guest, the second, has left which a capture, the first, has held."""
    return lambda capture_id, guest_uuid: note(hypervisor, journal.of(capture_id), guest_uuid)


def still_left(journal: CaptureJournal, guest_uuid: str) -> list[str]:
    """Return what is left to do for a guest that has left held, for people; nothing if it was let go since."""
    if left_held(journal.guest(guest_uuid).read().changes) is None:
        return []
    where = f"Run `freezeframe thaw {guest_uuid}` on the host that has it, or start it here if it was saved"
    return [f"guest {guest_uuid}: it left this host while it was held, and nobody has seen it run since. {where}"]


def look(host: Host) -> None:
    """Let go of guests that have left held and are here now, this host's own and others'; tell other hosts of the rest.

    Raises OSError if the journals cannot be listed; redis errors.
    """
    own: dict[str, list[CaptureJournal]] = {}
    for journal in host.journal.unended():
        with contextlib.suppress(OSError):  # recovery tells of it
            for guest in journal.guests():
                if left_held(journal.guest(guest).read().changes):
                    own.setdefault(guest, []).append(journal)
    _each(host, list(own), lambda guest: _own(host, own[guest], guest))
    others, over = {}, []
    for field, text in cast("dict[str, str]", host.redis.hgetall(names.LEFT_HELD_KEY)).items():
        if (told := _read(text)) is None:
            continue
        if datetime.now(UTC) - told.at > LOOKED_FOR or _is_settled(host, told):
            over.append(field)
        elif told.host_id != host.host_id and told.let_go_by is None:
            others[told.guest_uuid] = told
    _each(host, list(others), lambda guest: _others(host, others[guest]))
    if over:  # last: a Redis that takes no writes keeps no guest held
        host.redis.hdel(names.LEFT_HELD_KEY, *over)


def _each(host: Host, guests: Sequence[str], work: Callable[[str], None]) -> None:
    answers = each_guest(host.calls, guests, _PURPOSE, PATIENCE_S, work)
    for guest, answer in answers.items():
        if isinstance(answer, Exception):
            log.warning("not let go yet", guest=guest, why=str(answer))


def _own(host: Host, journals: Sequence[CaptureJournal], guest_uuid: str) -> None:
    """Look at one guest that has left this host. Raises FreezeframeError, OSError, redis errors."""
    for journal in journals:
        _settle(host, journal, guest_uuid)


def _settle(host: Host, journal: CaptureJournal, guest_uuid: str) -> None:
    """Call the guest let go if it is, or have other hosts told. Raises FreezeframeError, OSError, redis errors."""
    with contextlib.suppress(BlockingIOError), journal.guest(guest_uuid).lock():
        changes = journal.guest(guest_uuid).read().changes
        if (left := left_held(changes)) is None:
            return
        field = names.left_held_field(journal.capture_id, guest_uuid)
        kind = hold_kind(changes)
        is_done = (journal.capture_id, guest_uuid) in host.let_go
        if is_done or _is_over(host, journal, left, kind) or _is_told_let_go(host, field):
            journal.record(LetGoChange(guest_uuid=guest_uuid))
            host.redis.hdel(names.LEFT_HELD_KEY, field)  # if Redis refuses, the next look does it (`_is_settled`)
            return
        told = LeftHeld(
            capture_id=journal.capture_id, guest_uuid=guest_uuid, host_id=host.host_id, hold=kind, at=left.at
        )
        host.redis.hsetnx(names.LEFT_HELD_KEY, field, told.model_dump_json())


def _is_over(host: Host, journal: CaptureJournal, left: LeftChange, kind: HoldKind) -> bool:
    """Let the guest go if it is here; return True if it runs, has ended, or is looked for no longer."""
    try:
        domain = host.hypervisor.domain(left.guest_uuid)
        presence = domain.presence()
    except GuestGoneError:
        presence = Presence.ELSEWHERE
    else:
        if presence is Presence.HERE:
            return _let_go(host, domain, kind, journal.capture_id, is_own=True)
        if presence is Presence.ENDED:
            return True
        if domain.is_saved():
            return False
    return datetime.now(UTC) - left.at > LOOKED_FOR


def _is_told_let_go(host: Host, field: str) -> bool:
    told = _read(cast("str | None", host.redis.hget(names.LEFT_HELD_KEY, field)))
    return told is not None and told.let_go_by is not None


def _is_settled(host: Host, told: LeftHeld) -> bool:
    """Return True for a note of this host's own about a guest that it calls let go: its undo has found it here again."""
    if told.host_id != host.host_id:
        return False
    record = host.journal.of(told.capture_id).guest(told.guest_uuid).read()
    return not record.trouble and left_held(record.changes) is None


def _others(host: Host, told: LeftHeld) -> None:
    """Let go of a guest that left another host held, if it is here. Raises FreezeframeError, redis errors."""
    if (told.capture_id, told.guest_uuid) not in host.let_go:  # or only Redis has not taken that
        try:
            domain = host.hypervisor.domain(told.guest_uuid)
            if domain.presence() is not Presence.HERE or not _let_go(
                host, domain, told.hold, told.capture_id, is_own=False
            ):
                return
        except GuestGoneError:
            return
        log.warning("let go of a guest that came here held", guest=told.guest_uuid, capture=told.capture_id)
    done = told.model_copy(update={"let_go_by": host.host_id})
    field = names.left_held_field(told.capture_id, told.guest_uuid)
    host.redis.hset(names.LEFT_HELD_KEY, field, done.model_dump_json())


def _let_go(host: Host, domain: Domain, kind: HoldKind, capture_id: str, *, is_own: bool) -> bool:
    """Let a guest go that is here, if it is held; return False for one that is not here yet, or in hand of another capture.

    Who has it in hand is asked again before each call that changes it: the call before may have hung, and its look be over.
    That it was let go is remembered: who holds it later is not the capture, whether or not that could be written down.
    Raises FreezeframeError unless it has confirmed that it runs.
    """

    def in_hand() -> bool:
        return host.claims.holder(domain.uuid) not in ({None, capture_id} if is_own else {None})

    if in_hand() or domain.job() == ARRIVING:
        return False
    timeout_s = host.settings.agent_timeout_s
    if kind.pauses and domain.state() == "paused":
        if in_hand():
            return False
        domain.resume()
    if kind.freezes and agent.freeze_status(domain, timeout_s) == "frozen":
        if in_hand():
            return False
        with contextlib.suppress(FreezeExpiredError):
            agent.thaw(domain, timeout_s)
    hold.verify_let_go(domain, kind, timeout_s)
    host.let_go.add((capture_id, domain.uuid))
    return True


def _read(text: str | None) -> LeftHeld | None:
    """Return a note; None for one of a newer version, which is left to hosts that know it."""
    try:
        return None if text is None else LeftHeld.model_validate_json(text)
    except ValidationError:
        log.warning("a note of a guest that has moved is not understood")
        return None
