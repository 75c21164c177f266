"""The leases that a guard keeps, in memory and on disk, and the looks that are under way for them.

guest of a new lease            is leased
no look at it is under way      at once
the look cannot undo the hold   at once: a look that thaws is none to a guest that will be paused, nor the other way round
the look could, and the guest   when the look has ended, CALM_LOOK_S at most
was seen running before
the look could, and the guest   not: it is refused, and every other guest of the lease is leased at once
has not been seen running
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from freezeframe.contract.words import HoldKind
from workers.boot import boot_id
from workers.guard.lease import (
    Answer,
    Disarm,
    Inquire,
    Lease,
    LeasedGuest,
    LeaseFiles,
    Refusal,
    RefusedGuest,
    StoredLease,
)
from workers.guard.reading import FoundGuest, FoundLease
from workers.guard.table import LeaseLife, Look, Stage

log = structlog.get_logger("guard")

#: Whether a capture's hold, the first, has let a guest go, the second, with no call pending that could hold it again.
Settled = Callable[[str, str], bool]

#: Seconds that an `arm` waits for the looks at guests that ran when they were last looked at; such a look takes 10 ms.
CALM_LOOK_S = 0.25


@dataclass
class Kept:
    """A lease that is not retired."""

    life: LeaseLife
    guests: dict[str, FoundGuest]
    deadline_s: float
    is_damaged: bool = False  # its file says more, or less, than this version understands
    is_awaited: bool = False  # a thread waits to write its file


@dataclass(frozen=True)
class DueLook:
    """A look that is to begin now."""

    capture_id: str
    kept: Kept
    guest: FoundGuest


def undoes(look: HoldKind, hold: HoldKind) -> bool:
    """Return True if letting go of a guest that `look` names would undo `hold`, or a part of it."""
    return (look.freezes and hold.freezes) or (look.pauses and hold.pauses)


class Ledger:
    """The leases of one guard. Its methods may be called from any thread."""

    def __init__(self, files: LeaseFiles, settled: Settled, clock: Callable[[], float]) -> None:
        self.changed: Final = threading.Condition(threading.Lock())
        self.kept: dict[str, Kept] = {}
        self.unread: dict[str, str] = {}  # leases on disk that name no guest: capture, why
        self.looking: dict[tuple[str, str], HoldKind] = {}  # capture and guest of each look under way: its lease's hold
        self.clock = clock
        self._files = files
        self._settled = settled
        self._boot_id = boot_id()
        self._writing = threading.Lock()  # around all that changes a lease's file, before the other lock

    def arm(self, lease: Lease, number: int) -> Answer:
        """Put the lease on stable storage, and only then say so; `number` is the holder's connection."""
        found = _found(lease.guests)
        deadline_s = self.clock() + lease.seconds
        with self.changed:
            if lease.capture_id in self.kept:
                return Answer(ok=False, reason=Refusal.TWICE, why="there is a lease of this capture already")
            kept = Kept(LeaseLife(found, deadline_s, number), found, deadline_s)
            self.kept[lease.capture_id] = kept  # from now on no look that would undo its hold begins at its guests
            self.changed.wait_for(lambda: not self._calm_looks(found), CALM_LOOK_S)
            refused = self._refused(found, self._under_way(found))
            kept.life.disarm([one.guest_uuid for one in refused])
            for one in refused:
                del found[one.guest_uuid]
            if not found:
                del self.kept[lease.capture_id]
                return Answer(ok=False, reason=Refusal.GUESTS, refused=refused)
        try:
            self._files.add(self._stored(lease.capture_id, kept))
        except OSError as error:
            with self.changed:
                del self.kept[lease.capture_id]
                self.changed.notify_all()
            return Answer(ok=False, reason=Refusal.DISK, why=f"the lease cannot be stored: {error.strerror or error}")
        with self.changed:
            self.changed.notify_all()
        return Answer(ok=True, refused=refused)

    def inquire(self, call: Inquire) -> Answer:
        """Wait, for as long as the call says, until no guest of it is still to be let go in a way that would undo its hold."""
        found = _found(call.guests)
        with self.changed:
            self.changed.wait_for(lambda: not self._in_trouble(found), call.seconds)
            return Answer(ok=True, refused=self._refused(found, self._in_trouble(found)))

    def _under_way(self, guests: Mapping[str, FoundGuest]) -> dict[str, str]:
        """Return the guests whose hold a look under way could undo, and the capture that it is for. With the lock."""
        return {
            name: capture_id
            for (capture_id, name), hold in self.looking.items()
            if name in guests and undoes(hold, guests[name].hold)
        }

    def _calm_looks(self, guests: Mapping[str, FoundGuest]) -> bool:
        """Return True while a look is under way that is about to end. With the lock."""
        found = self._under_way(guests)
        return any(
            (kept := self.kept.get(capture_id)) is None or kept.life.ran(name) for name, capture_id in found.items()
        )

    def _in_trouble(self, guests: Mapping[str, FoundGuest]) -> dict[str, str]:
        """Return the guests, not seen running, of earlier leases that are let go, each with its capture. With the lock."""
        return {
            name: capture_id
            for capture_id, kept in self.kept.items()
            if kept.life.stage is Stage.LETTING_GO
            for name in kept.life.guests
            if name in guests and undoes(kept.guests[name].hold, guests[name].hold) and not kept.life.ran(name)
        }

    @staticmethod
    def _refused(guests: Mapping[str, FoundGuest], captures: Mapping[str, str]) -> tuple[RefusedGuest, ...]:
        return tuple(
            RefusedGuest(guest_uuid=name, capture_id=capture_id)
            for name, capture_id in captures.items()
            if name in guests
        )

    def disarm(self, call: Disarm) -> Answer:
        with self.changed:
            kept = self.kept.get(call.capture_id)
            stood = kept is not None and kept.life.disarm(call.guests)
        if kept is not None:
            self.settle(call.capture_id, kept)
        if stood:
            return Answer(ok=True)
        return Answer(ok=False, reason=Refusal.DISARMED, why="the lease was not armed any more")

    def hang_up(self, number: int) -> None:
        """Let go of the guests that a connection has left armed."""
        with self.changed:
            for capture_id, kept in self.kept.items():
                if kept.life.hang_up(number, self.clock()):
                    log.warning("worker hung up with guests held", capture=capture_id)
            self.changed.notify_all()

    def settle(self, capture_id: str, kept: Kept) -> None:
        """Have on disk what is left of a lease: the file goes with the last guest.

        A file that cannot be changed names too many guests, never too few. One that is damaged, or of another version, stays
        as it is. Where the disk hangs one thread a lease waits for it: what it will write is what is left then.
        """
        with self.changed:
            if kept.is_awaited:
                return
            kept.is_awaited = True
        with self._writing:
            with self.changed:
                kept.is_awaited = False
                left = {name: kept.guests[name] for name in kept.life.guests}
                fewer, kept.guests = len(left) < len(kept.guests), left
            try:
                if not left:
                    self._files.remove(capture_id)
                elif fewer and not kept.is_damaged:
                    self._files.add(self._stored(capture_id, kept))
            except OSError as error:
                log.error("the lease on disk cannot be changed", capture=capture_id, why=str(error))  # noqa: TRY400
        with self.changed:
            if not left and self.kept.get(capture_id) is kept:
                del self.kept[capture_id]
            self.changed.notify_all()

    def _stored(self, capture_id: str, kept: Kept) -> StoredLease:
        guests = tuple(
            LeasedGuest(
                guest_uuid=one.guest_uuid,
                hold=one.hold,
                agent_socket=one.agent_socket,
                monitor_socket=one.monitor_socket,
            )
            for one in kept.guests.values()
        )
        return StoredLease(guests=guests, capture_id=capture_id, deadline_s=kept.deadline_s, boot_id=self._boot_id)

    def find(self) -> None:
        """Take up the leases on disk that this guard does not know. Raises OSError."""
        for found in self._files.all(self.clock()):
            with self.changed:
                known = found.capture_id in self.kept
            if not known:
                self._take_up(found)

    def _take_up(self, found: FoundLease) -> None:
        if found.damage and self.unread.get(found.capture_id) != found.damage:
            log.error("lease is not as this version writes it", capture=found.capture_id, why=found.damage)
        if not found.guests:
            self.unread[found.capture_id] = found.damage or ""
            return
        self.unread.pop(found.capture_id, None)
        log.warning("lease found", capture=found.capture_id, guests=len(found.guests))
        now = self.clock()
        same_boot = found.boot_id in {None, self._boot_id}
        deadline_s = found.deadline_s if found.deadline_s is not None and same_boot else now
        guests = {guest.guest_uuid: guest for guest in found.guests}
        life = LeaseLife.found(guests, deadline_s, now, same_boot=same_boot)
        life.disarm(self._let_go_unheard(found))
        kept = Kept(life, guests, deadline_s, is_damaged=bool(found.damage))
        with self.changed:
            self.kept[found.capture_id] = kept
        self.settle(found.capture_id, kept)

    def _let_go_unheard(self, found: FoundLease) -> list[str]:
        """Return the guests of a lease that their holder has let go while no guard was there to be told.

        Somebody else may hold them now, and rightly.
        """
        if found.damage:
            return []  # what is damaged is not relied upon
        return [one.guest_uuid for one in found.guests if self._settled(found.capture_id, one.guest_uuid)]

    # Looks.

    def due(self, now: float) -> list[DueLook]:
        """Return the looks that begin now, each of which `looked` must end. With the lock.

        A look that would undo the hold of a lease that is armed is put off: its holder holds the guest rightly.
        """
        armed = [(capture_id, kept) for capture_id, kept in self.kept.items() if kept.life.stage is Stage.ARMED]
        for capture_id, kept in armed:
            if kept.life.time(now):
                log.warning("deadline passed with guests held", capture=capture_id)
        holds = [kept for _, kept in armed if kept.life.stage is Stage.ARMED]
        found = []
        for capture_id, kept in self.kept.items():
            for name in kept.life.due(now):
                guest = kept.guests[name]
                if any(name in one.life.guests and undoes(guest.hold, one.guests[name].hold) for one in holds):
                    kept.life.put_off(name, now)
                else:
                    kept.life.begin_look(name)
                    self.looking[capture_id, name] = guest.hold
                    found.append(DueLook(capture_id, kept, guest))
        return found

    def lets_go(self) -> bool:
        """Return True if guests are to be let go, or looked at until their leases are retired. With the lock."""
        return any(kept.life.stage is Stage.LETTING_GO for kept in self.kept.values())

    def next_time(self) -> float | None:
        """Return when `due` will next have something to say; None if only another event can tell. With the lock."""
        times = [kept.life.next_time() for kept in self.kept.values()]
        return min((time_s for time_s in times if time_s is not None), default=None)

    def looked(self, due: DueLook, answer: Look, asked: float) -> None:
        """End a look that began at `asked` with this answer."""
        kept, name = due.kept, due.guest.guest_uuid
        with self.changed:
            self.looking.pop((due.capture_id, name), None)
            ran = kept.life.all_run
            kept.life.look(name, answer, asked, self.clock())
            if kept.life.all_run and not ran:
                log.warning("let go", capture=due.capture_id)
            changed = len(kept.life.guests) < len(kept.guests)
            self.changed.notify_all()
        if changed:
            self.settle(due.capture_id, kept)


def _found(guests: tuple[LeasedGuest, ...]) -> dict[str, FoundGuest]:
    return {
        one.guest_uuid: FoundGuest(one.guest_uuid, one.hold, one.agent_socket, one.monitor_socket) for one in guests
    }
