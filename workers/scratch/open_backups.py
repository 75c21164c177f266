"""The backups that are open on this host, as the journals tell: so a new control worker finds those of the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import redis
import structlog

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import HoldResult
from freezeframe.contract.words import Step
from workers.host import Host
from workers.journal import (
    AnyChange,
    BackupChange,
    CaptureJournal,
    ClaimChange,
    FreedChange,
    GivenUpChange,
    ReservationChange,
    ScratchChange,
)
from workers.runs import RunUnreadableError, goes_on_without

log = structlog.get_logger("scratch")


@dataclass(frozen=True)
class OpenBackup:
    """A guest's backup that was begun, or is about to be, and has not been ended."""

    capture_id: str
    guest_uuid: str
    guest: str
    socket: Path
    scratch: tuple[Path, ...]
    targets: tuple[str, ...]


def open_backups(host: Host) -> list[OpenBackup]:
    """Return all open backups of the host. A line that is not understood keeps no guest unwatched: recovery reports it."""
    found = []
    for journal in host.journal.unended():
        try:
            guests = journal.guests()
        except OSError as error:
            log.warning("cannot watch", capture=journal.capture_id, why=str(error))
            continue
        for uuid in guests:
            backups = _of_changes(journal.capture_id, journal.guest(uuid).read().changes)
            found += [one for one in backups if host.claims.may_be_held(uuid, journal.capture_id)]
    return found


def _of_changes(capture_id: str, changes: Sequence[AnyChange]) -> list[OpenBackup]:
    reserved: dict[str, ReservationChange] = {}
    scratch: dict[str, list[Path]] = {}
    sockets: dict[str, Path] = {}
    for change in changes:
        uuid = change.guest_uuid
        match change:
            case ClaimChange() | FreedChange():
                for known in (reserved, scratch, sockets):
                    known.pop(uuid, None)
            case ReservationChange():
                reserved[uuid] = change
            case ScratchChange():
                scratch.setdefault(uuid, []).append(change.path)
            case BackupChange():
                sockets[uuid] = change.socket
            case _:
                pass
    return [
        OpenBackup(capture_id, uuid, reserved[uuid].guest, socket, tuple(scratch.get(uuid, ())), reserved[uuid].targets)
        for uuid, socket in sockets.items()
        if uuid in reserved
    ]


def given_up(journal: CaptureJournal, guest_uuid: str) -> Fault | None:
    """Return why the guest's backup was ended before its transfers were done; None if it was not."""
    found = [change.fault for change in journal.guest(guest_uuid).read().changes if isinstance(change, GivenUpChange)]
    return found[-1] if found else None


def begun_guests(journal: CaptureJournal) -> frozenset[str] | None:
    """Return the guests whose backups the hold has begun; None while the hold is not over. Raises OSError, ValueError."""
    text = journal.result(Step.HOLD, "")
    if text is None:
        return None
    proof = HoldResult.model_validate_json(text).proof
    return frozenset(guest.guest_uuid for guest in (proof.guests if proof else ()) if guest.begun_ns is not None)


def is_done_with(journal: CaptureJournal, one: OpenBackup, begun: frozenset[str]) -> bool:
    """Return True if nothing will read the guest's export any more: all its transfers are answered, or it never began.

    A transfer reads for the last time before its result is stored, also where it reads again what the repository lacks.
    `begun` is that of the hold, which must be over.
    """
    if one.guest_uuid not in begun:
        return True
    return all(journal.result(Step.TRANSFER, f"{one.guest_uuid}.{target}") is not None for target in one.targets)


def is_dropped(host: Host, one: OpenBackup) -> bool:
    """Return True if the run goes on without this guest.

    False if Redis, or a record that is not understood, does not say: that is no reason to end anything.
    """
    try:
        return goes_on_without(host, one.capture_id, one.guest_uuid)
    except redis.RedisError:
        return False
    except RunUnreadableError as error:
        log.warning("cannot tell whether a backup is done with", capture=one.capture_id, why=error.message)
        return False
